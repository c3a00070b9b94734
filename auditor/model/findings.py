"""Severity, Finding and Report: the result of an audit. Counts and the exit status are computed only here."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, UnsetType

from auditor.model.readiness import CanServe, CanUnpack

SCHEMA: Literal["containerd-auditor/report/v1"] = "containerd-auditor/report/v1"


#: A number of a report: 64 bits, so that no format overflows.
Number = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Severity(enum.StrEnum):
    """critical: does not run or unpack; error: runs, cannot be exported or pushed; warning: latent; info: no fault."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def rank(self) -> int:
        """0 for critical, 3 for info."""
        return _RANKS[self]


_RANKS = {severity: rank for rank, severity in enumerate(Severity)}


class FailOn(enum.StrEnum):
    """The lowest severity that makes the exit status 1."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    NEVER = "never"


class Verify(enum.StrEnum):
    """Verification level.

    Each includes the one before, except that `since-crash` judges unpacked files only, and that `digests` does not
    count snapshots' usage.
    """

    SINCE_CRASH = "since-crash"
    PRESENCE = "presence"
    SNAPSHOTS_QUICK = "snapshots-quick"
    DIGESTS = "digests"
    LAYERS = "layers"
    SNAPSHOTS = "snapshots"

    @property
    def depth(self) -> int:
        """0 for since-crash, 5 for snapshots."""
        return list(Verify).index(self)


class Status(enum.StrEnum):
    """The verdict on an image or one of its platforms; `unknown`: it could not be read completely."""

    SOUND = "sound"
    DAMAGED = "damaged"
    UNKNOWN = "unknown"

    @classmethod
    def worst(cls, states: Iterable[Status]) -> Status:
        """Return the most severe: damaged, then unknown, then sound."""
        found = set(states)
        return cls.DAMAGED if cls.DAMAGED in found else cls.UNKNOWN if cls.UNKNOWN in found else cls.SOUND


class Subject(msgspec.Struct, frozen=True, order=True, omit_defaults=True, kw_only=True):
    """The object of a finding: a digest, or a name where there is no digest (a lease, an ingest, a snapshot)."""

    kind: str
    digest: str = ""
    name: str = ""

    @property
    def id(self) -> str:
        """The digest, else the name."""
        return self.digest or self.name


class ImageRef(msgspec.Struct, frozen=True, order=True, kw_only=True):
    """An image that a finding affects, and the subject's role in it; `layer` counts from 0, `layer_number` from 1."""

    namespace: str
    #: The best name: the tag, where there is one.
    name: str
    #: All names of the same target in the namespace; CRI writes three.
    names: tuple[str, ...] = ()
    target: str = ""
    platform: str = ""
    #: The digest of the manifest that references the subject; empty where none does.
    manifest: str = ""
    role: str = ""
    layer: Number | None = None
    #: As texts and image trees count layers.
    layer_number: Number | None = None


Fact = str | Number | bool | None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A fault and its cause; `auditor rules CODE` explains the code."""

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
        """The identity of a finding in two reports or two looks: code, namespace and subject."""
        return (self.code, self.namespace, self.subject)


def order(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Sort by severity, code, namespace, first image, its layer, and subject."""
    return tuple(sorted(findings, key=_order))


def _order(finding: Finding) -> tuple[int, str, str, str, int, Subject]:
    first = finding.images[0] if finding.images else None
    name, layer = (first.name, first.layer) if first is not None else ("", None)
    return finding.severity.rank, finding.code, finding.namespace, name, -1 if layer is None else layer, finding.subject


class Tool(msgspec.Struct, frozen=True):
    """The program that wrote the report."""

    name: str
    version: str


class Source(msgspec.Struct, frozen=True):
    """The store that was audited."""

    kind: Literal["containerd", "archive", "offline"]
    address: str
    version: str = ""


class ImageCounts(msgspec.Struct, frozen=True):
    """Images by verdict; `total` includes those of unknown state."""

    total: Number = 0
    sound: Number = 0
    damaged: Number = 0


class BlobCounts(msgspec.Struct, frozen=True):
    """Blobs by state; a digest counts once for all namespaces.

    `total` = `present` + `absent`. `absent` counts digests that images reference and no record holds, by design or by
    fault, and records without a file. `verified`, `corrupt` and `unreadable` count present blobs, in this run.
    """

    total: Number = 0
    present: Number = 0
    absent: Number = 0
    verified: Number = 0
    corrupt: Number = 0
    unreadable: Number = 0


