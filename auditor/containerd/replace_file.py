"""Replacing the file of a blob: proven beside it, put in its place in one step, the bad copy kept until told.

Everything of one run lies in a folder of its own inside the content root: on the same file system, outside of what
containerd walks, and locked while we live, so that the next run can clear away what a killed one left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from auditor.containerd.content_root import ContentRoot
from auditor.errors import BadBytes, InvalidDigest, StoreError
from auditor.model.digest import Digest, Meter

#: Beside `blobs` and `ingest`; containerd's collector looks at those two alone (plugins/content/local/store.go).
FOLDER = "auditor-staging"
#: What containerd gives a committed blob under the usual umask (plugins/content/local/writer.go).
_MODE = 0o444
#: Neighbours asked for owner and mode; one of them may be damaged too.
_NEIGHBOURS = 16
_ASIDE = "bad-"


@dataclass(frozen=True, slots=True)
class Replaced:
    """A blob whose file was put in place; `aside` is the copy that was there before, if any was."""

    target: Path
    aside: Path | None

    def undo(self) -> None:
        """Put back what was there. Raises StoreError."""
        with _writing(self.target):
            if self.aside is None or self.aside.is_dir():
                self.target.unlink(missing_ok=True)
            if self.aside is not None:
                self.aside.rename(self.target)
            _sync_folder(self.target.parent)


@dataclass(frozen=True, slots=True)
class Staging:
    """A folder of ours in the content root; it goes with all that is in it when the run ends."""

    root: ContentRoot
    folder: Path

    def stage(self, digest: Digest, chunks: Iterable[bytes], *, size: int) -> Path:
        """Write the bytes to a file that could be the blob's, made durable, with its neighbours' owner and mode.

        Raises BadBytes where they are not `digest` or not `size` bytes long, StoreError where they cannot be written.
        """
        path = self.folder / f"new-{_name(digest)}"
        try:
            with _writing(path):
                self._write(path, digest, chunks, size=size)
        except BaseException:
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise
        return path

    def _write(self, path: Path, digest: Digest, chunks: Iterable[bytes], *, size: int) -> None:
        meter = Meter(digest.algorithm)
        with path.open("wb") as file:
            for chunk in chunks:
                meter.update(chunk)
                if meter.size > size:
                    break
                file.write(chunk)
            found = meter.result()
            if not found.matches(digest, size):
                raise BadBytes(f"{digest} of {size} bytes was to be written, and {found.size} others came")
            file.flush()
            mode, uid, gid = _customs(self.root.blob_path(digest).parent)
            os.fchmod(file.fileno(), mode)
            os.fchown(file.fileno(), uid, gid)
            os.fsync(file.fileno())

    def replace(self, digest: Digest, staged: Path) -> Replaced:
        """Put a staged file where the blob's belongs; whoever reads sees the old bytes or the new ones, never a part.

        What is there is linked aside first. Only a folder in the file's place has to be moved away, and is moved back
        by the next run should this one end between. Raises StoreError.
        """
        target = self.root.blob_path(digest)
        with _writing(target):
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            aside = _set_aside(target, self.folder / f"{_ASIDE}{_name(digest)}")
            staged.rename(target)
            _sync_folder(target.parent)
        return Replaced(target, aside)


def writable(root: ContentRoot) -> bool:
    """Whether this process may put files into the content root."""
    return os.access(root.path, os.W_OK | os.X_OK) and os.access(root.path / "blobs", os.W_OK | os.X_OK)


@contextmanager
def staging(root: ContentRoot, *, token: Callable[[], str]) -> Iterator[Staging]:
    """Clear away what killed runs left, then give a folder for this one. Raises StoreError."""
    with _writing(root.path / FOLDER):
        sweep(root)
        folder, lock = _claim(root.path / FOLDER, token)
    try:
        yield Staging(root, folder)
    finally:
        _remove(folder)
        os.close(lock)


def sweep(root: ContentRoot) -> None:
    """Remove the folders of runs that have ended; a blob that one of them left without any file gets its own back."""
    with suppress(FileNotFoundError):
        for left in sorted((root.path / FOLDER).iterdir()):
            _sweep_one(root, left)


def _sweep_one(root: ContentRoot, left: Path) -> None:
    try:
        lock = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for aside in left.glob(f"{_ASIDE}*"):
            _restore(root, aside)
        _remove(left)
    except BlockingIOError:
        return  # its run is alive
    finally:
        os.close(lock)


def _restore(root: ContentRoot, aside: Path) -> None:
    with suppress(InvalidDigest):
        target = root.blob_path(Digest.parse(aside.name.removeprefix(_ASIDE).replace("-", ":", 1)))
        if not os.path.lexists(target):
            aside.rename(target)
            _sync_folder(target.parent)


def _claim(parent: Path, token: Callable[[], str]) -> tuple[Path, int]:
    """A new folder, locked. Somebody's sweep may come between making and locking it: then another one is made."""
    while True:
        parent.mkdir(mode=0o700, exist_ok=True)
        folder = parent / token()
        with suppress(FileNotFoundError):
            folder.mkdir(mode=0o700)
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.is_dir() and folder.stat().st_ino == os.fstat(lock).st_ino:
                return folder, lock
            os.close(lock)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()


def _set_aside(target: Path, aside: Path) -> Path | None:
    try:
        found = target.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        target.rename(aside)
    else:
        os.link(target, aside, follow_symlinks=False)
    return aside


def _customs(folder: Path) -> tuple[int, int, int]:
    """Mode, owner and group that most blobs have; of the folder's owner where there are none."""
    seen: Counter[tuple[int, int, int]] = Counter()
    try:
        with os.scandir(folder) as entries:
            for entry in islice(entries, _NEIGHBOURS):
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    seen[stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid] += 1
    except FileNotFoundError:
        pass
    if seen:
        return seen.most_common(1)[0][0]
    owner = folder.stat() if folder.is_dir() else folder.parent.parent.stat()
    return _MODE, owner.st_uid, owner.st_gid


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _name(digest: Digest) -> str:
    return f"{digest.algorithm}-{digest.hex}"


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write {path}: {error.strerror or error}", hint="is the file system full, or mounted read-only?"
        ) from error
