"""One HTTP request to one server, with TLS settings and time limits; no redirects, retries or authentication.

urllib3 sends it. Its exceptions and its log contain whole URLs, including signed ones, so neither leaves this module.
"""

from __future__ import annotations

import logging
import math
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, InsecureRequestWarning

from auditor.errors import SourceError
from auditor.sources.hosts import Endpoint
from auditor.sources.network_errors import broken, network_error
from auditor.sources.proxies import Proxies
from auditor.sources.socket_limits import PacedHTTPPool, PacedHTTPSPool

_PIECE = 1 << 20
#: Maximum length of an unused body that is read so that the connection can be reused.
_SHORT = 16 << 10
#: Maximum of idle connections for each host.
_KEPT = 8
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Time limits in seconds.

    Attributes:
        connect: For each address of a host, and again for the TLS handshake.
        stall: For the head of an answer, by the clock; for each 64 KiB of its body; for the whole of a small answer.
        total: For one blob, with all retries, redirects, tokens and mirrors; may be exceeded by one `stall`.

    """

    connect: float = 30.0
    stall: float = 60.0
    total: float = 6 * 3600.0

    def within(self, seconds: float) -> Self:
        """Return the limits, each at most `seconds`."""
        return replace(self, connect=min(self.connect, seconds), stall=min(self.stall, seconds))


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Scheme, host and port (RFC 6454); credentials belong to an origin."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the origin of an absolute http or https URL.

        Raises:
            SourceError: It is not such a URL, or contains a user name.

        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise SourceError("a server named an invalid address") from None
        if parts.scheme not in _PORTS or not parts.hostname or parts.username is not None:
            raise SourceError("a server named an address that is not a plain http or https URL")
        return cls(scheme=parts.scheme, host=parts.hostname, port=port or _PORTS[parts.scheme])

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"


class Answer:
    """The answer to a request."""

    def __init__(self, response: urllib3.BaseHTTPResponse, origin: Origin, *, stall: float = math.inf) -> None:
        self._response = response
        self._origin = origin
        self._stall = stall
        self.status = response.status

    def header(self, name: str) -> str:
        """Return the value of a header, empty where it is absent."""
        return self._response.headers.get(name, "")

    def headers(self, name: str) -> list[str]:
        """Return all values of a header."""
        return self._response.headers.getlist(name)

    @property
    def length(self) -> int | None:
        """Length of the body in bytes by Content-Length; None where it is absent or invalid."""
        text = self.header("content-length")
        plain = text.isascii() and text.isdecimal() and "transfer-encoding" not in self._response.headers
        return int(text[:20]) if plain else None

    @property
    def chunked(self) -> bool:
        """Whether the body is chunked (RFC 9112, section 7.1), so that its end is marked."""
        return "chunked" in self.header("transfer-encoding").lower()

    def pieces(self, *, seconds: float = math.inf) -> Iterator[bytes]:
        """Yield the body undecoded, in chunks of up to 1 MiB.

        Raises:
            Interrupted: The connection failed, or `seconds` have passed.

        """
        paced = getattr(getattr(self._response, "connection", None), "paced", None)
        if paced is not None:
            paced.deadline = time.monotonic() + seconds
        try:
            while piece := self._response.read1(_PIECE, decode_content=False):
                yield piece
        except (HTTPError, OSError, ValueError) as error:
            raise broken(error, str(self._origin)) from None

    def drain(self) -> None:
        """Read a short body to its end, so that the connection can be reused."""
        if self.length is not None and self.length <= _SHORT:
            with suppress(SourceError):
                self.body(_SHORT)

    def body(self, limit: int) -> bytes:
        """Return the body of a small answer.

        Raises:
            Interrupted: The connection failed, or the body did not arrive within the stall limit.
            SourceError: It has more than `limit` bytes.

        """
        body = bytearray()
        for piece in self.pieces(seconds=self._stall):
            body += piece
            if len(body) > limit:
                raise SourceError(f"{self._origin} answered with more than {limit} bytes")
        return bytes(body)


class Transport:
    """Connections to one server and its redirect targets; thread-safe.

    A request with `own` false goes to a redirect target: with the server's authorities, without client certificates.

    Raises:
        SourceError: A certificate cannot be read.

    """

    def __init__(self, endpoint: Endpoint, *, proxies: Proxies) -> None:
        logging.getLogger("urllib3").setLevel(logging.CRITICAL)  # lower levels log signed URLs
        urllib3.disable_warnings(InsecureRequestWarning)  # skip_verify is the operator's decision
        self._dial_timeout = endpoint.dial_timeout
        self._endpoint = endpoint
        self._proxies = proxies
        self._lock = threading.Lock()
        self._managers = {True: _Managers(_context_of(endpoint, own=True), proxies)}

    def _manager(self, *, own: bool) -> _Managers:
        """Return the pool managers; those for redirects are created on first use: loading authorities is slow."""
        with self._lock:
            if own not in self._managers:
                self._managers[own] = _Managers(_context_of(self._endpoint, own=own), self._proxies)
            return self._managers[own]

    @contextmanager
    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        limits: Limits,
        body: bytes | None = None,
        own: bool = True,
    ) -> Iterator[Answer]:
        """Send a request; yield the answer, whatever its status. Nothing is sent before a successful TLS handshake.

        Args:
            method: HTTP method.
            url: Absolute URL.
            headers: Headers of the request.
            limits: Time limits.
            body: Body of the request.
            own: Whether the URL is the server's own origin.

        Raises:
            Interrupted: The connection failed; a retry may succeed.
            NotTls: The server does not use TLS.
            SourceError: Any other failure.

        """
        origin = Origin.of(url)
        manager = self._manager(own=own).choose(origin)
        try:
            response = manager.urlopen(
                method,
                url,
                headers=dict(headers),
                body=body,
                redirect=False,
                retries=False,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=self._connect_seconds(limits), read=limits.stall),
            )
        except (HTTPError, OSError, ValueError) as error:
            raise network_error(error, str(origin)) from None
        try:
            answer = Answer(response, origin, stall=limits.stall)
            yield answer
            answer.drain()
        finally:
            response.close()

    def _connect_seconds(self, limits: Limits) -> float:
        return min(limits.connect, self._dial_timeout or limits.connect)


class _Managers:
    """Pool managers: one for direct connections, one for each proxy."""

    def __init__(self, context: ssl.SSLContext, proxies: Proxies) -> None:
        self._proxies = proxies
        self._direct = _paced(urllib3.PoolManager(ssl_context=context, maxsize=_KEPT))
        addresses = {proxies.http, proxies.https} - {""}
        self._proxied = {address: _paced(_proxy_manager(address, context)) for address in addresses}

    def choose(self, origin: Origin) -> urllib3.PoolManager:
        """Return the manager for an origin."""
        address = self._proxies.choose(origin.scheme, origin.host, origin.port)
        return self._proxied[address] if address else self._direct


def _paced(manager: urllib3.PoolManager) -> urllib3.PoolManager:
    manager.pool_classes_by_scheme = {"http": PacedHTTPPool, "https": PacedHTTPSPool}
    return manager


def _proxy_manager(address: str, context: ssl.SSLContext) -> urllib3.ProxyManager:
    try:
        parts = urlsplit(address)
        user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if parts.username else None
        headers = urllib3.make_headers(proxy_basic_auth=user)
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        return urllib3.ProxyManager(bare, proxy_headers=headers, ssl_context=context, maxsize=_KEPT)
    except (HTTPError, ValueError):
        raise SourceError("the proxy in the environment is not an http or https URL") from None


def _context_of(endpoint: Endpoint, *, own: bool) -> ssl.SSLContext:
    return _context(endpoint.ca, endpoint.client if own else (), skip_verify=endpoint.skip_verify)


@lru_cache(maxsize=64)
def _context(
    ca: tuple[Path, ...], client: tuple[tuple[Path, Path | None], ...], *, skip_verify: bool
) -> ssl.SSLContext:
    """Build the TLS settings; authorities are added to the system's; containerd hosts.go `updateTLSConfigFromHost`.

    Loading the system's authorities takes as long as a request, so that servers with equal settings share them.
    """
    context = ssl.create_default_context()
    if skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for file in ca:
        with _readable(file, "authority"):
            context.load_verify_locations(cafile=file)
    for cert, key in client:
        with _readable(cert, "client"):
            context.load_cert_chain(cert, key, password="")  # an encrypted key must fail, not ask on the terminal
    return context


@contextmanager
def _readable(file: Path, kind: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise SourceError(
            f"the {kind} certificate {file} cannot be used: {getattr(error, 'strerror', None) or 'not PEM'}",
            hint="hosts.toml names it, or it is in the same folder",
        ) from None