class ByteCounts(msgspec.Struct, frozen=True):
    """Bytes of present blobs, and bytes read by this run."""

    present: Number = 0
    read: Number = 0


class SnapshotCounts(msgspec.Struct, frozen=True):
    """Snapshots of all audited snapshotters.

    `compared` counts those whose files were compared with their layer by this run or a scrub before it; `damaged` those
    with missing, empty or damaged files, or lost whiteouts.
    """

    total: Number = 0
    compared: Number = 0
    damaged: Number = 0


class FindingCounts(msgspec.Struct, frozen=True):
    """Findings by severity."""

    critical: Number = 0
    error: Number = 0
    warning: Number = 0
    info: Number = 0


class Summary(msgspec.Struct, frozen=True):
    """The counts of a report."""

    images: ImageCounts = ImageCounts()
    blobs: BlobCounts = BlobCounts()
    bytes: ByteCounts = ByteCounts()
    snapshots: SnapshotCounts = SnapshotCounts()
    findings: FindingCounts = FindingCounts()


class PlatformState(msgspec.Struct, frozen=True, order=True):
    """A platform of an image: its manifest, its verdict, and the snapshotters on which it is unpacked."""

    platform: str
    manifest: str
    status: Status
    unpacked: dict[str, bool] = {}


#: States of a tree's node whose blob is here and cannot be used.
UNUSABLE = frozenset({"corrupt", "no file", "wrong size", "unreadable", "malformed", "undecodable"})


class Node(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A descriptor in an image's tree: its kind, digest, size in bytes as described, and state.

    `state` is one of a few short texts: verified, present (not read to its end), corrupt, missing, discarded, ...
    `snapshot` is the state of a layer's unpacked files, where they were looked at: intact, damaged, ...
    """

    kind: str
    digest: str
    size: Number
    state: str = "present"
    platform: str = ""
    snapshot: str = ""
    children: tuple[Node, ...] = ()


class ImageState(msgspec.Struct, frozen=True):
    """The verdict on one image: a target in a namespace, with all its names."""

    namespace: str
    names: tuple[str, ...]
    target: str
    status: Status
    platforms: tuple[PlatformState, ...] = ()
    #: The image's tree, in the order of its documents; None in reports without trees.
    tree: Node | None = None


class Coverage(msgspec.Struct, frozen=True):
    """How much of the store a scrub and earlier ones have verified; times are RFC 3339.

    With `scrub --snapshots`, `snapshots` counts those whose files can be compared, `compared_snapshots` those without a
    difference at the last comparison; `oldest_comparison_at` is the oldest of these.
    """

    blobs: Number
    bytes: Number
    proven_blobs: Number
    proven_bytes: Number
    known_bad: Number
    oldest_proof_at: datetime | None = None
    snapshots: Number | UnsetType = UNSET
    compared_snapshots: Number | UnsetType = UNSET
    oldest_comparison_at: datetime | UnsetType = UNSET


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A report, schema version 1; times are RFC 3339 in UTC, durations in seconds, sizes in bytes."""

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
    #: Facts of the host, for questions over many nodes: kernel, file system and disk of the content root. Optional.
    facts: dict[str, Fact] = {}
    #: Only with `check --can-serve` and `check --can-unpack`.
    can_serve: CanServe | UnsetType = UNSET
    can_unpack: CanUnpack | UnsetType = UNSET


def count(findings: Sequence[Finding]) -> FindingCounts:
    """Count findings by severity."""
    by = dict.fromkeys(Severity, 0)
    for finding in findings:
        by[finding.severity] += 1
    return FindingCounts(**{str(severity): n for severity, n in by.items()})


#: The codes of findings about a database that was not read in whole.
UNREAD_DATABASE = frozenset({"metadata-damaged", "metadata-lost"})


def exit_status(report: Report, fail_on: FailOn) -> int:
    """Return the exit status of a report.

    Returns:
        3 if a database was read in part, else 1 with a finding of severity `fail_on` or worse, else 3 if something
        could not be examined, else 0.

    """
    if not report.complete and any(finding.code in UNREAD_DATABASE for finding in report.findings):
        return 3
    if fail_on is not FailOn.NEVER:
        limit = Severity(fail_on).rank
        if any(finding.severity.rank <= limit for finding in report.findings):
            return 1
    return 0 if report.complete else 3
