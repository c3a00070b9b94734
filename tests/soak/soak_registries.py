"""Registries that answer with changed HTTP, at changed speeds: bytes are right or there is one sentence, in time."""

from __future__ import annotations

import json
import random
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from auditor.errors import SourceError
from auditor.model.blob_source import Hints
from auditor.model.digest import Digest
from auditor.sources.credentials import load_docker_config
from auditor.sources.http import Limits
from auditor.sources.registry import RegistrySource
from auditor.sources.retry import SYSTEM
from tests.images import noise
from tests.soak import mutate
from tests.soak.record import Failed, Outcome, Recorder, fuzz

_CONTENT: Final = noise("soak", 70_000)
_DIGEST: Final = Digest.of(_CONTENT)
_LIMITS: Final = Limits(connect=1, stall=0.3, total=1.5)
#: Seconds in which a fetch must end: its total limit, a stall, and a loaded machine.
_LONGEST: Final = 20.0
_HEADS: Final = (
    "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-{last}/{size}\r\nContent-Length: {size}\r\n\r\n",
    "HTTP/1.1 307 Temporary Redirect\r\nLocation: /v2/b/blobs/{digest}\r\nContent-Length: 0\r\n\r\n",
    'HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm="http://{host}/token",service="s"\r\n\r\n',
    "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno\n",
)


@dataclass
class _Script:
    """What the server does next: an answer for each connection in turn, and how it sends them."""

    answers: list[bytes]
    speed: str = "whole"
    count: int = 0

    def next(self) -> bytes:
        """Return the answer to the next connection."""
        self.count += 1
        return self.answers[(self.count - 1) % len(self.answers)] if self.answers else b""


class _Handler(socketserver.BaseRequestHandler):
    script: _Script

    def handle(self) -> None:
        with suppress(OSError):
            self.request.settimeout(2)
            self.request.recv(65_536)
            answer, script = self.script.next(), self.script
            if script.speed == "drip":
                for at in range(min(len(answer), 60)):
                    self.request.sendall(answer[at : at + 1])
                    time.sleep(0.05)
            elif script.speed == "flood":
                end = time.monotonic() + 5
                while time.monotonic() < end:
                    self.request.sendall(answer or b"\0")
            else:
                self.request.sendall(answer)
                if script.speed == "hang":
                    self.request.recv(1)


@contextmanager
def _serving(script: _Script) -> Iterator[str]:
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        block_on_close = False

    with Server(("127.0.0.1", 0), type("Bound", (_Handler,), {"script": script})) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def run(seconds: float, folder: Path) -> Outcome:
    """Fuzz answers of registries."""
    script = _Script([])
    with _serving(script) as host:
        (folder / host).mkdir()
        (folder / host / "hosts.toml").write_text(f'server = "http://{host}"\n')
        recorder = Recorder("registries", seconds)
        return fuzz(recorder, make, lambda data: judge(data, script, host, folder), suffix=".json")


def make(chance: random.Random) -> bytes:
    """Return the answers and the speed as JSON, in Latin-1; each fits a host that is filled in later."""
    answers = [_answer(chance) for _ in range(chance.choice((1, 1, 2, 3)))]
    speed = chance.choice(("whole", "whole", "whole", "hang", "drip", "flood"))
    return json.dumps({"speed": speed, "answers": [answer.decode("latin-1") for answer in answers]}).encode()


def _answer(chance: random.Random) -> bytes:
    head = chance.choice(_HEADS)
    if chance.random() < 0.7:
        head = mutate.text(head, chance)
    body = b"\0CONTENT\0" if "200 OK" in head or "206" in head else b""
    data = head.encode("latin-1", "replace")
    return (mutate.raw_bytes(data, chance) if chance.randrange(3) == 0 else data) + body


def judge(data: bytes, script: _Script, host: str, hosts_dir: Path) -> str:
    """Fetch a blob; it must be right or fail with a sentence, in time."""
    case: Any = json.loads(data)
    script.answers = [_filled(answer.encode("latin-1", "replace"), host) for answer in case["answers"]]
    script.speed, script.count = case["speed"], 0
    started = time.monotonic()
    try:
        result = _fetch(host, hosts_dir)
    except SourceError as error:
        result = f"{type(error).__name__}"
    if time.monotonic() - started > _LONGEST:
        raise Failed(f"{result} after {time.monotonic() - started:.1f} s")
    return f"{case['speed']}: {result}"


def _filled(answer: bytes, host: str) -> bytes:
    chunked = b"chunked" in answer
    content = b"%x\r\n%b\r\n0\r\n\r\n" % (len(_CONTENT), _CONTENT) if chunked else _CONTENT
    values = {b"{size}": len(_CONTENT), b"{last}": len(_CONTENT) - 1, b"{digest}": _DIGEST, b"{host}": host}
    for name, value in values.items():
        answer = answer.replace(name, str(value).encode())
    return answer.replace(b"\0CONTENT\0", content)


def _fetch(host: str, hosts_dir: Path) -> str:
    source = RegistrySource(
        hosts_dir=hosts_dir,
        credentials=load_docker_config(None),
        limits=_LIMITS,
        timing=replace(SYSTEM, sleep=lambda _seconds: None),
    )
    hints = Hints(names=(f"{host}/a:1",))
    offer = source.offers(_DIGEST, size=len(_CONTENT), media_type="application/octet-stream", hints=hints)
    if offer is None:
        raise Failed("no offer")
    with source.open(offer) as pieces:
        got = b"".join(pieces)
    if got != _CONTENT:
        raise Failed("wrong bytes were delivered")
    return "delivered"
