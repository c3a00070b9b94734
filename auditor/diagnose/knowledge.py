"""What is told of a digest, an image or a message: records to print, nothing computed."""

from __future__ import annotations

import msgspec

from auditor.diagnose.messages import Sure
from auditor.findings import ImageRef


class Where(msgspec.Struct, frozen=True, kw_only=True):
    """What one namespace knows of a blob; `size` in bytes, times RFC 3339."""

    namespace: str
    recorded: bool
    size: int | None = None
    created_at: str = ""
    labels: dict[str, str] = {}
    protected: bool | None = None
    leases: tuple[str, ...] = ()
    ingests: tuple[str, ...] = ()


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot of a chain: is it there, and who keeps it: snapshots made on it, containers."""

    namespace: str
    snapshotter: str
    chain_id: str
    present: bool
    parent: str = ""
    holders: tuple[str, ...] = ()


class Use(msgspec.Struct, frozen=True, kw_only=True):
    """An image that uses the object; `layers` is how many its manifest has, `state` what the layer is to the store."""

    image: ImageRef
    layers: int = 0
    state: str = ""
    media_type: str = ""
    size: int | None = None


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about one object.

    `bytes` says how reading it to its end came out; `by_design` why it is absent without anything being wrong;
    `findings` are codes.
    """

    kind: str
    id: str
    asked: str = ""
    where: tuple[Where, ...] = ()
    file: str = ""
    bytes: str = ""
    uses: tuple[Use, ...] = ()
    twins: tuple[str, ...] = ()
    snapshots: tuple[Member, ...] = ()
    by_design: str = ""
    findings: tuple[str, ...] = ()
    diff_id: str = ""
    chain_id: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """The most likely cause, how sure that is, what speaks for it, what it breaks and not, and what helps."""

    cause: str
    sure: Sure
    evidence: tuple[str, ...] = ()
    breaks: str = ""
    fine: str = ""
    commands: tuple[str, ...] = ()
    source: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A known message that was recognised."""

    id: str
    says: str
    cause: str
    source: str


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """The whole answer: the line explained, the verdict, the objects it speaks of, and what cannot be known."""

    line: str
    looked_at: str
    verdict: Verdict
    messages: tuple[Message, ...] = ()
    objects: tuple[Known, ...] = ()
    unknown: tuple[str, ...] = ()
