"""`python -m auditor` and the console script; answers `--version` before anything heavy is imported."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import ModuleType
from typing import NoReturn, cast

from auditor.import_stand_ins import stand_ins
from auditor.version import __version__

#: Objects made between two collections: some tens of megabytes.
_OBJECTS = 200_000


def main() -> int:
    """Run the command line; return the exit status."""
    if sys.argv[1:] == ["--version"]:
        return _print_version()
    try:
        # An interrupt in the middle of an import may crash extension modules; it is raised after them.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            _import_msgspec()
            from auditor.cli import app  # noqa: PLC0415 - see above
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        return app.main(ends=True)
    except KeyboardInterrupt:  # during the imports; `app.main` handles later ones
        sys.stderr.write("auditor: interrupted\n")
        return 130


def _print_version() -> int:
    try:
        sys.stdout.write(f"auditor {__version__}\n")
        sys.stdout.flush()
    except OSError as error:
        sys.stderr.write(f"auditor: the output could not be written: {error.strerror}\n")
        return 3
    return 0


def _import_msgspec() -> None:
    """Import msgspec without the optional typing_extensions, which imports inspect, ast and dis, and without textwrap.

    msgspec falls back to `typing`, which has everything that the records here use.
    """
    optional = "typing_extensions"
    if optional not in sys.modules:
        sys.modules[optional] = cast("ModuleType", None)  # what the import system takes for "not installed"
        try:
            with stand_ins("textwrap"):
                import msgspec  # noqa: F401, PLC0415
        finally:
            del sys.modules[optional]


def _open_closed_streams() -> None:
    """Open /dev/null where the caller closed a standard stream, as in `>&-`.

    Otherwise the next file that is opened gets the descriptor, and what is printed goes into it. Text is dropped; the
    descriptor itself cannot be written to, so that `export --output -` finds out.
    """
    closed = [(number, name) for number, name in enumerate(("stdin", "stdout", "stderr")) if getattr(sys, name) is None]
    for number, _ in closed:
        null = os.open(os.devnull, os.O_RDONLY)
        if null != number:
            os.dup2(null, number)
            os.close(null)
    for number, name in closed:
        setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "w" if number else "r", encoding="utf-8"))


def run() -> NoReturn:
    """Run and end the process at once.

    Leases, temporary files and progress bars are cleaned up by then. Freeing the objects of an audit one by one would
    take a tenth of the time of a check, and so would frequent cycle collection; the collector stays on for long runs.
    """
    gc.set_threshold(_OBJECTS)
    _open_closed_streams()
    status = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(status)


if __name__ == "__main__":
    run()
