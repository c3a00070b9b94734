"""Watchdog process of a repair: if the repair is killed while a record is deleted, it restores the record at once.

The store then holds everything that is needed to continue. Without the watchdog, the next repair would do it. The
process blocks on its standard input, which ends when the repair ends.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

#: Written by a repair that ended by itself.
_DONE = b"done"
#: Seconds to wait until the daemon releases the lock of a killed repair.
_PATIENCE = 15.0


class Watchdog:
    """Starts and stops the watchdog process; thread-safe."""

    def __init__(self, address: Path) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process once, in a session of its own, so that Ctrl-C does not reach it."""
        with self._lock:
            if self._process is None:
                command = [sys.executable, "-m", "auditor.cli.repair_watchdog", str(self._address)]
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )

    def stop(self) -> None:
        """Stop the process after the repair has ended by itself."""
        with self._lock:
            if self._process is not None:
                self._process.communicate(_DONE)
                self._process = None


def main(arguments: list[str]) -> int:
    """Wait for the end of the repair; if it was killed, recover from it.

    Args:
        arguments: The path of containerd's socket.

    Returns:
        0 where nothing is left to recover, else 1.

    """
    if sys.stdin.buffer.read() == _DONE:
        return 0
    from auditor import containerd
    from auditor.errors import AuditorError, Busy
    from auditor.repair.own_state import LOCK
    from auditor.repair.recover import clear

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
