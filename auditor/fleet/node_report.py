"""What a fleet's picture needs of one node's report: counts, faults, facts, and which blobs the node holds."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from functools import lru_cache
from string import hexdigits
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
#: The 16 hexadecimal digits behind the algorithm, 64 bits, that identify a digest here. The names of the algorithms in
#: use (sha256, sha512, blake3) have the same length.
_DIGITS: Final = slice(len("sha256:"), len("sha256:") + 16)
#: Bytes of a key.
_WIDTH: Final = 8
_HEXADECIMAL: Final = frozenset(hexdigits)


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


class Held(NamedTuple):
    """What a node holds, as `keys` in no order; a blob of several images is there several times.

    `verified`: blobs with a copy that was verified; `present`: with one that was not read; `sound`: targets of images
    that are sound there.
    """

    verified: bytes = b""
    present: bytes = b""
    sound: bytes = b""


class NodeReport(msgspec.Struct, frozen=True, kw_only=True):
    """A node's report without its trees.

    `file` is where it was read; `finished_at` is in UTC. `facts` are the report's own and the versions in it. `damaged`
    has target and name of each damaged image.
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
    held: Held


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


def keys(digits: Collection[str]) -> bytes:
    """Return 8 bytes for each text of 16 hexadecimal digits (see `digits_of`); other texts are left out.

    Two digests with the same key would be taken for one; for 10,000,000 different digests the chance is 1 in 370,000.
    """
    try:
        joined = bytes.fromhex("".join(digits))
    except ValueError:
        joined = b""
    if len(joined) == _WIDTH * len(digits):
        return joined
    return bytes.fromhex("".join(each for each in digits if len(each) == 2 * _WIDTH and _HEXADECIMAL.issuperset(each)))


def digits_of(digest: str) -> str:
    """Return the part of a digest that identifies it in `keys`."""
    return digest[_DIGITS]


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


class _Blobs(NamedTuple):
    """The blobs in an image's tree, by state, as `digits_of` gives them."""

    verified: list[str]
    present: list[str]
    bad: list[str]


def _held(report: SlimReport) -> Held:
    found = _Blobs([], [], [])
    for image in report.images:
        for texts, more in zip(found, _blobs(bytes(image.tree)), strict=True):
            texts.extend(more)
    verified, present, bad = found
    if bad:
        verified, present = (list(set(texts).difference(bad)) for texts in (verified, present))
    return Held(
        keys(verified), keys(present), keys([digits_of(i.target) for i in report.images if i.status is Status.SOUND])
    )


@lru_cache(maxsize=4096)
def _blobs(raw: bytes) -> _Blobs:
    """Parse a tree; nodes of a fleet hold the same images, so most trees were parsed before."""
    verified, present, bad = found = _Blobs([], [], [])
    root = _tree.decode(raw)
    nodes = [] if root is None else [root]
    for node in nodes:  # which grows meanwhile
        if node.children:
            nodes += node.children
        state = node.state
        if state == "verified":
            verified.append(node.digest[_DIGITS])
        elif state == "present":
            present.append(node.digest[_DIGITS])
        elif state in UNUSABLE:
            bad.append(node.digest[_DIGITS])
    return found
