"""/metrics and /healthz over HTTP, read-only: the last results of the loop.

Clients cannot take the loop's descriptors or threads: connections are limited in number and in time.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from auditor.errors import UsageError

#: Content type of the Prometheus text format.
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_PLAIN: Final = "text/plain; charset=utf-8"
#: Seconds after which a client is disconnected, whatever it sends or reads.
_PATIENCE: Final = 10.0
#: Maximum of connections at a time; further ones are closed at once.
CONNECTIONS: Final = 16


class Board:
    """The last state of the loop; shared by threads. `clock` is monotonic, in seconds."""

    def __init__(self, *, patience: timedelta, clock: Callable[[], float]) -> None:
        self._patience = patience.total_seconds()
        self._clock = clock
        self._heard = clock()
        self._status: int | None = None
        self.metrics = ""

    def beat(self) -> None:
        """Record a sign of life of the loop."""
        self._heard = self._clock()

    def post(self, metrics: str, *, status: int) -> None:
        """Record the metrics and exit status of a round."""
        self.metrics, self._status = metrics, status
        self.beat()

    def health(self) -> tuple[bool, str]:
        """Whether the loop is alive, and a sentence; damage in the store does not matter here, it is in /metrics."""
        silent = self._clock() - self._heard
        last = "no round has ended yet" if self._status is None else f"the last round ended with {self._status}"
        if silent > self._patience:
            return False, f"no sign of life of the loop for {silent:.0f} s; {last}\n"
        return True, f"ok; {last}\n"


@contextmanager
def serving(listen: str | None, board: Board) -> Iterator[str | None]:
    """Serve during the block; gives the address. Raises UsageError if it cannot listen there."""
    if listen is None:
        yield None
        return
    host, port = address(listen)
    server = _server(host, port, board)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"{server.server_address[0]!s}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def address(text: str) -> tuple[str, int]:
    """Parse HOST:PORT, [HOST]:PORT or :PORT (all addresses). Raises UsageError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:  # noqa: PLR2004
        raise UsageError(
            f"{text[:100]!r} is not an address to listen on", hint="write 127.0.0.1:9469, or :9469 for all"
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def _server(host: str, port: int, board: Board) -> ThreadingHTTPServer:
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True
        block_on_close = False
        free = threading.BoundedSemaphore(CONNECTIONS)

        def verify_request(self, request: object, client_address: object) -> bool:  # noqa: ARG002 - the library's
            """Whether a connection is free; where it is not, the library closes the new one."""
            return self.free.acquire(blocking=False)

        def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
            """Serve one connection, for a limited time."""
            end = threading.Timer(_PATIENCE, _hang_up, (request,))
            end.daemon = True
            end.start()
            try:
                super().process_request_thread(request, client_address)
            finally:
                end.cancel()
                self.free.release()

        def handle_error(self, request: object, client_address: object) -> None:
            """Ignore clients that disconnect."""

    class Handler(_Handler):
        shown = board

    try:
        return Server((host, port), Handler)
    except (OSError, UnicodeError) as error:
        words = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"cannot listen on {host}:{port}: {words}", hint="choose another --listen") from None


def _hang_up(connection: socket.socket) -> None:
    """End a connection under the thread that serves it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    shown: Board
    server_version = "auditor"
    sys_version = ""
    timeout = _PATIENCE

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._answer(HTTPStatus.OK, METRICS_TYPE, self.shown.metrics)
        elif path in ("/healthz", "/livez"):
            well, words = self.shown.health()
            self._answer(HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE, _PLAIN, words)
        else:
            self._answer(HTTPStatus.NOT_FOUND, _PLAIN, "paths: /metrics, /healthz\n")

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Log nothing: scrapes are frequent."""
