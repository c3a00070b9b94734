"""A token service that a real registry trusts: for all comers, or for a password or an identity token."""

from __future__ import annotations

import base64
import datetime as dt
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from tests.lab.kit.registry import TokenAuth

USER: Final = "robot"
PASSWORD: Final = "hunter2-and-a-half"
IDENTITY: Final = "identity-of-robot"


class TokenService:
    """Signs tokens as distribution's token specification asks; for all comers, or for a password or identity token."""

    def __init__(self, base: Path, *, anonymous: bool) -> None:
        self.anonymous = anonymous
        self.asked: list[tuple[str, dict[str, list[str]], str]] = []
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "lab tokens")])
        now = dt.datetime.now(dt.UTC)
        self._certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(1)
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.bundle = base / "tokens.pem"
        self.bundle.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    @contextmanager
    def serving(self) -> Iterator[TokenAuth]:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                query = parse_qs(urlsplit(self.path).query)
                service.answer(self, "GET", query, self.headers.get("Authorization", ""))

            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                service.answer(self, "POST", form, form.get("refresh_token", [""])[0])

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            realm = f"http://127.0.0.1:{server.server_port}/token"
            yield TokenAuth(realm=realm, service="lab registry", issuer="lab", certificate=self.bundle)
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, handler: BaseHTTPRequestHandler, method: str, query: dict[str, list[str]], shown: str) -> None:
        self.asked.append((method, query, shown))
        right = {"Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode(), IDENTITY}
        body = b"{}"
        if self.anonymous or shown in right:
            key = "access_token" if method == "POST" else "token"
            scopes = " ".join(query.get("scope", [])).split()
            body = json.dumps({key: self._sign(query["service"][0], scopes), "expires_in": 300}).encode()
        handler.send_response(200 if body != b"{}" else 401)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _sign(self, service: str, scopes: list[str]) -> str:
        now = int(dt.datetime.now(dt.UTC).timestamp())
        parts = [scope.split(":") for scope in scopes]
        access = [{"type": kind, "name": name, "actions": actions.split(",")} for kind, name, actions in parts]
        claims = {"iss": "lab", "sub": USER, "aud": service, "exp": now + 300, "nbf": now - 60, "iat": now}
        der = base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()
        head = {"typ": "JWT", "alg": "RS256", "x5c": [der]}
        signed = f"{b64url(dump(head))}.{b64url(dump({**claims, 'jti': str(uuid.uuid4()), 'access': access}))}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{b64url(signature)}"


def dump(value: object) -> bytes:
    return json.dumps(value).encode()


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
