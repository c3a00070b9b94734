"""What is told of a digest, an image or a message: records to print; docs/diagnose.md has the JSON."""

from __future__ import annotations

import enum
from typing import Literal

import msgspec

from auditor.diagnose.messages import Sure
from auditor.model.findings import ImageRef

SCHEMA: Literal["containerd-auditor/diagnosis/v1"] = "containerd-auditor/diagnosis/v1"


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """What one namespace knows of a blob; `size` in bytes, times RFC 3339.

    `protected`: garbage collection keeps it; None where there is no record, or no collection as in an archive.
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
    """A snapshot of a chain, lowest first: is it there, on what was it made, and who keeps it.

    `layer` counts from 0. `holders`: snapshots made on it, containers, images, leases.
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
    """An image that uses the object; `layers` is how many its manifest has, `state` what the layer is to the store."""

    image: ImageRef
    layers: int = 0
    state: str = ""
    media_type: str = ""
    size: int | None = None


class Platform(msgspec.Struct, frozen=True, kw_only=True):
    """A platform of an image: its manifest, how many of its layers have a blob here, where it is unpacked."""

    platform: str
    manifest: str
    present: bool
    wanted: bool
    layers: int = 0
    layers_present: int = 0
    unpacked: tuple[str, ...] = ()


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one object.

    `kind` is index, manifest, config, layer, attestation, content, blob, chainID, diffID or image; `id` a digest, or an
    image's namespace and name. `path` is where the file is or would be, where that is known. `bytes` says how reading
    it to its end came out; `by_design` why it is absent without anything being wrong; `findings` are codes, the worst
    first.
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
    """What it came to: a fault, absent by design, nothing wrong, a message explained without one, or nothing known."""

    FAULT = "fault"
    BY_DESIGN = "by-design"
    SOUND = "sound"
    MESSAGE = "message"
    UNKNOWN = "unknown"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The most likely cause, how sure that is and why, what speaks for it, what it breaks and not, and what helps.

    `code` is the finding that it rests on and `subject` what that is about, `message` the known message; each may be
    empty.
    """

    outcome: Outcome
    cause: str
    sure: Sure
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
    """A known message that was recognised, in how many lines."""

    id: str
    lines: int
    says: str
    cause: str
    source: str


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A digest that a prefix fits."""

    prefix: str
    digest: str
    what: str


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer: the line explained, the verdict, the objects it speaks of, and what cannot be known.

    `missing` has a sentence for each thing that the text names and the store has not, `unknown` one for each limit.
    `looked_at` is the store's address or the archive, empty where none was looked at; `lines` how many were read.
    """

    line: str
    lines: int
    looked_at: str
    verdict: Verdict
    namespaces: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    objects: tuple[Known, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    schema: Literal["containerd-auditor/diagnosis/v1"] = SCHEMA
