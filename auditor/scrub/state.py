"""The results of scrubs, in a SQLite file that is kept between runs. Losing it costs repeated work only.

A file that this program did not make is refused and left unchanged. A damaged state is renamed with its companions
and kept. One that a newer version wrote is left unchanged, and this version keeps its own beside it: overwriting would
lose the newer version's results, refusing would stop scrubs after a rollback.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
import threading
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from auditor.errors import StateError
from auditor.model.digest import Digest
from auditor.model.store import StoreInfo, Verification, VerificationKind
from auditor.scrub.state_file import COLUMNS, VERSION, add_snapshots, create, quarantine, require_own

#: Results that put a blob at the head of the next run.
BAD = frozenset(
    {VerificationKind.CORRUPT, VerificationKind.UNSTEADY, VerificationKind.UNREADABLE, VerificationKind.MISSING}
)


class Remembered(msgspec.Struct, frozen=True, gc=False):
    """The results of earlier runs for one digest; times are aware, in UTC.

    `tried_at` is when a read last began, `read_at` when one last ended, with `verification`; `bad_since` is when the
    result turned bad, None while it is not.
    """

    digest: Digest
    tried_at: datetime | None = None
    read_at: datetime | None = None
    bad_since: datetime | None = None
    verification: Verification | None = None

    @property
    def bad(self) -> bool:
        """Whether the last result was bad."""
        return self.verification is not None and self.verification.kind in BAD

    def verified(self, *, layers: bool) -> bool:
        """Whether the last read found the blob intact; with `layers`, whether it was decompressed too."""
        if self.verification is None or self.verification.kind is not VerificationKind.SOUND:
            return False
        return self.verification.layer is not None or not layers


def identity(info: StoreInfo) -> str:
    """Return the key of a store in the state: its id, else its content root, else its address."""
    return f"{info.kind}:{info.id or info.content_root or info.address}"


class State:
    """An open state file, locked against a second run; threads may share it. Use as a context manager.

    `notes` are sentences for the user about a file that was renamed or left alone.
    """

    def __init__(self, connection: sqlite3.Connection, *, path: Path, store: str, lock: int, notes: list[str]) -> None:
        self._connection = connection
        #: The key of the store in every row.
        self.store = store
        self._lock = lock
        self._mutex = threading.Lock()
        self.path = path
        self.notes = tuple(notes)

    @classmethod
    def open(cls, path: Path, *, store: str) -> Self:
        """Lock and open a state file, or create an empty one.

        Args:
            path: the file.
            store: the key of the store; see `identity`.

        Raises:
            StateError: another run has locked it, it is the file of another program, or it cannot be written.

        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            require_own(path)
            lock = _lock(path)
        except OSError as error:
            raise _unusable(path, error) from None
        notes: list[str] = []
        try:
            connection, path = _open(path, notes)
        except BaseException as error:
            os.close(lock)
            if isinstance(error, sqlite3.Error | OSError):
                raise _unusable(path, error) from None
            raise
        return cls(connection, path=path, store=store, lock=lock, notes=notes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close and unlock the file."""
        self._connection.close()
        os.close(self._lock)

    def begin(self, digest: Digest, *, at: datetime) -> None:
        """Record that a read begins, so that a blob whose read never ends does not come first in each run."""
        self.write(
            "INSERT INTO proofs (store, digest, tried_at) VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET tried_at = excluded.tried_at",
            [(self.store, digest, at.timestamp())],
        )

    def record(self, verification: Verification, *, at: datetime) -> None:
        """Record a result durably; a blob without a record any more is deleted from the state."""
        if verification.kind is VerificationKind.GONE:
            self.forget([verification.digest])
            return
        when = at.timestamp()
        bad = when if verification.kind in BAD else None
        self.write(
            "INSERT INTO proofs (store, digest, tried_at, read_at, bad_since, proof) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET read_at = excluded.read_at, proof = excluded.proof,"
            " bad_since = CASE WHEN excluded.bad_since IS NULL THEN NULL"
            " ELSE coalesce(bad_since, excluded.bad_since) END",
            [(self.store, verification.digest, when, when, bad, msgspec.json.encode(verification, enc_hook=str))],
        )

    def remembered(self) -> dict[Digest, Remembered]:
        """Return all results for this store, by digest."""
        rows = self.rows("SELECT digest, tried_at, read_at, bad_since, proof FROM proofs WHERE store = ?")
        return {known.digest: known for row in rows if (known := _remembered(*row)) is not None}

    def forget_absent(self, present: Collection[Digest]) -> None:
        """Drop what has left the store; `present` is everything that it holds."""
        kept = frozenset(present)
        rows = self.rows("SELECT digest FROM proofs WHERE store = ?")
        self.forget(digest for (digest,) in rows if digest not in kept)

    def forget(self, digests: Iterable[str]) -> None:
        """Drop what is known of some blobs."""
        self.write("DELETE FROM proofs WHERE store = ? AND digest = ?", [(self.store, digest) for digest in digests])

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return all rows of a query whose one parameter is the store. Raises StateError."""
        with self._guarded():
            return self._connection.execute(query, (self.store,)).fetchall()

    def write(self, statement: str, rows: list[tuple[object, ...]]) -> None:
        """Execute a statement for each of `rows`, durably. Raises StateError."""
        with self._guarded(), self._connection:
            self._connection.executemany(statement, rows)

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        with self._mutex:
            try:
                yield
            except sqlite3.Error as error:
                raise _unusable(self.path, error) from None


def _lock(path: Path) -> int:
    """Lock `<path>.lock`: a file of its own, since the database may be renamed while it is locked."""
    place = path.with_name(f"{path.name}.lock")
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _sign(descriptor, place)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        os.close(descriptor)
        who = f"process {holder}" if holder.isdecimal() else "another process"
        raise StateError(
            f"{path} is in use by {who}", hint="wait for that scrub to end, or use another --state"
        ) from None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _sign(descriptor: int, place: Path) -> None:
    """Write the id of this process into the lock file. Raises StateError for a file that is not one."""
    status = os.fstat(descriptor)
    # A file with another name is somebody's, such as the pid file of a daemon.
    ours = stat.S_ISREG(status.st_mode) and status.st_nlink <= 1
    held = os.pread(descriptor, 32, 0).strip() if ours else b""
    if not ours or (held and not held.isdigit()):
        raise StateError(f"{place} is not a lock file of auditor", hint="--state FILE names another place")
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)


