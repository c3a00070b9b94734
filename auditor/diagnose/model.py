"""Records of a diagnosis; their JSON is described in docs/diagnose.md."""

from __future__ import annotations

import enum
from typing import Literal

import msgspec

from auditor.diagnose.messages import Confidence
from auditor.model.findings import ImageRef

SCHEMA: Literal["containerd-auditor/diagnosis/v1"] = "containerd-auditor/diagnosis/v1"


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """A blob in one namespace; `size` in bytes, times in RFC 3339.

    Attributes:
        protected: Garbage collection keeps it; None without a record, or in an archive.

    """

    namespace: str
    recorded: bool
    size: int | None = None
    created_at: str = ""
    updated_at: str = ""
    labels: dict[str, str] = {}
    protected: bool | None = None
    leases: tuple[str, ...] = ()
    ingests: tuple[str, ...] = ()


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of a chain, the lowest layer first.

    Attributes:
        layer: Index of the layer, from 0.
        holders: Child snapshots, containers, images and leases that keep it.

    """

    namespace: str
    snapshotter: str
    chain_id: str
    layer: int
    present: bool
    parent: str = ""
    remote: bool = False
    holders: tuple[str, ...] = ()


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """An image that uses the object; `layers` is the number of layers of its manifest, `state` that of the layer."""

    image: ImageRef
    layers: int = 0
    state: str = ""
    media_type: str = ""
    size: int | None = None


class Platform(msgspec.Struct, frozen=True, kw_only=True):
    """A platform of an image: its manifest, its layers and those with a record, the snapshotters that have it."""

    platform: str
    manifest: str
    present: bool
    wanted: bool
    layers: int = 0
    layers_present: int = 0
    unpacked: tuple[str, ...] = ()


class ObjectFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about one object.

    Attributes:
        kind: index, manifest, config, layer, attestation, content, blob, chainID, diffID or image.
        id: A digest, or the namespace and name of an image.
        asked: The prefix or name in the question.
        path: Path of the file; empty where the content root is not visible.
        file: Kind and size of the file.
        bytes: Result of reading the content.
        by_design: Why it is absent by design; empty where it is not.
        findings: Codes, the most severe first.

    """

    kind: str
    id: str
    asked: str = ""
    names: tuple[str, ...] = ()
    media_type: str = ""
    size: int | None = None
    where: tuple[Where, ...] = ()
    path: str = ""
    file: str = ""
    bytes: str = ""
    uses: tuple[Use, ...] = ()
    more_uses: int = 0
    platforms: tuple[Platform, ...] = ()
    twins: tuple[str, ...] = ()
    snapshots: tuple[Member, ...] = ()
    by_design: str = ""
    findings: tuple[str, ...] = ()
    diff_id: str = ""
    chain_id: str = ""


class Outcome(enum.StrEnum):
    """Kind of verdict: a fault, absence by design, no fault, a message explained without a fault, or unknown."""

    FAULT = "fault"
    BY_DESIGN = "by-design"
    SOUND = "sound"
    MESSAGE = "message"
    UNKNOWN = "unknown"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The most likely cause.

    Attributes:
        cause: The cause, one sentence.
        sure: Confidence in it.
        because: Reason for the confidence.
        code: Code of the finding; may be empty.
        subject: What the finding is about; may be empty.
        message: Id of the known message; may be empty.
        evidence: Evidence for the cause, one clause each.
        breaks: What fails.
        fine: What is unaffected.
        commands: Shell commands that help, the safest first.
        source: Where containerd prints the message.

    """

    outcome: Outcome
    cause: str
    sure: Confidence
    because: str
    code: str = ""
    subject: str = ""
    message: str = ""
    evidence: tuple[str, ...] = ()
    breaks: str = ""
    fine: str = ""
    commands: tuple[str, ...] = ()
    source: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A known message in the text, and its number of lines."""

    id: str
    lines: int
    says: str
    cause: str
    source: str


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A digest that a prefix matches."""

    prefix: str
    digest: str
    what: str


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """Result of `auditor diagnose`.

    Attributes:
        line: The line that is explained.
        lines: Number of lines read.
        looked_at: Address of the store or path of the archive; empty where none was examined.
        missing: One sentence for each thing that the text names and the store does not have.
        unknown: One sentence for each limit of the diagnosis.

    """

    line: str
    lines: int
    looked_at: str
    verdict: Verdict
    namespaces: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    objects: tuple[ObjectFacts, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    schema: Literal["containerd-auditor/diagnosis/v1"] = SCHEMA
