"""A Docker engine on a containerd of the lab, without touching the machine's network."""

from __future__ import annotations

import http.client
import json
import socket as sockets
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from tests.lab.kit.binaries import program
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import Process

MOBY_NAMESPACE: Final = "moby"


class DockerError(Exception):
    """The engine refused; its own words."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over the engine's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=120)
        self._path = path

    def connect(self) -> None:
        self.sock = sockets.socket(sockets.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class Dockerd:
    """An engine on a running containerd; starts on entering, stops on leaving.

    Images land in namespace moby, or with `classic` in the engine's own store.
    """

    def __init__(self, containerd: Containerd, base: Path, *, classic: bool = False) -> None:
        self.classic = classic
        self.containerd = containerd
        self.base = base
        self.socket = base / "docker.sock"
        self.log = base / "dockerd.log"
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start and return once the engine answers."""
        self.base.mkdir(parents=True, exist_ok=True)
        config = self.base / "daemon.json"
        config.write_text(json.dumps(self._config()))
        command: list[str | Path] = [program("dockerd", "usr/sbin/dockerd"), "--config-file", config]
        self._process = Process(command, log=self.log)
        try:
            self._process.wait_until(self._answers)
        except BaseException:
            self._process.kill()
            raise

    def stop(self) -> None:
        """Stop the engine; its containerd goes on."""
        if self._process is not None:
            self._process.stop()

    def pull(self, reference: str) -> None:
        """Pull an image; raises DockerError with the engine's words."""
        name, _, tag = reference.rpartition(":")
        status, body = self.request("POST", f"/images/create?fromImage={quote(name, safe='')}&tag={quote(tag)}")
        for line in body.decode().splitlines():
            if "error" in json.loads(line):
                raise DockerError(json.loads(line)["error"])
        if status != 200:
            raise DockerError(f"pull of {reference}: {status} {body.decode()}")

    def images(self) -> tuple[str, ...]:
        """Return the names that `docker images` would show."""
        _, body = self.request("GET", "/images/json")
        return tuple(sorted(tag for image in json.loads(body) for tag in image["RepoTags"] or ()))

    def save(self, reference: str) -> bytes:
        """Return the archive that `docker save` would write."""
        status, body = self.request("GET", f"/images/{reference}/get")
        if status != 200:
            raise DockerError(f"save of {reference}: {status} {body.decode()}")
        return body

    def request(
        self, method: str, path: str, *, body: bytes = b"", media_type: str = "application/x-tar"
    ) -> tuple[int, bytes]:
        """Send one request to the engine's API."""
        connection = _UnixConnection(self.socket)
        try:
            connection.request(method, path, body, {"Content-Type": media_type})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _answers(self) -> bool:
        try:
            return self.request("GET", "/_ping")[0] == 200
        except OSError:
            return False

    def _config(self) -> dict[str, object]:
        return {
            "hosts": [f"unix://{self.socket}"],
            "containerd": str(self.containerd.socket),
            "data-root": str(self.base / "data"),
            "exec-root": str(self.base / "exec"),
            "pidfile": str(self.base / "docker.pid"),
            "features": {"containerd-snapshotter": not self.classic},
            **({"storage-driver": "vfs"} if self.classic else {}),
            "bridge": "none",
            "iptables": False,
            "ip6tables": False,
            "ip-forward": False,
            "ip-masq": False,
            "userland-proxy": False,
        }
