"""A registry that misbehaves in one way for each repository name, and remembers every request that it got."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, Final
from urllib.parse import urlsplit

PATH: Final = re.compile(r"/v2/(?P<repository>[^/?]+)/(?P<kind>blobs|manifests)/(?P<digest>sha256:[0-9a-f]{64})")
DRIP_SECONDS: Final = 0.2


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


@dataclass
class Hostile:
    """A server with one blob; `elsewhere` is the address of another one, to which it may send its clients."""

    content: bytes
    elsewhere: str = ""
    requests: list[Request] = field(default_factory=list)
    tries: dict[str, Iterator[int]] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)
    host: str = ""
    scheme: str = "http"

    @property
    def digest(self) -> str:
        return f"sha256:{hashlib.sha256(self.content).hexdigest()}"

    @property
    def root(self) -> str:
        return f"{self.scheme}://{self.host}"

    def seen(self, part: str = "") -> list[Request]:
        """Return the requests whose path has `part`."""
        return [request for request in self.requests if part in request.path]

    @contextmanager
    def serving(self, tls: ssl.SSLContext | None = None) -> Iterator[Hostile]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hostile": self}))
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients that give up are the point
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
            self.scheme = "https"
        self.host = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self.stopping.set()
            server.shutdown()
            server.server_close()
            thread.join()


class Handler(BaseHTTPRequestHandler):
    """Finds the behaviour that the path names."""

    hostile: Hostile
    protocol_version = "HTTP/1.1"
    headers: Message

    def log_message(self, *_: Any) -> None:
        """Stay silent."""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def do_CONNECT(self) -> None:
        """Be a proxy that leads elsewhere, wherever it is asked to lead."""
        self.hostile.requests.append(
            Request(self.command, self.path, {name.title(): value for name, value in self.headers.items()})
        )
        host, _, port = urlsplit(self.hostile.elsewhere).netloc.partition(":")
        with socket.create_connection((host, int(port))) as there:
            self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            thither = threading.Thread(target=pump, args=(self.connection, there))
            thither.start()
            pump(there, self.connection)
            thither.join()
        self.close_connection = True

    def _answer(self, body: bytes) -> None:
        self.hostile.requests.append(
            Request(self.command, self.path, {name.title(): value for name, value in self.headers.items()}, body)
        )
        if self.path.startswith("http://"):  # as to a proxy
            self.path = "/" + self.path.split("/", 3)[3]
        match = PATH.match(self.path)
        name = match["repository"] if match else urlsplit(self.path).path.strip("/").replace("/", "-")
        behaviour = BEHAVIOURS.get(name)
        if behaviour is None:
            self.reply(404)
        else:
            behaviour(self)

    # What behaviours are made of.

    @property
    def content(self) -> bytes:
        return self.hostile.content

    @property
    def attempt(self) -> int:
        """Count the requests for this path, from 0; ask once a request."""
        return next(self.hostile.tries.setdefault(urlsplit(self.path).path, count()))

    @property
    def offset(self) -> int:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(match[1]) if match else 0

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        self.head(status, {**extra, "Content-Length": str(len(body))})
        self.wfile.write(body)

    def cut(self, body: bytes, length: int, *, status: int = 200, **headers: str) -> None:
        """Promise `length` bytes, send `body`, close."""
        extra = {name.replace("_", "-"): value for name, value in headers.items()}
        self.head(status, {**extra, "Content-Length": str(length), "Connection": "close"})
        self.wfile.write(body)
        self.close_connection = True

    def chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def wait(self) -> None:
        """Say nothing until the test is over."""
        self.hostile.stopping.wait()
        self.close_connection = True

    def drip(self, data: bytes) -> None:
        """Send a byte now and then."""
        for at in range(len(data)):
            if self.hostile.stopping.wait(DRIP_SECONDS):
                break
            self.wfile.write(data[at : at + 1])
            self.wfile.flush()
        self.close_connection = True


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass bytes on until one side has had enough."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


BEHAVIOURS: Final[dict[str, Callable[[Handler], None]]] = {}


def behaviour(function: Callable[[Handler], None]) -> Callable[[Handler], None]:
    BEHAVIOURS[function.__name__.replace("_", "-")] = function
    return function


@behaviour
def good(handler: Handler) -> None:
    handler.reply(200, handler.content)


@behaviour
def only_blobs(handler: Handler) -> None:
    if "/manifests/" in handler.path:
        handler.reply(404)
    else:
        handler.reply(200, handler.content)


@behaviour
def flipped(handler: Handler) -> None:
    last = handler.content[-1] ^ 1
    handler.reply(200, handler.content[:-1] + bytes([last]))


@behaviour
def short(handler: Handler) -> None:
    handler.reply(200, handler.content[:-1])


@behaviour
def short_chunked(handler: Handler) -> None:
    handler.head(200, {"Transfer-Encoding": "chunked"})
    handler.chunk(handler.content[:-1])
    handler.wfile.write(b"0\r\n\r\n")


@behaviour
def empty(handler: Handler) -> None:
    handler.reply(200)


@behaviour
def long(handler: Handler) -> None:
    handler.reply(200, handler.content + b"x")


@behaviour
def long_chunked(handler: Handler) -> None:
    handler.head(200, {"Transfer-Encoding": "chunked"})
    handler.chunk(handler.content + b"x")
    handler.wfile.write(b"0\r\n\r\n")


@behaviour
def endless(handler: Handler) -> None:
    handler.head(200, {"Transfer-Encoding": "chunked"})
    while not handler.hostile.stopping.is_set():
        handler.chunk(handler.content)


@behaviour
def endless_trailers(handler: Handler) -> None:
    handler.head(200, {"Transfer-Encoding": "chunked"})
    handler.chunk(handler.content)
    handler.wfile.write(b"0\r\n")
    while not handler.hostile.stopping.is_set():
        handler.wfile.write(b"More: to come\r\n" * 1000)


@behaviour
def endless_continue(handler: Handler) -> None:
    while not handler.hostile.stopping.is_set():
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)


@behaviour
def endless_error(handler: Handler) -> None:
    handler.head(404, {"Transfer-Encoding": "chunked"})
    while not handler.hostile.stopping.is_set():
        handler.chunk(b"x" * 4096)


@behaviour
def unauthorized_basic(handler: Handler) -> None:
    handler.reply(401, echo(handler), WWW_Authenticate='Basic realm="hostile"')


@behaviour
def unauthorized_bearer(handler: Handler) -> None:
    realm = f"{handler.hostile.root}/token"
    handler.reply(401, echo(handler), WWW_Authenticate=f'Bearer realm="{realm}",service="hostile"')


@behaviour
def unauthorized_mute(handler: Handler) -> None:
    handler.reply(401, echo(handler))


@behaviour
def token(handler: Handler) -> None:
    handler.reply(200, json.dumps({"token": TOKEN, "expires_in": 300}).encode())


TOKEN: Final = "an-access-token-that-nobody-else-may-see"


@behaviour
def forbidden(handler: Handler) -> None:
    handler.reply(403, echo(handler))


@behaviour
def absent(handler: Handler) -> None:
    handler.reply(404, echo(handler))


@behaviour
def teapot(handler: Handler) -> None:
    handler.reply(418, echo(handler))


@behaviour
def busy_then_fine(handler: Handler) -> None:
    if handler.attempt == 0:
        handler.reply(429, Retry_After="7")
    else:
        good(handler)


@behaviour
def busy_for_an_hour(handler: Handler) -> None:
    handler.reply(429, Retry_After="3600")


@behaviour
def busy_for_ever(handler: Handler) -> None:
    handler.reply(429, echo(handler))


@behaviour
def error_then_fine(handler: Handler) -> None:
    if handler.attempt == 0:
        handler.reply(500)
    else:
        good(handler)


@behaviour
def error_for_ever(handler: Handler) -> None:
    handler.reply(500, echo(handler))


def half(handler: Handler) -> int:
    return len(handler.content) // 2


@behaviour
def cut_then_range(handler: Handler) -> None:
    at, size = handler.offset, len(handler.content)
    if handler.attempt == 0:
        handler.cut(handler.content[: half(handler)], size)
    else:
        handler.reply(206 if at else 200, handler.content[at:], Content_Range=f"bytes {at}-{size - 1}/{size}")


@behaviour
def cut_then_range_ignored(handler: Handler) -> None:
    if handler.attempt == 0:
        handler.cut(handler.content[: half(handler)], len(handler.content))
    else:
        good(handler)


@behaviour
def cut_then_another_range(handler: Handler) -> None:
    size = len(handler.content)
    if handler.attempt == 0:
        handler.cut(handler.content[: half(handler)], size)
    else:
        handler.reply(206, handler.content[1:], Content_Range=f"bytes 1-{size - 1}/{size}")


@behaviour
def cut_then_wrong_bytes(handler: Handler) -> None:
    at, size = handler.offset, len(handler.content)
    if handler.attempt == 0:
        handler.cut(handler.content[: half(handler)], size)
    else:
        handler.reply(206, b"\0" * (size - at), Content_Range=f"bytes {at}-{size - 1}/{size}")


@behaviour
def cut_then_no_range(handler: Handler) -> None:
    if handler.attempt == 0:
        handler.cut(handler.content[: half(handler)], len(handler.content))
    else:
        handler.reply(416)


@behaviour
def cut_for_ever(handler: Handler) -> None:
    handler.cut(b"", len(handler.content))


@behaviour
def cut_by_the_byte(handler: Handler) -> None:
    at, size = handler.offset, len(handler.content)
    status = 206 if at else 200
    handler.cut(handler.content[at : at + 1], size - at, status=status, Content_Range=f"bytes {at}-{size - 1}/{size}")


@behaviour
def unframed_cut(handler: Handler) -> None:
    handler.head(200, {"Connection": "close"})
    handler.wfile.write(handler.content[: half(handler)])
    handler.close_connection = True


@behaviour
def redirect_elsewhere(handler: Handler) -> None:
    handler.reply(307, Location=f"{handler.hostile.elsewhere}/v2/good/blobs/{handler.hostile.digest}?signature=s3cret")


@behaviour
def redirect_elsewhere_and_back(handler: Handler) -> None:
    back = f"{handler.hostile.elsewhere}/back?to={handler.hostile.root}"
    handler.reply(307, Location=back)


@behaviour
def back(handler: Handler) -> None:
    to = urlsplit(handler.path).query.removeprefix("to=")
    handler.reply(307, Location=f"{to}/v2/good/blobs/{handler.hostile.digest}")


@behaviour
def redirect_elsewhere_that_wants_credentials(handler: Handler) -> None:
    handler.reply(307, Location=f"{handler.hostile.elsewhere}/v2/unauthorized-basic/blobs/{handler.hostile.digest}")


@behaviour
def redirect_at_home(handler: Handler) -> None:
    handler.reply(302, Location=f"/v2/good/blobs/{handler.hostile.digest}")


@behaviour
def redirect_file(handler: Handler) -> None:
    handler.reply(302, Location="file:///etc/passwd")


@behaviour
def redirect_circle(handler: Handler) -> None:
    handler.reply(302, Location=handler.path)


@behaviour
def redirect_circle_of_two(handler: Handler) -> None:
    other = "odd" if handler.path.endswith("even") else "even"
    handler.reply(302, Location=f"{urlsplit(handler.path).path}?{other}")


@behaviour
def redirect_for_ever(handler: Handler) -> None:
    handler.reply(302, Location=f"{urlsplit(handler.path).path}?{handler.attempt}")


@behaviour
def redirect_nowhere(handler: Handler) -> None:
    handler.reply(302, Location="http://[half-an-address/")


@behaviour
def redirect_with_a_name(handler: Handler) -> None:
    handler.reply(302, Location=f"{handler.hostile.elsewhere.replace('//', '//user:pass@')}/v2/good/blobs/x")


@behaviour
def token_hangs(handler: Handler) -> None:
    _challenge(handler, "token-hang")


@behaviour
def token_hang(handler: Handler) -> None:
    handler.wait()


@behaviour
def token_is_endless(handler: Handler) -> None:
    _challenge(handler, "endless")


@behaviour
def token_is_none(handler: Handler) -> None:
    _challenge(handler, "no-token")


@behaviour
def no_token(handler: Handler) -> None:
    handler.reply(200, b"{}")


@behaviour
def token_breaks_lines(handler: Handler) -> None:
    _challenge(handler, "token-of-two-lines")


@behaviour
def token_of_two_lines(handler: Handler) -> None:
    handler.reply(200, json.dumps({"token": "a\r\nInjected: yes"}).encode())


@behaviour
def token_elsewhere(handler: Handler) -> None:
    realm = f"{handler.hostile.elsewhere}/token"
    if handler.headers.get("Authorization") == f"Bearer {TOKEN}":
        good(handler)
    else:
        handler.reply(401, WWW_Authenticate=f'Bearer realm="{realm}",service="hostile"')


@behaviour
def token_in_a_file(handler: Handler) -> None:
    handler.reply(401, WWW_Authenticate='Bearer realm="file:///etc/passwd"')


@behaviour
def token_redirected(handler: Handler) -> None:
    _challenge(handler, "redirect-elsewhere")


def _challenge(handler: Handler, realm: str) -> None:
    handler.reply(401, WWW_Authenticate=f'Bearer realm="{handler.hostile.root}/{realm}",service="hostile"')


@behaviour
def silent(handler: Handler) -> None:
    handler.wait()


@behaviour
def dripping_head(handler: Handler) -> None:
    handler.drip(b"HTTP/1.1 200 OK\r\n" + b"X-Slow: loris\r\n" * 1000)


@behaviour
def dripping_body(handler: Handler) -> None:
    handler.head(200, {"Content-Length": str(len(handler.content))})
    handler.drip(handler.content)


@behaviour
def dripping_chunk_size(handler: Handler) -> None:
    handler.head(200, {"Transfer-Encoding": "chunked"})
    handler.drip(b"1;" + b"x" * 10_000)


@behaviour
def no_http(handler: Handler) -> None:
    handler.wfile.write(b"220 mail.example ESMTP\r\n")
    handler.close_connection = True


@behaviour
def garbled_head(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nno colon here\r\n: no name\r\n\r\nno body")
    handler.close_connection = True


@behaviour
def redirect_elsewhere_to_a_garbled_head(handler: Handler) -> None:
    place = f"/v2/garbled-head/blobs/{handler.hostile.digest}"
    handler.reply(307, Location=f"{handler.hostile.elsewhere}{place}?signature=s3cret")


@behaviour
def huge_head(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X-Much: more\r\n" * 10_000 + b"\r\n")
    handler.close_connection = True


def echo(handler: Handler) -> bytes:
    """Repeat what the client sent, as a server does that wants our log to hold our password."""
    return "\n".join(f"{name}: {value}" for name, value in handler.headers.items()).encode()
