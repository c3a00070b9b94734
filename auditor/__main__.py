"""`python -m auditor` and the console script; answers `--version` before anything heavy is imported."""

from __future__ import annotations

import gc
import os
import signal
import sys
from types import ModuleType
from typing import NoReturn, cast

from auditor.version import __version__

#: Objects made between two collections: some tens of megabytes.
_OBJECTS = 200_000


def main() -> int:
    """Run the command line; return the exit status."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"auditor {__version__}\n")
        return 0
    try:
        # An interrupt in the middle of an import may crash extension modules; it is raised after them.
        unblocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            _import_msgspec()
            from auditor.cli import app  # noqa: PLC0415 - see above
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, unblocked)
        return app.main()
    except KeyboardInterrupt:  # during the imports; `app.main` handles later ones
        sys.stderr.write("auditor: interrupted\n")
        return 130


def _import_msgspec() -> None:
    """Import msgspec without the optional typing_extensions, which imports inspect, ast and dis.

    msgspec falls back to `typing`, which has everything that the records here use.
    """
    optional = "typing_extensions"
    if optional not in sys.modules:
        sys.modules[optional] = cast("ModuleType", None)  # what the import system takes for "not installed"
        try:
            import msgspec  # noqa: F401, PLC0415
        finally:
            del sys.modules[optional]


def run() -> NoReturn:
    """Run and end the process at once.

    Leases, temporary files and progress bars are cleaned up by then. Freeing the objects of an audit one by one would
    take a tenth of the time of a check, and so would frequent cycle collection; the collector stays on for long runs.
    """
    gc.set_threshold(_OBJECTS)
    status = main()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(status)


if __name__ == "__main__":
    run()
