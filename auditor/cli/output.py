"""Putting results out: to standard output, or to a file whole or not at all; and saying errors."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from auditor.errors import AuditorError, OutputError, UsageError
from auditor.formats.sanitize import plain


def check_target(path: Path | None) -> None:
    """Refuse early what cannot be written later. Raises UsageError for a missing folder or a folder as the file."""
    if path is None or str(path) == "-":
        return
    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint="name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", hint="make it first, or write elsewhere")


def deliver(text: str, path: Path | None) -> None:
    """Write the result. Raises OutputError; then the file is as it was before."""
    if path is None or str(path) == "-":
        _print(text)
    else:
        from auditor.atomic_write import write_whole

        write_whole(path, text.encode())


def _print(text: str) -> None:
    try:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
    except OSError as error:
        # Nothing can be said on this stream any more; the interpreter must not try at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise OutputError(
            f"the result could not be printed: {error.strerror}",
            hint="whatever read the output ended early, or its disk is full; --output FILE writes a file",
        ) from None


def complain(error: AuditorError) -> None:
    """Say an error on stderr: one sentence and one hint."""
    say(f"auditor: {plain(error.message)}")
    if error.hint:
        say(f"hint: {plain(error.hint)}")


def say(text: str) -> None:
    """Print a line on stderr; a stderr that is gone is no reason to fail."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return
