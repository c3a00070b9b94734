"""Watchdog process of a repair: if the repair is killed while a record is deleted, it restores the record at once.

The store then holds everything that is needed to continue. Without the watchdog, the next repair would do it. The
process blocks on its standard input, which ends when the repair ends.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

#: The folder of the package, the only one that is added to the paths of the interpreter's isolated mode.
_PACKAGES = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(_PACKAGES))

from auditor.cli.isolated_process import start_isolated  # noqa: E402 - needs the path above
from auditor.errors import AuditorError  # noqa: E402

#: Written by a repair that ended by itself.
_DONE = b"done"
#: Written by the watchdog once it has imported what a recovery needs.
_READY = b"ready"
#: Seconds to wait for it.
_START = 60.0
#: Seconds to wait until the daemon releases the lock of a killed repair.
_PATIENCE = 15.0


class WatchdogFailed(AuditorError):
    """The watchdog process does not start."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"the process that restores a record after a kill did not start ({why}); nothing was deleted",
            hint="run auditor from a Python installation (pip, pipx), not from a frozen build",
        )


class Watchdog:
    """Starts and stops the watchdog process; thread-safe."""

    def __init__(self, address: Path) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process once.

        Raises:
            WatchdogFailed: It does not start; nothing may then be deleted.

        """
        with self._lock:
            if self._process is None:
                self._process = _started(self._address)

    def stop(self) -> None:
        """Stop the process after the repair has ended by itself."""
        with self._lock:
            if self._process is not None:
                self._process.communicate(_DONE)
                self._process = None


def _started(address: Path) -> subprocess.Popen[bytes]:
    try:
        process = start_isolated(__file__, str(address.absolute()))
    except OSError as error:
        raise WatchdogFailed(error.strerror or str(error)) from None
    if _read_ready(process):
        return process
    process.kill()
    process.communicate()
    raise WatchdogFailed(f"no answer from {sys.executable}")


def _read_ready(process: subprocess.Popen[bytes]) -> bool:
    if process.stdout is None:
        return False
    ready, _, _ = select.select([process.stdout], [], [], _START)
    return bool(ready) and os.read(process.stdout.fileno(), len(_READY)) == _READY


def main(arguments: list[str]) -> int:
    """Wait for the end of the repair; if it was killed, recover from it.

    Args:
        arguments: The path of containerd's socket.

    Returns:
        0 where nothing is left to recover, else 1.

    """
    from auditor import containerd
    from auditor.errors import Busy
    from auditor.repair.own_state import LOCK
    from auditor.repair.recover import clear

    os.write(1, _READY)
    if sys.stdin.buffer.read() == _DONE:
        return 0
    end = time.monotonic() + _PATIENCE
    try:
        with containerd.connect_writable(Path(arguments[0]), content_root=None) as store:
            while True:
                try:
                    with store.exclusive(LOCK):
                        return int(bool(clear(store).pending))
                except Busy:
                    if time.monotonic() > end:
                        return 1  # another repair holds the lock, and has recovered before its own work
                    time.sleep(0.05)
    except AuditorError:
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
