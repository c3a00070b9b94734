"""What a fleet's picture needs of one node's report: counts, faults, facts, and which blobs the node holds."""

from __future__ import annotations

from array import array
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from auditor.model.findings import (
    UNUSABLE,
    Finding,
    FindingCounts,
    ImageCounts,
    ImageState,
    Node,
    Report,
    Severity,
    Status,
    count,
)

#: Names of images kept with a finding; the rest is in the node's own report.
_NAMES: Final = 4
#: States of a held blob in the two lowest bits of its key.
PRESENT, VERIFIED, SOUND_IMAGE = 1, 2, 3
_STATES: Final = {"present": PRESENT, "verified": VERIFIED}
#: Characters of a digest that identify it here: 64 bits, of which two give way to the state.
_KEY: Final = 16


class Foreign(Exception):
    """A readable report that says nothing of a node."""


class SlimImage(ImageState, frozen=True):
    """An image whose tree is not parsed yet."""

    tree: msgspec.Raw = msgspec.Raw(b"null")  # type: ignore[assignment]


class SlimReport(Report, frozen=True, kw_only=True):
    """A report as strict as `Report`, but for its trees, which `condense` parses."""

    images: tuple[SlimImage, ...]


_tree: Final = msgspec.json.Decoder(Node | None)


class Fault(msgspec.Struct, frozen=True, array_like=True):
    """A finding of warning or worse."""

    code: str
    severity: Severity
    cause: str
    kind: str
    digest: str
    name: str
    namespace: str
    images: tuple[str, ...]


class NodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """A node's report without its trees.

    `file` is where it was read; `finished_at` is in UTC. `facts` are the report's own and the versions in it. `damaged`
    has target and name of each damaged image. `held` has a key (see `key`) for each blob that the node holds and each
    image that is sound there.
    """

    file: str
    host: str
    address: str
    finished_at: datetime
    verify: str
    complete: bool
    images: ImageCounts
    findings: FindingCounts
    facts: dict[str, str]
    faults: tuple[Fault, ...]
    damaged: tuple[tuple[str, str], ...]
    held: bytes


def condense(report: SlimReport, *, file: str) -> NodeReport:
    """Reduce a report to what the picture of a fleet needs.

    Raises:
        Foreign: It is the report of an archive, or its counts disagree with its findings.
        msgspec.DecodeError: A tree is malformed.

    """
    if report.source.kind == "archive":
        raise Foreign("it is the report of an archive, not of a node")
    counted = count(report.findings)
    if counted != report.summary.findings:
        raise Foreign(f"it lists {_said(counted)} and its summary counts {_said(report.summary.findings)}")
    return NodeReport(
        file=file,
        host=report.host,
        address=report.source.address,
        finished_at=_utc(report.finished_at),
        verify=str(report.verify),
        complete=report.complete,
        images=report.summary.images,
        findings=counted,
        facts=_facts(report),
        faults=tuple(_fault(each) for each in report.findings if each.severity is not Severity.INFO),
        damaged=tuple(
            (each.target, each.names[0] if each.names else each.target)
            for each in report.images
            if each.status is Status.DAMAGED
        ),
        held=_held(report),
    )


def key(digest: str, state: int) -> int:
    """Return 62 bits of a digest with a state; 0 for what is no digest.

    Two digests with the same key would be taken for one; for 10,000,000 different digests the chance is 1 in 90,000.
    """
    try:
        return int(digest.partition(":")[2][:_KEY], 16) & ~3 | state
    except ValueError:
        return 0


def _said(counts: FindingCounts) -> str:
    return f"{counts.critical} critical, {counts.error} error, {counts.warning} warning, {counts.info} info"


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _facts(report: SlimReport) -> dict[str, str]:
    own = {"containerd": report.source.version, "auditor": report.tool.version, "verify": str(report.verify)}
    return {name: value for name, value in own.items() if value} | {
        name: str(value) for name, value in report.facts.items() if value is not None
    }


def _fault(finding: Finding) -> Fault:
    return Fault(
        code=finding.code,
        severity=finding.severity,
        cause=finding.cause or "",
        kind=finding.subject.kind,
        digest=finding.subject.digest,
        name=finding.subject.name,
        namespace=finding.namespace,
        images=tuple(dict.fromkeys(image.name for image in finding.images))[:_NAMES],
    )


class _TreeKeys(NamedTuple):
    """The keys of an image's blobs with a copy, and those of blobs whose copy is bad, without a state."""

    held: AbstractSet[int]
    bad: AbstractSet[int]


def _held(report: SlimReport) -> bytes:
    """Return the keys of blobs with a copy and of sound images, as the bytes of an array of unsigned 64-bit numbers."""
    trees = [_tree_keys(bytes(image.tree)) for image in report.images]
    held = set[int]().union(*(keys.held for keys in trees))
    for bad in set[int]().union(*(keys.bad for keys in trees)):
        held -= {bad | PRESENT, bad | VERIFIED}
    held.update(key(image.target, SOUND_IMAGE) for image in report.images if image.status is Status.SOUND)
    return array("Q", held).tobytes()


@lru_cache(maxsize=4096)
def _tree_keys(raw: bytes) -> _TreeKeys:
    """Parse a tree; nodes of a fleet hold the same images, so most trees were parsed before."""
    held: set[int] = set()
    bad: set[int] = set()
    root = _tree.decode(raw)
    nodes = [] if root is None else [root]
    for node in nodes:  # which grows meanwhile
        if node.children:
            nodes += node.children
        state = _STATES.get(node.state)
        if state is not None:
            held.add(key(node.digest, state))
        elif node.state in UNUSABLE:
            bad.add(key(node.digest, 0))
    return _TreeKeys(held, bad)
