"""What went wrong on the way to a server, told from urllib3's exceptions without repeating their texts."""

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

#: What OpenSSL says of a server that answers a TLS greeting in plain HTTP.
_NOT_TLS = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"}
)


class Interrupted(SourceError):
    """The connection broke, stalled or never came about; the same request may succeed the next time."""


class Stalled(Interrupted):
    """A time limit is over."""


class Untrusted(SourceError):
    """The TLS handshake failed; nothing was sent."""


class NotTls(Untrusted):
    """The server answers a TLS greeting with something else; nothing was sent."""


def broken(error: BaseException, place: str) -> Interrupted:
    """Name what ended a connection that had answered already."""
    if isinstance(error, (ReadTimeoutError, TimeoutError)):
        return Stalled(f"{place} does not send in time")
    return Interrupted(f"the connection to {place} broke")


def network_error(error: BaseException, place: str) -> SourceError:
    """Name what kept a server from answering. Interrupted is worth another try; the others are not."""
    cause = _ssl_cause(error)
    if cause is not None:
        return _tls_error(cause, place)
    if isinstance(error, LocationParseError):
        return SourceError(f"{place} cannot be asked: a part of the address is not one")
    if isinstance(error, ConnectTimeoutError) and not isinstance(error, NewConnectionError):
        return Stalled(f"{place} does not accept the connection in time")
    if isinstance(error, NameResolutionError):
        return Interrupted(f"{place} has no address", hint="look at the name and at the name servers of this machine")
    if isinstance(error, ProxyError):
        return Interrupted(f"the proxy does not lead to {place}", hint="look at HTTPS_PROXY, HTTP_PROXY and NO_PROXY")
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
        return NotTls(f"{place} does not speak TLS", hint="a plain server is written with http:// in hosts.toml")
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return Interrupted(f"{place} closed the connection")
    return Untrusted(f"no TLS connection to {place}: {error.reason or 'the handshake failed'}")


def _ssl_cause(error: BaseException | None) -> ssl.SSLError | None:
    """Find OpenSSL's own exception, which urllib3 wraps once or twice."""
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
