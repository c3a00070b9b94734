"""Sockets that give up on a server that drips: urllib3's limit is for each `recv`, and a byte a minute passes it."""

from __future__ import annotations

import io
import math
import socket
import time
from typing import Any, cast

from urllib3 import HTTPConnectionPool, HTTPResponse, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection

#: The bytes that must arrive in each span of the stall limit.
LEAST = 64 << 10


class PacedSocket:
    """A connected socket whose reading is limited by what arrives, not by how often something does.

    The span set by `settimeout`, in seconds, starts anew with each LEAST bytes, and never while `strict` is set, as it
    is for the head of an answer. Only time spent waiting for the server counts: a slow consumer is not its fault.
    `deadline` is of `time.monotonic`; it also ends what never reaches the caller, such as endless trailers.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._span = math.inf
        self._waited = 0.0
        self._arrived = 0
        self.strict = False
        self.deadline = math.inf

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - everything but reading is the socket's own
        return getattr(self._sock, name)

    def settimeout(self, seconds: float | None) -> None:
        """Start a span of `seconds`; None is no limit. Sending keeps the socket's limit for each piece."""
        self._span = math.inf if seconds is None else seconds
        self._waited, self._arrived = 0.0, 0
        self.deadline = math.inf
        self._sock.settimeout(seconds)

    def makefile(self, *_: object, **__: object) -> io.BufferedReader:
        """A buffered reader with the limits; http.client reads all of an answer through one."""
        return io.BufferedReader(_PacedReader(self, self._sock.makefile("rb", buffering=0)))

    def read_into(self, raw: socket.SocketIO, buffer: memoryview) -> int | None:
        """Read once. Raises TimeoutError when the span or the deadline is over."""
        before = time.monotonic()
        left = min(self._span - self._waited, self.deadline - before)
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(None if left == math.inf else left)
        count = raw.readinto(buffer)
        self._account(time.monotonic() - before, count or 0)
        return count

    def _account(self, seconds: float, count: int) -> None:
        self._waited += seconds
        self._arrived += count
        if self._arrived >= LEAST and not self.strict:
            self._waited, self._arrived = 0.0, 0


class _PacedReader(io.RawIOBase):
    """What http.client's buffered reader reads from; keeps the socket open as long as itself, as SocketIO does."""

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
    """What both kinds of connection do more than urllib3's."""

    paced: PacedSocket | None = None

    def connect(self) -> None:
        super().connect()
        self.paced = PacedSocket(self.sock)
        self.sock = cast("socket.socket", self.paced)

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]
        if self.paced is None:
            return super().getresponse()
        self.paced.strict = True
        try:
            return super().getresponse()
        finally:
            self.paced.strict = False


class PacedHTTPConnection(_Paced):
    """A plain connection with a pace."""


class PacedHTTPSConnection(_Paced, HTTPSConnection):
    """A TLS connection with a pace; the handshake has the connect limit as a whole from Python's ssl."""


class PacedHTTPPool(HTTPConnectionPool):
    """A pool of paced plain connections."""

    ConnectionCls = PacedHTTPConnection


class PacedHTTPSPool(HTTPSConnectionPool):
    """A pool of paced TLS connections."""

    ConnectionCls = PacedHTTPSConnection
