"""Severity, Finding and Report: what an audit says. Counts and the exit status are computed here and nowhere else."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Literal, Self

import msgspec

SCHEMA: Literal["containerd-auditor/report/v1"] = "containerd-auditor/report/v1"


class Severity(enum.StrEnum):
    """critical: will not run or unpack; error: runs, cannot be moved; warning: latent; info: normal."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for the worst, 3 for info."""
        return _RANKS[self]


_RANKS = {severity: rank for rank, severity in enumerate(Severity)}


class FailOn(enum.StrEnum):
    """From which severity on findings make the exit status 1."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    NEVER = "never"


class Verify(enum.StrEnum):
    """How hard an audit looks; each includes the one before."""

    PRESENCE = "presence"
    DIGESTS = "digests"
    LAYERS = "layers"

    @property
    def depth(self) -> int:
        """0 for presence, 2 for layers."""
        return list(Verify).index(self)


class Status(enum.StrEnum):
    """The verdict on an image or one platform of it; `unknown` is neither sound nor damaged."""

    SOUND = "sound"
    DAMAGED = "damaged"
    UNKNOWN = "unknown"

    @classmethod
    def worst(cls, states: Iterable[Status]) -> Self:
        """The one that rules: damaged, then unknown, then sound."""
        found = set(states)
        return cls(next((s for s in (cls.DAMAGED, cls.UNKNOWN) if s in found), cls.SOUND))


class Subject(msgspec.Struct, frozen=True, order=True, omit_defaults=True, kw_only=True):
    """What a finding is about: a digest, or a name where there is none (a lease, an ingest, a snapshot)."""

    kind: str
    digest: str = ""
    name: str = ""

    @property
    def id(self) -> str:
        """The digest or the name, whichever it has."""
        return self.digest or self.name


class ImageRef(msgspec.Struct, frozen=True, order=True, kw_only=True):
    """An image that a finding hurts, and as what it uses the subject; `layer` counts from 0."""

    namespace: str
    #: The name that people use: the tag, where there is one.
    name: str
    #: All names of the same target in the namespace; CRI writes three.
    names: tuple[str, ...] = ()
    target: str = ""
    platform: str = ""
    #: The manifest's digest, where the subject is used by one.
    manifest: str = ""
    role: str = ""
    layer: int | None = None


Fact = str | int | bool | None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One fault and its cause; see `auditor rules CODE` for what the code means."""

    code: str
    severity: Severity
    namespace: str
    subject: Subject
    message: str
    cause: str | None = None
    images: tuple[ImageRef, ...] = ()
    facts: dict[str, Fact] = {}
    hint: str = ""

    @property
    def key(self) -> tuple[str, str, Subject]:
        """What makes it the same finding in two reports or two looks."""
        return (self.code, self.namespace, self.subject)


def order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first, then by code, namespace, first image, its layer, and subject: one order for each set."""
    return tuple(sorted(findings, key=_order))


def _order(finding: Finding) -> tuple[int, str, str, str, int, Subject]:
    first = finding.images[0] if finding.images else None
    name, layer = (first.name, first.layer) if first is not None else ("", None)
    return finding.severity.rank, finding.code, finding.namespace, name, -1 if layer is None else layer, finding.subject


class Tool(msgspec.Struct, frozen=True):
    """Who wrote the report."""

    name: str
    version: str


class Source(msgspec.Struct, frozen=True):
    """What was audited."""

    kind: Literal["containerd", "archive", "offline"]
    address: str
    version: str = ""


class ImageCounts(msgspec.Struct, frozen=True):
    """Images by verdict; `total` also counts those of unknown state."""

    total: int = 0
    sound: int = 0
    damaged: int = 0


class BlobCounts(msgspec.Struct, frozen=True):
    """Blobs by state, each digest once however many namespaces name it.

    `total` = `present` + `absent`; `absent` counts the digests that images name and no record holds, by design or by
    fault; `verified`, `corrupt` and `unreadable` are of the present ones, in this run.
    """

    total: int = 0
    present: int = 0
    absent: int = 0
    verified: int = 0
    corrupt: int = 0
    unreadable: int = 0


class ByteCounts(msgspec.Struct, frozen=True):
    """Bytes recorded as present, and bytes read by this run."""

    present: int = 0
    read: int = 0


class SnapshotCounts(msgspec.Struct, frozen=True):
    """Snapshots of all snapshotters looked at."""

    total: int = 0


class FindingCounts(msgspec.Struct, frozen=True):
    """Findings by severity."""

    critical: int = 0
    error: int = 0
    warning: int = 0
    info: int = 0


class Summary(msgspec.Struct, frozen=True):
    """The counts of a report."""

    images: ImageCounts = ImageCounts()
    blobs: BlobCounts = BlobCounts()
    bytes: ByteCounts = ByteCounts()
    snapshots: SnapshotCounts = SnapshotCounts()
    findings: FindingCounts = FindingCounts()


class PlatformState(msgspec.Struct, frozen=True, order=True):
    """One platform of an image: its manifest, its verdict, and on which snapshotters it is unpacked."""

    platform: str
    manifest: str
    status: Status
    unpacked: dict[str, bool] = {}


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A descriptor in an image's tree: what it is, its digest, its size in bytes as described, and its state.

    `state` is a word or two: verified, present (not read to its end), corrupt, missing, discarded, not pulled ...
    """

    kind: str
    digest: str
    size: int
    state: str = "present"
    platform: str = ""
    children: tuple[Node, ...] = ()


class ImageState(msgspec.Struct, frozen=True):
    """The verdict on one image: a target in a namespace, with all its names."""

    namespace: str
    names: tuple[str, ...]
    target: str
    status: Status
    platforms: tuple[PlatformState, ...] = ()
    #: What the image is made of, in the order of its documents; None in reports that were made without.
    tree: Node | None = None


class Coverage(msgspec.Struct, frozen=True):
    """How much of the store's bytes a scrub and those before it have proven; `oldest_proof_at` is RFC 3339."""

    blobs: int
    bytes: int
    proven_blobs: int
    proven_bytes: int
    known_bad: int
    oldest_proof_at: datetime | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The report of DESIGN.md, version 1; times are RFC 3339 in UTC, durations seconds, sizes bytes."""

    schema: Literal["containerd-auditor/report/v1"] = SCHEMA
    tool: Tool
    host: str
    source: Source
    started_at: datetime
    finished_at: datetime
    duration_seconds: Annotated[float, msgspec.Meta(ge=0)]
    verify: Verify
    complete: bool
    incomplete: tuple[str, ...] = ()
    summary: Summary
    findings: tuple[Finding, ...]
    images: tuple[ImageState, ...]
    #: Only in the report of a scrub.
    coverage: Coverage | None = None


def count(findings: Sequence[Finding]) -> FindingCounts:
    """Count findings by severity."""
    by = dict.fromkeys(Severity, 0)
    for finding in findings:
        by[finding.severity] += 1
    return FindingCounts(**{str(severity): n for severity, n in by.items()})


def exit_status(report: Report, fail_on: FailOn) -> int:
    """0 sound, 1 findings at or over `fail_on`, 3 not all could be audited; DESIGN.md, "The command line"."""
    if fail_on is not FailOn.NEVER:
        limit = Severity(fail_on).rank
        if any(finding.severity.rank <= limit for finding in report.findings):
            return 1
    return 0 if report.complete else 3
