"""A second process that outlives a repair which is killed while a record is away, and puts it back.

Through the API alone a bad file can only be replaced by deleting its record for a moment. All that is needed to go on
is in the store by then; this process is there to go on at once. It sleeps until its standard input ends.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

_DONE = b"done"
#: Seconds that the daemon may take to notice that the killed repair is gone, and let us in.
_PATIENCE = 15.0


class Guard:
    """The repair's side: `start` before the first record goes, `stop` at an orderly end."""

    def __init__(self, address: Path) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the second process, once; in a session of its own, so that Ctrl-C is not for it."""
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
        """Send it home; what it does if it was killed too, the next repair does."""
        with self._lock:
            if self._process is not None:
                self._process.communicate(_DONE)
                self._process = None


def main(arguments: list[str]) -> int:
    """Wait for the repair to end; if it did not end by itself, go on with what it began."""
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
                        return 1  # another repair is at work: it has done this already
                    time.sleep(0.05)
    except AuditorError:
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