def _open(path: Path, notes: list[str]) -> tuple[sqlite3.Connection, Path]:
    """Open the database; rename a damaged one first. Return the connection and its path."""
    if require_own(path):
        create(path)
    try:
        connection, version = _connect(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError as error:
        notes.append(f"{path} could not be read ({error}); it was kept as {quarantine(path)} and nothing is remembered")
        return _open(path, notes)
    if version <= VERSION:
        return connection, path
    connection.close()
    own = path.with_name(f"{path.name}.v{VERSION}")
    notes.append(f"{path} was written by a newer version and is left alone; this one keeps {own}")
    return _open(own, notes)


def _connect(path: Path) -> tuple[sqlite3.Connection, int]:
    """Connect to a state of this or a newer version. Raises DatabaseError for a damaged one."""
    connection = sqlite3.connect(path, timeout=10, check_same_thread=False)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version <= VERSION:
            # NORMAL: a kill loses nothing, a power cut the last results, which are then repeated.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            _check(connection)
            add_snapshots(connection)
    except sqlite3.Error:
        connection.close()
        raise
    return connection, int(version)


def _check(connection: sqlite3.Connection) -> None:
    (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise sqlite3.DatabaseError(verdict)
    names = [row[1] for row in connection.execute("PRAGMA table_info(proofs)")]
    if names != COLUMNS:
        raise sqlite3.DatabaseError("its table has other columns")


def _remembered(
    digest: str, tried_at: float | None, read_at: float | None, bad_since: float | None, verification: bytes | None
) -> Remembered | None:
    """Parse a row; None for a malformed one, whose blob is then verified again."""
    try:
        outcome = (
            msgspec.json.decode(verification, type=Verification, dec_hook=_decode_digest) if verification else None
        )
        when = aware(read_at)
        return Remembered(
            digest=Digest.parse(digest),
            tried_at=aware(tried_at),
            read_at=when,
            bad_since=aware(bad_since),
            verification=msgspec.structs.replace(outcome, fresh=False, read_at=when) if outcome else None,
        )
    except (ValueError, TypeError, OverflowError, OSError, msgspec.MsgspecError):
        return None


def _decode_digest(kind: type, value: object) -> object:
    if kind is Digest and isinstance(value, str):
        return Digest.parse(value)
    raise NotImplementedError


def aware(seconds: float | None) -> datetime | None:
    """Return a time of the file in UTC; None where it has none."""
    return None if seconds is None else datetime.fromtimestamp(seconds, tz=UTC)


def _unusable(path: Path, error: Exception) -> StateError:
    words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return StateError(f"the state file {path} cannot be used: {words}", hint="--state FILE names another place")
