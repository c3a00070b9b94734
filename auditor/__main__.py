"""`python -m auditor` and the console script; answers `--version` before anything heavy is imported."""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

from auditor.version import __version__

#: Objects made between two collections: some tens of megabytes.
_OBJECTS = 200_000


def main() -> int:
    """Run the command line; return the exit status."""
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"auditor {__version__}\n")
        return 0
    try:
        from auditor.cli import app  # noqa: PLC0415 - see above

        return app.main()
    except KeyboardInterrupt:  # while the program is being loaded; what comes later is caught there
        sys.stderr.write("auditor: interrupted\n")
        return 130


def run() -> NoReturn:
    """Run and end the process at once.

    By now leases, temporary files and bars are gone; taking down what an audit built, object by object, would cost a
    check a tenth of its time. Looking for cycles among what was just imported and built costs as much; they are looked
    for all the same, in the long runs that might make many.
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
