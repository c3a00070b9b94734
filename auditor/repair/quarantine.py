"""Quarantine of the files of rebuilt snapshots, outside `snapshots/`: containerd deletes unknown folders in there.

An entry is `<root of the snapshotter>/auditor-quarantine/<token>/` with `record.json`, written before anything else,
and `fs`: first the new tree, and after the exchange the old one. The inode number in the record tells the two apart.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import msgspec

from auditor.errors import StoreError
from auditor.repair.mounts import Mount, Overlay, overlay, uptime

#: The folder in a snapshotter's root. overlayfs lists `snapshots/` only (plugins/snapshots/overlay, `Cleanup`).
FOLDER = "auditor-quarantine"
_RECORD = "record.json"
_DROPPED = "dropped"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The journal of one rebuild; afterwards the description of the quarantined files.

    Attributes:
        namespace: Namespace of the temporary snapshot.
        snapshotter: Name of the snapshotter.
        chain: ChainID of the rebuilt snapshot.
        layer: Digest of the layer that it was unpacked from.
        key: Key of the temporary snapshot.
        target: Folder of the rebuilt snapshot.
        inode: Inode number of its old `fs`; 0 where there was none.
        boot: Identifier of the boot in which it was rebuilt.
        containers: Containers that may use the old files, as `namespace/id`.
        started_at: Time before the first step.
        exchanged_at: Time after the exchange; None before.
        uptime: Seconds from the boot to a time after the exchange.
        overlays: The overlays that may use the old files: those that were mounted on the folder after the exchange.
            None where the mounts of the node were not visible.

    """

    namespace: str
    snapshotter: str
    chain: str
    layer: str
    key: str
    target: str
    inode: int
    boot: str
    containers: tuple[str, ...] = ()
    started_at: datetime
    exchanged_at: datetime | None = None
    uptime: float = 0.0
    overlays: tuple[Overlay, ...] | None = None


class Entry(msgspec.Struct, frozen=True):
    """An entry of the quarantine."""

    folder: Path
    record: Record

    @property
    def id(self) -> str:
        """The name of its folder."""
        return self.folder.name

    @property
    def files(self) -> Path:
        """The new tree before the exchange, the old one after it."""
        return self.folder / "fs"

    @property
    def holds_old(self) -> bool:
        """Whether `files` is the tree that the snapshot had before."""
        return self.record.inode != 0 and inode(self.files) == self.record.inode

    @property
    def deleted_in_part(self) -> bool:
        """Whether a deletion of the old files was begun, which are unused then, and not finished."""
        return self.record.exchanged_at is not None and os.path.lexists(self.folder / _DROPPED)

    def write(self, record: Record) -> Entry:
        """Write the record durably and return the new entry."""
        with _writing(self.folder):
            temporary = self.folder / f"{_RECORD}.new"
            with temporary.open("wb") as file:
                file.write(msgspec.json.encode(record))
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self.folder / _RECORD)
            sync_folder(self.folder)
        return Entry(self.folder, record)


def create(root: Path, token: str, record: Record) -> Entry:
    """Create an entry.

    Args:
        root: Root of the snapshotter.
        token: Unique name.
        record: Its record.

    Raises:
        StoreError: The file system is full, or cannot be written.

    """
    folder = root / FOLDER / token
    with _writing(folder):
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700)
        sync_folder(folder.parent)
    return Entry(folder, record).write(record)


def entries(root: Path) -> tuple[Entry, ...]:
    """Return the entries of a snapshotter's quarantine, oldest first; entries without a record are left out."""
    found = []
    for path in _folders(root):
        with suppress(OSError, msgspec.DecodeError):
            found.append(Entry(path, msgspec.json.decode((path / _RECORD).read_bytes(), type=Record)))
    return tuple(sorted(found, key=lambda entry: entry.record.started_at))


def unreadable(root: Path) -> tuple[Path, ...]:
    """Return the entries whose record cannot be read; they may hold files in use."""
    known = {entry.folder for entry in entries(root)}
    return tuple(path for path in _folders(root) if path not in known and os.path.lexists(path / _RECORD))


def take(entry: Entry, new: Path) -> None:
    """Move the new tree into the entry.

    Raises:
        StoreError: The quarantine is on another file system, or cannot be written.

    """
    with _writing(entry.folder):
        new.rename(entry.files)
        sync_folder(entry.folder)
        sync_folder(new.parent)


