"""The records of a fleet's picture."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from auditor.fleet.common import Shared
from auditor.model.findings import Severity
from auditor.report.fleet import UnreadFile

SCHEMA: Literal["containerd-auditor/fleet-picture/v1"] = "containerd-auditor/fleet-picture/v1"


class NodeCounts(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes by verdict; `unknown` are incomplete or outdated reports without damage, `silent` are expected nodes."""

    reported: int
    sound: int
    damaged: int
    unknown: int
    silent: int
    unread: int


class PictureNode(msgspec.Struct, frozen=True, kw_only=True):
    """A node with damage or without a complete, recent report; `codes` are its findings of error and critical."""

    name: str
    status: Literal["damaged", "unknown"]
    finished_at: datetime
    complete: bool
    outdated: bool
    images: int
    images_damaged: int
    critical: int
    error: int
    warning: int
    codes: dict[str, int]


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes with the same cause, or with the same damaged digest, and the facts that they share."""

    cause: str
    digest: str = ""
    nodes: int
    digests: int
    shared: tuple[Shared, ...]


class PictureDigest(msgspec.Struct, frozen=True, kw_only=True):
    """A damaged digest: the nodes that it is damaged on, and those that have a copy.

    `damaged_on`, `verified_on` and `present_on` have at most 20 names; the numbers count all.
    """

    digest: str
    kind: str
    code: str
    severity: Severity
    damaged: int
    damaged_on: tuple[str, ...]
    verified: int
    verified_on: tuple[str, ...]
    present: int
    present_on: tuple[str, ...]
    images: tuple[str, ...]


class PictureImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image that is damaged somewhere, and the number of nodes by its verdict."""

    target: str
    name: str
    damaged: int
    sound: int


class CodeCount(msgspec.Struct, frozen=True, kw_only=True):
    """How often a rule was broken, and on how many nodes."""

    code: str
    severity: Severity
    cause: str
    findings: int
    nodes: int
    digests: int


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Findings of error and critical of one rule against older reports, on nodes that both days have."""

    code: str
    new: int
    gone: int
    same: int


class Picture(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a fleet; times are RFC 3339 in UTC.

    `nodes` are those that are not sound, worst first. `silent` are expected and have no report, `unexpected` have a
    report and are not in the list of expected nodes. `superseded` counts older reports of the same store.
    """

    schema: Literal["containerd-auditor/fleet-picture/v1"] = SCHEMA
    complete: bool
    oldest: datetime
    newest: datetime
    counts: NodeCounts
    superseded: int
    causes: tuple[Cause, ...]
    digests: tuple[PictureDigest, ...]
    nodes: tuple[PictureNode, ...]
    codes: tuple[CodeCount, ...]
    images: tuple[PictureImage, ...]
    changes: tuple[Change, ...] | None = None
    silent: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    unread: tuple[UnreadFile, ...] = ()
