"""The results of comparing snapshots, in the state file of scrubs, in a table of their own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

import msgspec

from auditor.model.snapshot_files import SnapshotFiles, SnapshotKey
from auditor.scrub.state import State, aware
from auditor.scrub.targets import SnapshotTarget
from auditor.snapshots.examine import unreadable


class RememberedSnapshot(msgspec.Struct, frozen=True, gc=False):
    """The results of earlier runs for one snapshot; times are aware, in UTC.

    `directory` identifies the directory that was compared. `tried_at` is when a comparison last began, `read_at` when
    one last ended, with `files`; `bad_since` is when differences were first found, None where there were none.
    """

    directory: str = ""
    tried_at: datetime | None = None
    read_at: datetime | None = None
    bad_since: datetime | None = None
    files: SnapshotFiles | None = None

    @property
    def bad(self) -> bool:
        """Whether the last comparison found differences."""
        return self.files is not None and self.files.differences is not None and bool(self.files.differences.items)

    @property
    def settled(self) -> bool:
        """Whether the last comparison has a result that need not be tried again at once."""
        return self.files is not None and not unreadable(self.files)

    @property
    def compared(self) -> bool:
        """Whether the last comparison found no difference."""
        return self.files is not None and self.files.differences is not None and not self.bad


class SnapshotState:
    """The snapshots' part of an open state file; threads may share it."""

    def __init__(self, state: State) -> None:
        self._state = state

    def begin(self, target: SnapshotTarget, *, at: datetime) -> None:
        """Record that a comparison begins. Results of another directory of the same name are dropped."""
        self._state.write(
            "INSERT INTO snapshots (store, namespace, snapshotter, name, directory, tried_at) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET tried_at = excluded.tried_at, directory = excluded.directory,"
            " read_at = CASE WHEN directory = excluded.directory THEN read_at END,"
            " bad_since = CASE WHEN directory = excluded.directory THEN bad_since END,"
            " found = CASE WHEN directory = excluded.directory THEN found END",
            [(self._state.store, *target.key, target.directory, at.timestamp())],
        )

    def record(self, target: SnapshotTarget, files: SnapshotFiles, *, at: datetime) -> None:
        """Record a result durably."""
        when = at.timestamp()
        bad = when if RememberedSnapshot(files=files).bad else None
        found = msgspec.json.encode(files)
        self._state.write(
            "INSERT INTO snapshots"
            " (store, namespace, snapshotter, name, directory, tried_at, read_at, bad_since, found)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET read_at = excluded.read_at, found = excluded.found,"
            " directory = excluded.directory, bad_since = CASE WHEN excluded.bad_since IS NULL THEN NULL"
            " ELSE coalesce(bad_since, excluded.bad_since) END",
            [(self._state.store, *target.key, target.directory, when, when, bad, found)],
        )

    def remembered(self) -> Mapping[SnapshotKey, RememberedSnapshot]:
        """Return all results for this store."""
        rows = self._state.rows(
            "SELECT namespace, snapshotter, name, directory, tried_at, read_at, bad_since, found"
            " FROM snapshots WHERE store = ?"
        )
        return {tuple(row[:3]): known for row in rows if (known := _remembered(*row[3:])) is not None}

    def forget_absent(self, present: Collection[SnapshotKey]) -> None:
        """Drop what has left the store; `present` is everything that it holds."""
        kept = frozenset(present)
        rows = self._state.rows("SELECT namespace, snapshotter, name FROM snapshots WHERE store = ?")
        self._state.write(
            "DELETE FROM snapshots WHERE store = ? AND namespace = ? AND snapshotter = ? AND name = ?",
            [(self._state.store, *key) for key in rows if key not in kept],
        )


def _remembered(
    directory: str, tried_at: float | None, read_at: float | None, bad_since: float | None, found: bytes | None
) -> RememberedSnapshot | None:
    """Parse a row; None for a malformed one, whose snapshot is then compared again."""
    try:
        files = msgspec.json.decode(found, type=SnapshotFiles) if found else None
        return RememberedSnapshot(
            directory=directory,
            tried_at=aware(tried_at),
            read_at=aware(read_at),
            bad_since=aware(bad_since),
            files=files,
        )
    except (ValueError, TypeError, OverflowError, OSError, msgspec.MsgspecError):
        return None
