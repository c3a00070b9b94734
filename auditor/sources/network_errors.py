"""Translate urllib3's exceptions; their texts are dropped, because they contain URLs."""

from __future__ import annotations

import os
import ssl

from urllib3.exceptions import (
    ConnectTimeoutError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ReadTimeoutError,
)

from auditor.errors import SourceError

#: OpenSSL's reasons for a server that answers a ClientHello in plain HTTP.
_NOT_TLS = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"}
)


class Interrupted(SourceError):
    """The connection failed or stalled; a retry may succeed."""


class Stalled(Interrupted):
    """A time limit was exceeded."""


class Untrusted(SourceError):
    """The TLS handshake failed; nothing was sent."""


class NotTls(Untrusted):
    """The server does not answer a ClientHello with TLS; nothing was sent."""


def broken(error: BaseException, place: str) -> Interrupted:
    """Return the error for a connection that failed after the first answer."""
    if isinstance(error, (ReadTimeoutError, TimeoutError)):
        return Stalled(f"{place} does not send in time")
    return Interrupted(f"the connection to {place} was interrupted")


def network_error(error: BaseException, place: str) -> SourceError:
    """Return the error for a request without an answer; only Interrupted is worth a retry."""
    cause = _ssl_cause(error)
    if cause is not None:
        return _tls_error(cause, place)
    if isinstance(error, LocationParseError):
        return SourceError(f"{place} is not a valid address")
    if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
        return Stalled(f"{place} does not accept the connection in time")
    if isinstance(error, NameResolutionError):
        return Interrupted(f"{place} cannot be resolved", hint="check the name and the DNS servers of this machine")
    if isinstance(error, ProxyError):
        return Interrupted(f"the proxy cannot connect to {place}", hint="check HTTPS_PROXY, HTTP_PROXY and NO_PROXY")
    if isinstance(error, NewConnectionError):
        return Interrupted(f"{place} cannot be reached: {_system_words(error)}")
    return broken(error, place)


def _tls_error(error: ssl.SSLError, place: str) -> SourceError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Untrusted(
            f"the certificate of {place} is not trusted: {error.verify_message}",
            hint="name its authority as `ca` in hosts.toml",
        )
    if error.reason in _NOT_TLS:
        return NotTls(f"{place} does not use TLS", hint="write http:// for a plain server in hosts.toml")
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return Interrupted(f"{place} closed the connection")
    return Untrusted(f"no TLS connection to {place}: {error.reason or 'the handshake failed'}")


def _ssl_cause(error: BaseException | None) -> ssl.SSLError | None:
    """Return OpenSSL's exception, which urllib3 wraps once or twice."""
    depth = 0
    while error is not None and depth < 4:  # noqa: PLR2004 - deeper than urllib3 ever wraps
        if isinstance(error, ssl.SSLError):
            return error
        inner = next((arg for arg in error.args if isinstance(arg, ssl.SSLError)), None)
        error, depth = inner or error.__cause__ or error.__context__, depth + 1
    return None


def _system_words(error: BaseException) -> str:
    number = getattr(error.__cause__, "errno", None)
    return os.strerror(number) if isinstance(number, int) and number > 0 else "no connection"
