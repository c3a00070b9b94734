"""Print results to standard output or write them to a file atomically; print errors to stderr."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from auditor.errors import AuditorError, OutputError, UsageError
from auditor.formats.sanitize import plain


def check_target(path: Path | None) -> None:
    """Check an output path before the work.

    Raises:
        UsageError: It is a folder, or its folder does not exist.
        OutputError: It leads over a link that is not followed.

    """
    if path is None or str(path) == "-":
        return
    from auditor.atomic_write import output_errors, resolve

    with output_errors(path):
        resolve(path)
    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint="give a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}", hint="make it first, or choose another path")


def refuse_below(root: Path | None, *paths: Path | None) -> None:
    """Refuse to write on the disk of a stopped daemon.

    Args:
        root: --root; of `/`, which holds every path, only the daemon's own root counts.
        paths: what is to be written.

    Raises:
        UsageError: A path is below the root, or there is no root.

    """
    if root is None:
        return
    from auditor.offline.find_root import find_root

    # realpath takes a loop of links, where `resolve` raises RuntimeError.
    held = find_root(root) if os.path.realpath(root) == "/" else root
    for path in paths:
        if path is None or str(path) == "-":
            continue
        if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(held)):
            raise UsageError(f"{path} is below {held}, where nothing is written", hint="write to another disk")


def deliver(text: str, path: Path | None) -> None:
    """Write the result to `path`, or to standard output. Raises OutputError; the file is then unchanged."""
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
        # Standard output is broken; keep the interpreter from flushing it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise OutputError(
            f"the result could not be printed: {error.strerror}",
            hint="the reader of the output ended early, or its disk is full; --output FILE writes a file",
        ) from None


def print_error(error: AuditorError) -> None:
    """Print an error on stderr: message and hint."""
    print_message(f"auditor: {plain(error.message)}")
    if error.hint:
        print_message(f"hint: {plain(error.hint)}")


def echo_limits(*, quiet: bool, **limits: str | None) -> None:
    """Print the limits of a run as they were understood, on stderr; None is no limit."""
    given = [f"{name.replace('_', ' ')} {text}" for name, text in limits.items() if text is not None]
    if given and not quiet:
        print_message(f"auditor: limits: {', '.join(given)}")


def print_message(text: str) -> None:
    """Print a line on stderr; errors of stderr are ignored."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return
