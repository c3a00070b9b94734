"""Join the reports of several nodes: nodes, images, findings by digest, and nodes with a good copy. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from auditor.model.findings import (
    UNUSABLE,
    Finding,
    FindingCounts,
    ImageCounts,
    Node,
    Report,
    Severity,
    Source,
    Status,
    Subject,
    Verify,
)

SCHEMA: Literal["containerd-auditor/fleet/v1"] = "containerd-auditor/fleet/v1"


class FleetNode(msgspec.Struct, frozen=True, kw_only=True):
    """A report in one row; `name` is the host, made unique where two reports share it."""

    name: str
    source: Source
    finished_at: datetime
    verify: Verify
    complete: bool
    status: Status
    images: ImageCounts
    findings: FindingCounts


class FleetImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image, and the nodes by its status there."""

    name: str
    target: str
    sound: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


class FleetFinding(msgspec.Struct, frozen=True, kw_only=True):
    """Findings with the same code and subject on any node.

    `proven_on` are nodes where the digest was verified, `held_on` those that have it and did not read it.
    """

    code: str
    severity: Severity
    subject: Subject
    message: str
    nodes: tuple[str, ...]
    images: tuple[str, ...] = ()
    proven_on: tuple[str, ...] = ()
    held_on: tuple[str, ...] = ()


class UnreadFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that should hold a report and could not be read."""

    file: str
    reason: str


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """All nodes; findings of severity info are left out. With an unread file, it is not complete."""

    schema: Literal["containerd-auditor/fleet/v1"] = SCHEMA
    complete: bool
    nodes: tuple[FleetNode, ...]
    findings: tuple[FleetFinding, ...]
    images: tuple[FleetImage, ...]
    unread: tuple[UnreadFile, ...] = ()


def join(reports: Sequence[Report], unread: Sequence[UnreadFile] = ()) -> Fleet:
    """Join reports; their order does not matter."""
    distinct = named(reports)
    return Fleet(
        complete=not unread and all(report.complete for report in reports),
        nodes=tuple(_node(name, report) for name, report in distinct),
        findings=_findings(distinct),
        images=_images(distinct),
        unread=tuple(unread),
    )


def named(reports: Sequence[Report]) -> tuple[tuple[str, Report], ...]:
    """Return each report with a unique name, sorted by host, address and time."""
    ordered = sorted(reports, key=lambda r: (r.host, r.source.address, r.finished_at))
    return tuple(zip(_names(ordered), ordered, strict=True))


_Named = Sequence[tuple[str, Report]]


def _names(reports: Sequence[Report]) -> Iterator[str]:
    """Yield the host, with the address where reports share it; of an archive its path; equal ones get a number."""
    hosts = Counter(report.host for report in reports)
    seen: Counter[str] = Counter()
    for report in reports:
        name = report.host if hosts[report.host] == 1 else f"{report.host} {report.source.address}"
        name = report.source.address if report.source.kind == "archive" else name
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name} #{seen[name]}"


def _node(name: str, report: Report) -> FleetNode:
    return FleetNode(
        name=name,
        source=report.source,
        finished_at=report.finished_at,
        verify=report.verify,
        complete=report.complete,
        status=status(report),
        images=report.summary.images,
        findings=report.summary.findings,
    )


def status(report: Report) -> Status:
    """Return damaged with any finding of error or critical, unknown for an incomplete report, else sound."""
    if any(finding.severity.rank <= Severity.ERROR.rank for finding in report.findings):
        return Status.DAMAGED
    return Status.SOUND if report.complete else Status.UNKNOWN


def _images(named: _Named) -> tuple[FleetImage, ...]:
    names: dict[str, str] = {}
    states: dict[str, dict[str, list[Status]]] = {}
    for node, report in named:
        for image in report.images:
            names.setdefault(image.target, image.names[0] if image.names else image.target)
            states.setdefault(image.target, {}).setdefault(node, []).append(image.status)
    found = (_image(target, name, states[target]) for target, name in names.items())
    return tuple(sorted(found, key=lambda image: (not image.damaged, not image.unknown, image.name, image.target)))


def _image(target: str, name: str, states: Mapping[str, Iterable[Status]]) -> FleetImage:
    worst = {node: Status.worst(found) for node, found in states.items()}
    by = {status: tuple(node for node, found in worst.items() if found is status) for status in Status}
    return FleetImage(
        name=name, target=target, sound=by[Status.SOUND], damaged=by[Status.DAMAGED], unknown=by[Status.UNKNOWN]
    )


def _findings(named: _Named) -> tuple[FleetFinding, ...]:
    by: dict[tuple[str, Subject], list[tuple[str, Finding]]] = {}
    for node, report in named:
        for finding in report.findings:
            if finding.severity is not Severity.INFO:
                by.setdefault((finding.code, finding.subject), []).append((node, finding))
    # A good copy helps against bad or absent content (error and critical), not against missing labels.
    wanted = {s.digest for (_, s), same in by.items() if any(f.severity.rank <= Severity.ERROR.rank for _, f in same)}
    held = {node: _held(report, wanted) for node, report in named}
    found = (_finding(subject, same, held) for (_, subject), same in by.items())
    return tuple(sorted(found, key=lambda f: (f.severity.rank, f.code, -len(f.nodes), f.subject)))


def _finding(
    subject: Subject, same: Sequence[tuple[str, Finding]], held: Mapping[str, Mapping[str, str]]
) -> FleetFinding:
    first = min((finding for _, finding in same), key=lambda f: f.severity.rank)
    damaged = bool(subject.digest) and first.severity.rank <= Severity.ERROR.rank
    copies = {node: states.get(subject.digest, "") for node, states in held.items()} if damaged else {}
    return FleetFinding(
        code=first.code,
        severity=first.severity,
        subject=subject,
        message=first.message,
        nodes=tuple(dict.fromkeys(node for node, _ in same)),
        images=tuple(sorted({image.name for _, finding in same for image in finding.images})),
        proven_on=tuple(node for node, state in copies.items() if state == "verified"),
        held_on=tuple(node for node, state in copies.items() if state == "present"),
    )


def _held(report: Report, wanted: set[str]) -> dict[str, str]:
    """Return the best state of each digest in a node's trees; a fault of its file overrides other states."""
    states: dict[str, set[str]] = {}
    for image in report.images:
        for node in walk(image.tree):
            if node.digest in wanted:
                states.setdefault(node.digest, set()).add(node.state)
    return {digest: _best(found) for digest, found in states.items()}


def _best(states: set[str]) -> str:
    if states & UNUSABLE:
        return "bad"
    return next((state for state in ("verified", "present") if state in states), "absent")


def walk(node: Node | None) -> list[Node]:
    """Return a tree's nodes, each before its children."""
    found: list[Node] = []
    waiting = [node] if node is not None else []
    while waiting:
        current = waiting.pop()
        found.append(current)
        if current.children:
            waiting.extend(reversed(current.children))
    return found
