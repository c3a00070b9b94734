"""The head of an answer has a limit by the clock, however fast it comes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from auditor.sources.socket_limits import PacedSocket


@contextmanager
def flooding() -> Iterator[PacedSocket]:
    """A connection whose other end sends without end."""
    here, there = socket.socketpair()

    def flood() -> None:
        with suppress(OSError):
            while True:
                there.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        yield PacedSocket(here)
    finally:
        here.close()
        thread.join()
        there.close()


def test_a_flood_of_heads_ends_by_the_clock() -> None:
    with flooding() as paced:
        paced.settimeout(0.2)
        with paced.makefile() as file, paced.head(), pytest.raises(TimeoutError):
            file.read()


def test_the_limit_may_be_set_while_the_head_is_read() -> None:
    with flooding() as paced, paced.makefile() as file, paced.head():
        paced.settimeout(0.2)
        with pytest.raises(TimeoutError):
            file.read()


def test_a_flood_of_content_goes_on_as_long_as_it_comes() -> None:
    with flooding() as paced:
        paced.settimeout(5)
        with paced.makefile() as file:
            with paced.head():
                assert file.readline() == b"HTTP/1.1 100 Continue\r\n"
            assert len(file.read(1 << 20)) == 1 << 20
