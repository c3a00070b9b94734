"""A registry that serves one image and answers wrongly in a way that each repository's name chooses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, Final

from tests import images
from tests.images import BuiltImage

SIGNED_SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1+prettyjws"

Reply = Callable[["Handler", bytes], None]


@contextmanager
def serving(image: BuiltImage) -> Iterator[str]:
    """Serve `image` under every repository that WAYS names, and give the host."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"image": image}))
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients that give up are the point
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    """Serves documents and configs rightly, and layers in the way that the repository is named for."""

    image: BuiltImage
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Stay silent."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.strip("/").split("/")
        if len(parts) < 5:
            self.reply(200, b"{}")
        elif "manifests" in parts:
            self._manifest(parts[1])
        else:
            self._blob(parts[1], parts[-1].partition("?")[0])

    def _manifest(self, way: str) -> None:
        status = STATUSES.get(way.removeprefix("manifest-"), 0) if way.startswith("manifest-") else 0
        if status:
            self.reply(status, b'{"errors":[{"code":"TOOMANYREQUESTS","message":"enough"}]}')
        elif way == "schema-1":
            self.document(schema_1(self.image), SIGNED_SCHEMA_1)
        elif way == "wrong-manifest":
            self.document(self.image.manifest + b" ", self.image.target.media_type, digest=self.image.digest)
        else:
            self.document(self.image.manifest, self.image.target.media_type)

    def _blob(self, way: str, digest: str) -> None:
        body = self.image.blobs[digest]
        if digest == self.image.config_digest:
            self.reply(200, body)
        elif way in STATUSES:
            self.reply(STATUSES[way], b'{"errors":[{"code":"DENIED","message":"no"}]}')
        else:
            WAYS.get(way, WAYS["good"])(self, body)

    def document(self, body: bytes, media_type: str, *, digest: str = "") -> None:
        extra = {"Content-Type": media_type, "Docker-Content-Digest": digest or images.sha256(body)}
        self.reply(200, body, **extra)

    def reply(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            with suppress(OSError):
                self.wfile.write(body)

    def cut(self, body: bytes) -> None:
        """Promise all, send half, close."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2])
        self.close_connection = True


def schema_1(image: BuiltImage) -> bytes:
    """An image as registries of long ago have it."""
    body = {"schemaVersion": 1, "name": "x", "tag": "1", "architecture": "amd64"}
    layers = [{"blobSum": layer.digest} for layer in image.layers]
    return json.dumps({**body, "fsLayers": layers, "history": [{"v1Compatibility": "{}"}]}).encode()


STATUSES: Final = {"not-found": 404, "forbidden": 403, "too-many": 429, "broken": 500, "bad-gateway": 502}
WAYS: Final[dict[str, Reply]] = {
    "good": lambda handler, body: handler.reply(200, body),
    "empty": lambda handler, _body: handler.reply(200, b""),
    "page": lambda handler, _body: handler.reply(200, b"<html>please log in</html>"),
    "short": lambda handler, body: handler.reply(200, body[:-7]),
    "cut": lambda handler, body: handler.cut(body),
    "long": lambda handler, body: handler.reply(200, body + b"12345"),
    "flipped": lambda handler, body: handler.reply(200, body[:-1] + bytes([body[-1] ^ 1])),
}
