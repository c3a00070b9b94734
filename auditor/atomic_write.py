"""Replace a file or folder atomically, or leave it as it was."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from auditor.errors import OutputError

#: Links followed in one path, as in Linux (MAXSYMLINKS).
_LINKS = 40
_DESCRIPTORS = re.compile(r"/proc/(self|thread-self|\d+)(/task/\d+)?/fd")
#: Seconds to wait for the reader of a pipe.
_READER = 10.0
#: What file systems without hard links answer.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
_CREATE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def output_errors(what: Path | str) -> Iterator[None]:
    """Map OSError to OutputError.

    Args:
        what: what is written, for the message.

    """
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free some space, or write elsewhere" if full else "check the path and its mode"
        hint = (
            "its reader ended early" if error.errno == errno.EPIPE else f"{hint}; the file there, if any, is as it was"
        )
        raise OutputError(f"{what} could not be written: {error.strerror or error}", hint=hint) from None


def resolve(path: Path) -> Path:
    """Return the path without links.

    A link is followed unless another user could have planted it: its folder is writable by others, and the link belongs
    neither to this user nor to the owner of the folder (the rule of Linux's fs.protected_symlinks).

    Raises:
        OutputError: such a link, or a link to a descriptor of a process, as /dev/stdout.
        OSError: a link cannot be read, or there are too many.

    """
    place = Path("/")
    parts = _parts(Path.cwd() / path)
    links = 0
    while parts:
        name = parts.pop()
        if name == ".." or not (place / name).is_symlink():
            place = place.parent if name == ".." else place / name
            continue
        links += 1
        if links > _LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        _check_link(place / name, path)
        link = (place / name).readlink()
        place = Path("/") if link.is_absolute() else place
        parts += _parts(link)
    return place


def _parts(path: Path) -> list[str]:
    return [part for part in reversed(path.parts) if part != "/"]


def _is_planted(path: Path) -> bool:
    """Whether another user could have made it: see `resolve`."""
    folder, owner = path.parent.stat(), path.lstat().st_uid
    return bool(folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH)) and owner not in (os.geteuid(), folder.st_uid)


def _check_link(link: Path, path: Path) -> None:
    if _DESCRIPTORS.fullmatch(str(link.parent)):
        raise OutputError(
            f"{path} is a descriptor of a process, not a file", hint="write to standard output with `-o -`"
        )
    if _is_planted(link):
        raise OutputError(
            f"{path} was not written: {link} is a link of another user in a folder that others can write to",
            hint="write into a folder of your own",
        )


def _keep_access(target: Path, fd: int) -> None:
    """Give a file the owner and mode of the file that it is to replace; the owner where the system allows it."""
    try:
        old = target.lstat()
    except FileNotFoundError:
        return
    with suppress(PermissionError):
        os.fchown(fd, old.st_uid, old.st_gid)
    # File systems without modes refuse to set any.
    if stat.S_IMODE(os.fstat(fd).st_mode) != old.st_mode & 0o777:
        os.fchmod(fd, old.st_mode & 0o777)


class Temporary:
    """A hidden file or folder `.<name>.auditor-<tag>.tmp` beside `target`, locked by this process; a context manager.

    Leaving the block without `publish` removes it. The next run for the same target removes what a killed run left: a
    lock ends with its process.

    Args:
        target: the file or folder to replace; see `resolve` for links. Mode and owner of a replaced file are kept.
        tag: part of the temporary name; must be unique to the run.
        folder: make a folder; `target` must then be absent or an empty folder.
        new: replace nothing, not even a file that another process makes meanwhile.

    Attributes:
        target: the resolved target.
        path: the temporary file or folder.
        fd: its descriptor.

    """

    def __init__(self, target: Path, *, tag: str, folder: bool = False, new: bool = False) -> None:
        with output_errors(target):
            self.target = resolve(target)
        self.path = self.target.with_name(f"{_prefix(self.target)}{tag}.tmp")
        self.fd = -1
        self._folder = folder
        self._new = new and not folder  # rename(2) replaces no folder that has anything in it
        self._published = False

    def __enter__(self) -> Self:
        try:
            with output_errors(self.target):
                self._check()
                sweep(self.target)
                while not self._locked():
                    self._close()
                if not self._folder:
                    _keep_access(self.target, self.fd)
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()

    def _discard(self) -> None:
        """Remove it, unless it was never made or is published."""
        if self.fd >= 0:
            if not self._published:
                _remove(self.path)
            self._close()

    def _close(self) -> None:
        os.close(self.fd)
        self.fd = -1

    def publish(self) -> None:
        """Rename it to the target and sync the parent folder; its bytes must have been synced before.

        Raises:
            OutputError: the system refused.

        """
        with output_errors(self.target):
            if self._new:
                _rename_new(self.path, self.target)
            else:
                self.path.replace(self.target)
            self._published = True
            sync_folder(self.target.parent)

    def _check(self) -> None:
        if not os.path.lexists(self.target):
            return
        if self._folder and (not self.target.is_dir() or any(self.target.iterdir())):
            raise OutputError(f"{self.target} is there already", hint="remove it, or name another folder")
        if not self._folder and not stat.S_ISREG(self.target.stat().st_mode):
            raise OutputError(f"{self.target} is not a regular file", hint="write to a pipe with `-o -`")

    def _locked(self) -> bool:
        """Create and lock it; False where another run swept it between the two.

        A file system without locks (some network file systems) does without: there no run sweeps anything.
        """
        if self._folder:
            self.path.mkdir(mode=0o755)
            self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        else:
            self.fd = os.open(self.path, _CREATE, 0o666)
        with suppress(OSError):
            fcntl.flock(self.fd, fcntl.LOCK_EX)
        try:
            found = self.path.lstat()
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self.fd))


def _rename_new(path: Path, target: Path) -> None:
    """Rename a file to a name that is free. Raises FileExistsError where it is not.

    A file system without hard links is looked at first, and the name may be taken between the two.
    """
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        path.replace(target)
        return
    with suppress(OSError):
        path.unlink()


def _prefix(target: Path) -> str:
    # File systems end names at 255 bytes.
    return f".{target.name[:100]}.auditor-"


def sweep(target: Path) -> None:
    """Remove the temporary files that killed runs left beside `target`; those of running processes are locked."""
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
        try:
            path.unlink()
        except IsADirectoryError:
            shutil.rmtree(path)


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that the names in it are durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_whole(path: Path, data: bytes, *, mode: int | None = None, new: bool = False) -> None:
    """Write a file atomically and durably; mode and owner of a replaced file are kept.

    What is no regular file (a pipe, /dev/null) is written as it is, unless another user could have planted it. A pipe
    must have a reader within 10 s.

    Args:
        path: the file; see `resolve` for links.
        data: its new content.
        mode: permissions of a new file; None for those of the umask.
        new: replace nothing.

    Raises:
        OutputError: the file cannot be written; a regular file is then as it was.

    """
    with output_errors(path):
        target = resolve(path)
        absent = not target.exists()
        if not absent and not target.is_file():
            _write_special(target, data)
            return
        with Temporary(target, tag=f"{os.getpid()}-{os.urandom(4).hex()}", new=new) as temporary:
            if absent and mode is not None:
                os.fchmod(temporary.fd, mode)
            with os.fdopen(os.dup(temporary.fd), "wb") as file:
                file.write(data)
            os.fsync(temporary.fd)
            temporary.publish()


def _write_special(target: Path, data: bytes) -> None:
    """Write to a pipe or device."""
    if _is_planted(target):
        raise OutputError(
            f"{target} was not written: it is a pipe or device of another user in a folder that others can write to",
            hint="write into a folder of your own",
        )
    end = time.monotonic() + _READER
    while True:
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            break
        except OSError as error:
            if error.errno != errno.ENXIO or not target.is_fifo():
                raise
            if time.monotonic() > end:
                raise OutputError(f"{target} is a pipe that no process reads", hint="start its reader first") from None
        time.sleep(0.05)
    os.set_blocking(descriptor, True)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
