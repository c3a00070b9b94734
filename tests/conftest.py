"""What all tests begin with."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Let Ctrl-C be heard by us and by what we start, also where a shell began us in the background, deaf to it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
