"""A file or folder that takes the place of another at once, or leaves it as it was and goes."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from auditor.errors import OutputError

_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def output_errors(what: Path | str) -> Iterator[None]:
    """Turn the system's errors into ours."""
    try:
        yield
    except OSError as error:
        hint = "free some space, or write elsewhere" if error.errno in (28, 122) else "check the path and its mode"
        raise OutputError(f"{what} cannot be written: {error.strerror or error}", hint=hint) from None


class Temporary:
    """A hidden neighbour `.<name>.auditor-<tag>.tmp` of `target`, locked while we live; a context manager.

    Leaving without `publish` removes it. What a killed run left behind is removed by the next one for the same target:
    its lock is gone with it. `tag` must be unique to the run.
    """

    def __init__(self, target: Path, *, tag: str, folder: bool = False) -> None:
        self.target = target.resolve()
        self.path = self.target.with_name(f"{_prefix(self.target)}{tag}.tmp")
        self.fd = -1
        self._folder = folder
        self._published = False

    def __enter__(self) -> Self:
        with output_errors(self.target):
            self._check()
            sweep(self.target)
            while not self._locked():
                os.close(self.fd)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._published:
            _remove(self.path)
        os.close(self.fd)

    def publish(self) -> None:
        """Put it in the target's place, durably. Its bytes must have been synced. Raises OutputError."""
        with output_errors(self.target):
            self.path.replace(self.target)
            self._published = True
            sync_folder(self.target.parent)

    def _check(self) -> None:
        if not os.path.lexists(self.target):
            return
        if self._folder and (not self.target.is_dir() or any(self.target.iterdir())):
            raise OutputError(f"{self.target} is there already", hint="remove it, or name another folder")
        if not self._folder and not stat.S_ISREG(self.target.stat().st_mode):
            raise OutputError(f"{self.target} is no regular file", hint="write to a pipe with `-o -`")

    def _locked(self) -> bool:
        """Create and lock it; False where another run swept it between the two."""
        if self._folder:
            self.path.mkdir(mode=0o755)
            self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        else:
            self.fd = os.open(self.path, _CREATE, 0o666)
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        return os.path.lexists(self.path) and os.path.samestat(self.path.lstat(), os.fstat(self.fd))


def _prefix(target: Path) -> str:
    return f".{target.name}.auditor-"


def sweep(target: Path) -> None:
    """Remove what killed runs left beside `target`; what a living one is writing stays."""
    prefix = _prefix(target)
    for path in target.parent.iterdir():
        if path.name.startswith(prefix) and path.name.endswith(".tmp"):
            with suppress(OSError):
                _sweep_one(path)


def _sweep_one(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(path)
    finally:
        os.close(fd)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_whole(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a temporary file beside the target, fsync, rename, fsync the folder. Raises OutputError.

    A link is followed to the file it names; what is no regular file (a pipe, /dev/null) is written as it is.
    """
    target = Path(os.path.realpath(path))
    try:
        if target.exists() and not target.is_file():
            target.write_bytes(data)
        else:
            _replace(target, data, mode)
    except OSError as error:
        raise OutputError(
            f"{path} could not be written: {error.strerror}", hint="the file there, if any, is as it was"
        ) from None


def _replace(target: Path, data: bytes, mode: int) -> None:
    temporary = target.with_name(f".{target.name[:100]}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
