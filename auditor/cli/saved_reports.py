"""Read saved reports from files, folders and standard input; unreadable files are named and the rest is read."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from auditor.archive.compression import decompress
from auditor.archive.problems import StopReading
from auditor.concurrency import CHUNK
from auditor.errors import AuditorError, UsageError
from auditor.formats.json_report import load
from auditor.model.command_line import command
from auditor.model.findings import Report
from auditor.regular_file import is_named_pipe
from auditor.report.fleet import UnreadFile
from auditor.report.health import MAX_REPORT


class Loaded(msgspec.Struct, frozen=True):
    """The reports that were read, and the files that were not."""

    reports: tuple[Report, ...]
    unread: tuple[UnreadFile, ...] = ()


def load_all(paths: Sequence[Path]) -> Loaded:
    """Read every report, and go on after a file that is none.

    Args:
        paths: files, plain or packed with gzip or zstd; folders with such files; `-` for standard input.

    Returns:
        The reports in the order of the paths, and each file that could not be read with the reason.

    Raises:
        UsageError: no file is a report, or a folder has no files.

    """
    reports: list[Report] = []
    errors: list[tuple[str, UsageError]] = []
    for path in paths:
        for file in files_of(path):
            try:
                reports.append(load_one(file) if file == path else _regular(file))
            except UsageError as error:
                errors.append((str(file), error))
    if not reports:
        raise _none(errors)
    return Loaded(tuple(reports), tuple(UnreadFile(file=name, reason=error.message) for name, error in errors))


def _none(errors: Sequence[tuple[str, UsageError]]) -> UsageError:
    (_, first), *others = errors
    more = f"; nor can {len(others)} more be read" if others else ""
    return UsageError(f"{first.message}{more}", hint=first.hint)


def load_one(path: Path) -> Report:
    """Read one saved report. Raises UsageError if the file cannot be read or is not a report."""
    name = "standard input" if str(path) == "-" else str(path)
    try:
        if str(path) == "-":
            return load(content(sys.stdin.buffer, name=name), name=name)
        if is_named_pipe(path):
            hint = f"auditor report - < {command(str(path))}"
            raise UsageError(f"{path} cannot be read: it is a pipe", hint=hint)
        with path.open("rb") as file:
            return load(content(file, name=name), name=name)
    except OSError as error:
        raise _unreadable(name, error.strerror or "") from None


def content(file: BinaryIO, *, name: str) -> bytes:
    """Return the bytes of a file, unpacked where it is gzip or zstd.

    Raises:
        UsageError: it cannot be unpacked.
        OSError: it cannot be read, or has more than MAX_REPORT bytes.

    """
    try:
        _, chunks = decompress(iter(lambda: file.read(CHUNK), b""))
        whole = bytearray()
        for chunk in chunks:
            whole += chunk
            if len(whole) > MAX_REPORT:
                raise OSError(0, f"it is larger than {MAX_REPORT >> 20} MiB")
        return bytes(whole)
    except StopReading as stopped:
        raise _unreadable(name, stopped.problem.message) from None
    except AuditorError as error:
        raise UsageError(f"{name} cannot be read: {error.message}", hint=error.hint) from None


def _regular(path: Path) -> Report:
    """Read a report found in a folder, where a pipe could block the reader. Raises UsageError as load_one."""
    if path.exists() and not path.is_file():
        raise _unreadable(str(path), "it is not a regular file")
    return load_one(path)


def _unreadable(name: str, why: str) -> UsageError:
    return UsageError(f"{name} cannot be read: {why}", hint="auditor check --format json --output FILE writes a report")


def files_of(path: Path) -> Iterator[Path]:
    """The path itself; for a folder every file below it that is not hidden. Raises UsageError for an empty folder."""
    if str(path) == "-" or not path.is_dir():
        yield path
        return
    files = sorted(_below(path))
    if not files:
        raise UsageError(f"{path} has no files", hint="auditor check --format json --output FILE writes a report")
    yield from files


def _below(folder: Path) -> Iterator[Path]:
    """Files and links below a folder. Raises UsageError for a folder that cannot be listed."""

    def refuse(error: OSError) -> None:
        raise UsageError(f"{error.filename} cannot be listed: {error.strerror}", hint="run as a user who may read it")

    for place, folders, files in os.walk(folder, onerror=refuse):
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(place) / name for name in (*links, *files) if not name.startswith("."))
