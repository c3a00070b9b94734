"""A real registry on 127.0.0.1 that keeps its data over a restart, and a client that pushes images built here."""

from __future__ import annotations

import base64
import http.client
import json
import socket as sockets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from tests.images import Built
from tests.lab.kit.binaries import program
from tests.lab.kit.process import Process

REALM: Final = "lab"


class PushError(Exception):
    """The registry answered something else than the protocol asks for."""


@dataclass(frozen=True)
class Answer:
    """What a registry said."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class TokenAuth:
    """A bearer-token service that the registry sends its clients to; `certificate` signs the tokens."""

    realm: str
    service: str
    issuer: str
    certificate: Path


class Registry:
    """A registry under `base`; starts on entering, stops on leaving. `.host` stays the same over a restart.

    `tls` is a certificate chain and its key, `ca` what `push` trusts (the chain itself by default), `htpasswd` a file
    with bcrypt hashes, and `credentials` what `push` and `request` present.
    """

    def __init__(
        self,
        base: Path,
        *,
        tls: tuple[Path, Path] | None = None,
        ca: Path | None = None,
        htpasswd: Path | None = None,
        credentials: tuple[str, str] | None = None,
        token: TokenAuth | None = None,
    ) -> None:
        self.base = base
        self.tls = tls
        self.ca = ca
        self.htpasswd = htpasswd
        self.credentials = credentials
        self.token = token
        self.port = _free_port()
        self.host = f"127.0.0.1:{self.port}"
        self.log = base / "registry.log"
        self._binary = program("docker-registry", "usr/bin/docker-registry")
        self._process: Process | None = None
        self._pushed: dict[str, Built] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    def start(self) -> None:
        """Start and return once the port answers."""
        self.base.mkdir(parents=True, exist_ok=True)
        config = self.base / "registry.yml"
        config.write_text(json.dumps(self._config()))  # every JSON document is YAML
        self._process = Process([self._binary, "serve", config], log=self.log)
        self._process.wait_until(self._listening)

    def stop(self) -> None:
        """Stop; what was pushed stays."""
        if self._process is not None:
            self._process.stop(seconds=2)

    def restart(self) -> None:
        """Stop, then start on the same port with the same data."""
        self.stop()
        self.start()

    def reference(self, name: str) -> str:
        """Return the full reference of "repo/name:tag" or "repo/name@digest" here."""
        return f"{self.host}/{name}"

    def push(self, built: Built, name: str) -> str:
        """Push an image, artifact or index as "repo/name:tag", unless it is there, and return its full reference."""
        if self._pushed.get(name) == built:
            return self.reference(name)
        repository, _, tag = name.partition(":")
        documents = {document.digest for document in built.documents}
        connection = self._connect()
        try:
            for digest, blob in built.blobs.items():
                if digest not in documents:
                    self._push_blob(connection, repository, digest, blob)
            for document in built.documents:
                for target in {document.digest, tag if document == built.target else document.digest}:
                    headers = {"Content-Type": document.media_type}
                    body = built.blobs[document.digest]
                    self._ask(connection, "PUT", f"/v2/{repository}/manifests/{target}", body, headers, expect=201)
        finally:
            connection.close()
        self._pushed[name] = built
        return self.reference(name)

    def request(self, method: str, path: str, *, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """Send one request and return the answer whatever it is."""
        if method not in {"GET", "HEAD"}:
            self._pushed.clear()
        connection = self._connect()
        try:
            return self._send(connection, method, path, body, headers or {})
        finally:
            connection.close()

    def delete_blob(self, repository: str, digest: str) -> None:
        """Make a repository forget a blob."""
        answer = self.request("DELETE", f"/v2/{repository}/blobs/{digest}")
        if answer.status != 202:
            raise PushError(f"DELETE of {digest}: {answer.status}")

    def delete_manifest(self, repository: str, digest: str) -> None:
        """Make a repository forget a manifest and the tags on it."""
        answer = self.request("DELETE", f"/v2/{repository}/manifests/{digest}")
        if answer.status != 202:
            raise PushError(f"DELETE of {digest}: {answer.status}")

    def blob_path(self, digest: str) -> Path:
        """Return where the registry keeps the bytes of a digest: write there to make it serve something else."""
        self._pushed.clear()
        algorithm, _, name = digest.partition(":")
        return self.base / "data/docker/registry/v2/blobs" / algorithm / name[:2] / name / "data"

    def _push_blob(self, connection: http.client.HTTPConnection, repository: str, digest: str, blob: bytes) -> None:
        if self._send(connection, "HEAD", f"/v2/{repository}/blobs/{digest}", b"", {}).status == 200:
            return
        answer = self._ask(connection, "POST", f"/v2/{repository}/blobs/uploads/", b"", {}, expect=202)
        where = urlsplit(answer.headers["location"])
        path = f"{where.path}?{where.query}&digest={digest}"
        self._ask(connection, "PUT", path, blob, {"Content-Type": "application/octet-stream"}, expect=201)

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        expect: int,
    ) -> Answer:
        answer = self._send(connection, method, path, body, headers)
        if answer.status != expect:
            raise PushError(f"{method} {path}: {answer.status} {answer.body.decode(errors='replace')}")
        return answer

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes, headers: Mapping[str, str]
    ) -> Answer:
        connection.request(method, path, body, {**headers, **self._authorization()})
        answer = connection.getresponse()
        lower = {key.lower(): value for key, value in answer.getheaders()}
        return Answer(answer.status, lower, answer.read())

    def _authorization(self) -> dict[str, str]:
        if self.credentials is None:
            return {}
        return {"Authorization": "Basic " + base64.b64encode(":".join(self.credentials).encode()).decode()}

    def _connect(self) -> http.client.HTTPConnection:
        if self.tls is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        return http.client.HTTPSConnection(
            "127.0.0.1", self.port, timeout=60, context=ssl.create_default_context(cafile=self.ca or self.tls[0])
        )

    def _listening(self) -> bool:
        with sockets.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def _config(self) -> dict[str, object]:
        web: dict[str, object] = {"addr": self.host, "secret": "lab"}
        if self.tls:
            web["tls"] = {"certificate": str(self.tls[0]), "key": str(self.tls[1])}
        config: dict[str, object] = {
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.base / "data")}, "delete": {"enabled": True}},
            "http": web,
            "validation": {"disabled": True},
        }
        if self.htpasswd:
            config["auth"] = {"htpasswd": {"realm": REALM, "path": str(self.htpasswd)}}
        if self.token:
            config["auth"] = {"token": _token_config(self.token)}
        return config


def _token_config(token: TokenAuth) -> dict[str, str]:
    return {
        "realm": token.realm,
        "service": token.service,
        "issuer": token.issuer,
        "rootcertbundle": str(token.certificate),
    }


def _free_port() -> int:
    with sockets.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