def exchange(entry: Entry) -> None:
    """Put the new tree in place of the old one with one atomic step, and keep the old one in the entry.

    Raises:
        StoreError: The old tree is not the one of the record any more, or the file system cannot exchange.

    """
    target = Path(entry.record.target) / "fs"
    if inode(target) != entry.record.inode:
        raise StoreError(f"{target} was changed by another program during the rebuild", hint="run the repair again")
    with _writing(target):
        if entry.record.inode:
            _exchange(entry.files, target)
        else:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            entry.files.rename(target)
        sync_folder(target.parent)
        sync_folder(target.parent.parent)
        sync_folder(entry.folder)


def discard(entry: Entry) -> None:
    """Delete an entry with its files; the record goes last, so that a killed run is finished by the next.

    Raises:
        StoreError: The quarantine cannot be written.

    """
    with _writing(entry.folder):
        dropped = entry.folder / _DROPPED
        if not os.path.lexists(dropped) and os.path.lexists(entry.files):
            entry.files.rename(dropped)
        if os.path.lexists(dropped):
            shutil.rmtree(dropped)
        shutil.rmtree(entry.folder)
        with suppress(OSError):
            entry.folder.parent.rmdir()


#: Returns the overlays that are mounted on a snapshot's folder; None where the node's mounts are not visible.
Overlays = Callable[[Path], tuple[Mount, ...] | None]


def unknown(_folder: Path) -> None:
    """Return that the mounts are not visible."""


def settle(entry: Entry, *, now: datetime, overlays: Overlays = unknown) -> Entry | None:
    """Bring an entry of an ended run to one of two states: old files kept, or nothing.

    The temporary snapshot must have been removed before.

    Args:
        entry: The entry.
        now: The time, which is recorded as that of an exchange without one.
        overlays: Returns the overlays on a folder, which are recorded with the time.

    Returns:
        The entry, if it holds old files; else None.

    """
    if entry.holds_old:
        if entry.record.exchanged_at:
            return entry
        using = overlays(Path(entry.record.target))
        found = None if using is None else tuple(sorted({overlay(mount) for mount in using}))
        return entry.write(msgspec.structs.replace(entry.record, exchanged_at=now, uptime=uptime(), overlays=found))
    if entry.record.inode == 0:
        with suppress(OSError):
            Path(entry.record.target).rmdir()  # succeeds only for an empty folder
    discard(entry)
    return None


def clear_unrecorded(root: Path) -> None:
    """Remove entries that a run was killed in before their record was written; they hold no files.

    An empty quarantine is removed, too: a run was killed after it had deleted the last entry or journal.
    """
    for path in _folders(root):
        if not os.path.lexists(path / _RECORD):
            with suppress(OSError):
                (path / f"{_RECORD}.new").unlink(missing_ok=True)
                path.rmdir()
    with suppress(OSError):
        (root / FOLDER).rmdir()


def inode(path: Path) -> int:
    """Return the inode number of a directory; 0 where there is none."""
    try:
        return path.lstat().st_ino
    except (FileNotFoundError, NotADirectoryError):
        return 0


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk."""
    with _opened(folder) as descriptor:
        os.fsync(descriptor)


def sync_file_system(folder: Path) -> None:
    """Write everything of the file system of a folder to the disk.

    Raises:
        StoreError: The disk reports an error.

    """
    libc = ctypes.CDLL(None, use_errno=True)
    with _writing(folder), _opened(folder) as descriptor:
        if libc.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))


def _exchange(first: Path, second: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(_AT_FDCWD, bytes(first), _AT_FDCWD, bytes(second), ctypes.c_uint(_RENAME_EXCHANGE))
    if done:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _folders(root: Path) -> tuple[Path, ...]:
    try:
        return tuple(sorted(path for path in (root / FOLDER).iterdir() if path.is_dir() and not path.is_symlink()))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise StoreError(f"cannot list {root / FOLDER}: {error.strerror or error}", hint="run as root") from error


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        denied = isinstance(error, PermissionError)
        hint = "run as root with CAP_DAC_OVERRIDE" if denied else "is the file system full, or mounted read-only?"
        raise StoreError(f"cannot write {path}: {error.strerror or error}", hint=hint) from error
