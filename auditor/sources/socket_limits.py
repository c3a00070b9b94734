"""Sockets with a minimum transfer rate: urllib3's timeout applies to each `recv`, so one byte a minute passes it.

The head of an answer has a limit of wall-clock time instead: a server that sends `100 Continue` without end never lets
the reader wait.
"""

from __future__ import annotations

import io
import math
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

#: Bytes that must arrive within each stall limit.
LEAST = 64 << 10


class PacedSocket:
    """A connected socket with a limit on the time for each LEAST bytes.

    The limit is set by `settimeout`. Only the time spent waiting for the server counts.

    Attributes:
        deadline: End of all reading, by `time.monotonic`; also for bytes that do not reach the caller, such as
            trailers.

    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._span = math.inf
        self._waited = 0.0
        self._arrived = 0
        self._head = False
        self._head_end = math.inf
        self.deadline = math.inf

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - everything but reading is the socket's own
        return getattr(self._sock, name)

    def settimeout(self, seconds: float | None) -> None:
        """Start a limit of `seconds`; None is none. Sending has the socket's own timeout."""
        self._span = math.inf if seconds is None else seconds
        self._waited, self._arrived = 0.0, 0
        self.deadline = math.inf
        if self._head:
            self._head_end = time.monotonic() + self._span
        self._sock.settimeout(seconds)

    def makefile(self, *_: object, **__: object) -> io.BufferedReader:
        """Return a buffered reader with the limits; http.client reads answers through it."""
        return io.BufferedReader(_PacedReader(self, self._sock.makefile("rb", buffering=0)))

    @contextmanager
    def head(self) -> Iterator[None]:
        """Limit all reading in the block, by the clock; urllib3 sets the stall limit before or in the block."""
        self._head, self._head_end = True, time.monotonic() + self._span
        try:
            yield
        finally:
            self._head, self._head_end = False, math.inf

    def read_into(self, raw: socket.SocketIO, buffer: memoryview) -> int | None:
        """Read once.

        Raises:
            TimeoutError: The limit or the deadline is exceeded.

        """
        before = time.monotonic()
        left = min(self._span - self._waited, self.deadline - before, self._head_end - before)
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(None if left == math.inf else left)
        count = raw.readinto(buffer)
        self._account(time.monotonic() - before, count or 0)
        return count

    def _account(self, seconds: float, count: int) -> None:
        self._waited += seconds
        self._arrived += count
        if self._arrived >= LEAST:
            self._waited, self._arrived = 0.0, 0


class _PacedReader(io.RawIOBase):
    """Raw reader below http.client's buffered reader; keeps the socket open until it is closed, as SocketIO does."""

    def __init__(self, paced: PacedSocket, raw: socket.SocketIO) -> None:
        self._paced = paced
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:  # noqa: ANN401 - typeshed has no name for a writable buffer here
        return self._paced.read_into(self._raw, memoryview(buffer))

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Paced(HTTPConnection):
    """Common part of plain and TLS connections with a PacedSocket."""

    paced: PacedSocket | None = None

    def connect(self) -> None:
        super().connect()
        self.paced = PacedSocket(self.sock)
        self.sock = cast("socket.socket", self.paced)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        if self.paced is None:
            return super().getresponse()
        with self.paced.head():
            return super().getresponse()

    def _tunnel(self) -> None:
        """Read the answer of a proxy to CONNECT with the limit of a head; TLS needs the plain socket afterwards."""
        plain = self.sock
        paced = PacedSocket(plain)
        paced.settimeout(plain.gettimeout())
        self.sock = cast("socket.socket", paced)
        try:
            with paced.head():
                super()._tunnel()
        finally:
            self.sock = plain


class PacedHTTPConnection(_Paced):
    """A plain connection with a PacedSocket."""


class PacedHTTPSConnection(_Paced, HTTPSConnection):
    """A TLS connection with a PacedSocket; Python's ssl applies the connect limit to the whole handshake."""


class PacedHTTPPool(HTTPConnectionPool):
    """A pool of PacedHTTPConnection."""

    ConnectionCls = PacedHTTPConnection


class PacedHTTPSPool(HTTPSConnectionPool):
    """A pool of PacedHTTPSConnection."""

    ConnectionCls = PacedHTTPSConnection
