"""Replace the file of a blob: write and verify a new file, rename it over the old one, keep the old one in quarantine.

Each run has a folder of its own inside the content root: on the same file system, outside of the folders that
containerd reads, and locked (flock) while the run lives, so that the next run can remove the folders of killed runs.
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
#: Mode of a committed blob; containerd plugins/content/local/writer.go `Commit`.
_MODE = 0o444
#: Maximum of files that are examined for the usual owner and mode.
_NEIGHBOURS = 16
_QUARANTINE = "bad-"


@dataclass(frozen=True, slots=True)
class Replaced:
    """A replaced file; `quarantined` is the path of the old one, None where there was none."""

    target: Path
    quarantined: Path | None

    def undo(self) -> None:
        """Restore the old file.

        Raises:
            StoreError: The folder cannot be written.

        """
        with _writing(self.target):
            if self.quarantined is None or self.quarantined.is_dir():
                self.target.unlink(missing_ok=True)
            if self.quarantined is not None:
                self.quarantined.rename(self.target)
            _sync_folder(self.target.parent)


@dataclass(frozen=True, slots=True)
class Staging:
    """The folder of a run in the content root; it is removed with its content when the run ends."""

    root: ContentRoot
    folder: Path

    def stage(self, digest: Digest, chunks: Iterable[bytes], *, size: int) -> Path:
        """Write, verify and sync a new file, with the owner and mode that most blobs have.

        Args:
            digest: Digest of the blob.
            chunks: Its bytes.
            size: Its size in bytes.

        Returns:
            The path of the new file, for `replace`.

        Raises:
            BadBytes: The bytes do not match `digest` or `size`.
            StoreError: The file cannot be written.

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
            mode, uid, gid = _usual_owner(self.root.blob_path(digest).parent)
            os.fchmod(file.fileno(), mode)
            os.fchown(file.fileno(), uid, gid)
            os.fsync(file.fileno())

    def replace(self, digest: Digest, staged: Path) -> Replaced:
        """Rename a staged file over the blob's file; a reader sees the old bytes or the new ones, never a part.

        The old file gets a link in quarantine first. A directory in its place is moved there instead; if the run is
        killed between the two renames, the next run moves it back.

        Raises:
            StoreError: The folder cannot be written.

        """
        target = self.root.blob_path(digest)
        with _writing(target):
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            quarantined = _quarantine(target, self.folder / f"{_QUARANTINE}{_name(digest)}")
            staged.rename(target)
            _sync_folder(target.parent)
        return Replaced(target, quarantined)


def writable(root: ContentRoot) -> bool:
    """Whether this process may write to the content root."""
    return os.access(root.path, os.W_OK | os.X_OK) and os.access(root.path / "blobs", os.W_OK | os.X_OK)


@contextmanager
def staging(root: ContentRoot, *, token: Callable[[], str]) -> Iterator[Staging]:
    """Remove what killed runs left, then create a folder for this run.

    Args:
        root: The content root.
        token: Returns a new unique name.

    Raises:
        StoreError: The content root cannot be written.

    """
    with _writing(root.path / FOLDER):
        sweep(root)
        folder, lock = _claim(root.path / FOLDER, token)
    try:
        yield Staging(root, folder)
    finally:
        _remove(folder)
        os.close(lock)


def sweep(root: ContentRoot) -> None:
    """Remove the folders of ended runs; a blob without a file gets its quarantined one back."""
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
        for quarantined in left.glob(f"{_QUARANTINE}*"):
            _restore(root, quarantined)
        _remove(left)
    except BlockingIOError:
        return  # the run is alive
    finally:
        os.close(lock)


def _restore(root: ContentRoot, quarantined: Path) -> None:
    with suppress(InvalidDigest):
        target = root.blob_path(Digest.parse(quarantined.name.removeprefix(_QUARANTINE).replace("-", ":", 1)))
        if not os.path.lexists(target):
            quarantined.rename(target)
            _sync_folder(target.parent)


def _claim(parent: Path, token: Callable[[], str]) -> tuple[Path, int]:
    """Create and lock a folder; repeat if another run's sweep removed it before it was locked."""
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


def _quarantine(target: Path, quarantined: Path) -> Path | None:
    try:
        found = target.lstat()
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(found.st_mode):
        target.rename(quarantined)
    else:
        os.link(target, quarantined, follow_symlinks=False)
    return quarantined


def _usual_owner(folder: Path) -> tuple[int, int, int]:
    """Return mode, owner and group that most blobs have; without blobs, the folder's owner."""
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
