"""The unpacked files of a snapshot: where they are, how much they use, and how they differ from their layer."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final

import msgspec


class Kind(enum.StrEnum):
    """How an unpacked file differs from its layer."""

    MISSING = "missing"
    EXTRA = "extra"
    TYPE = "type"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    LONGER = "longer"
    ZEROED = "zeroed"
    CONTENT = "content"
    UNREADABLE = "unreadable"
    TARGET = "link target"
    HARD_LINK = "hard link"
    DEVICE = "device number"
    WHITEOUT_MISSING = "whiteout missing"
    OPAQUE_MISSING = "opaque marker missing"
    OPAQUE_EXTRA = "opaque marker added"
    MODE = "mode"
    OWNER = "owner"
    XATTR = "xattr"
    CAPABILITY = "capability"
    MTIME = "mtime"


#: Kinds about names and content that the layer has, without attributes, hard links, whiteouts and added names.
OF_CONTENT: Final = frozenset(
    {
        Kind.MISSING,
        Kind.TYPE,
        Kind.EMPTY,
        Kind.TRUNCATED,
        Kind.LONGER,
        Kind.ZEROED,
        Kind.CONTENT,
        Kind.UNREADABLE,
        Kind.TARGET,
    }
)


class Difference(msgspec.Struct, frozen=True):
    """One difference; `below` counts the names under a directory that is missing or extra as a whole."""

    path: bytes
    kind: Kind
    detail: str = ""
    below: int = 0


class Differences(msgspec.Struct, frozen=True):
    """The differences of one snapshot; `expected` counts the layer's names, `skipped` says what was not compared."""

    items: tuple[Difference, ...] = ()
    expected: int = 0
    skipped: tuple[str, ...] = ()

    def of(self, kinds: Iterable[Kind]) -> tuple[Difference, ...]:
        """Return the differences of these kinds."""
        wanted = frozenset(kinds)
        return tuple(item for item in self.items if item.kind in wanted)

    @property
    def missing(self) -> int:
        """The number of names that are missing, those below missing directories included."""
        return sum(1 + item.below for item in self.items if item.kind is Kind.MISSING)


#: Namespace, snapshotter and name of a snapshot.
SnapshotKey = tuple[str, str, str]


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Disk usage of a snapshot: allocated bytes, and inodes."""

    size: int = 0
    inodes: int = 0


class Row(msgspec.Struct, frozen=True, gc=False):
    """A committed snapshot in the snapshotter's database: the directory's id, and the usage at commit time."""

    id: str
    usage: Usage


class SnapshotFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What was found in a snapshot's directory.

    `missing`: the directory does not exist (looked at twice). `recorded` is the usage at commit time, `counted` the
    usage now; None where it was not counted. `differences` is None where the files were not compared; `reason` then
    says why, if they were to be. `unpacked`: the snapshot was made by unpacking a layer and not by a commit.
    """

    id: str
    path: str
    missing: bool = False
    recorded: Usage | None = None
    counted: Usage | None = None
    differences: Differences | None = None
    reason: str = ""
    unpacked: bool = True
