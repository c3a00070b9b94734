"""Fetch an access token from a registry's token service; CNCF distribution, "Token Authentication Specification"."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec

from auditor.errors import AccessDenied, SourceError
from auditor.sources.credentials import Credential, login
from auditor.sources.http import Answer, Limits, Origin, Transport
from auditor.sources.retry import TryLater, retry_after

_CLIENT = "containerd-auditor"
_MAX_ANSWER = 1 << 20
#: Lifetime in seconds without `expires_in`; CNCF distribution, "Token Response Fields".
_DEFAULT_SECONDS = 60.0
_MAX_SECONDS = 3600.0
_VISIBLE = re.compile(r"[\x21-\x7e]+", re.ASCII)
_OK = 200
_LATER = frozenset({408, 429, 500, 502, 503, 504})
_REFUSED = frozenset({400, 401, 403, 404})


@dataclass(frozen=True)
class Token:
    """An access token and its lifetime in seconds."""

    text: str = field(repr=False)
    seconds: float


class _Answer(msgspec.Struct):
    token: str = ""
    access_token: str = ""
    expires_in: float | None = None


@dataclass(frozen=True, kw_only=True)
class TokenRequest:
    """A request to a token service; `header` are the registry's custom headers, which may contain secrets."""

    registry: Origin
    challenge: Challenge
    scope: str
    credential: Credential = field(repr=False)
    header: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def realm(self) -> str:
        """The URL of the service."""
        return self.challenge.parameters.get("realm", "")

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """Service and scopes: those of the challenge and of the request; containerd `GetTokenScopes`."""
        asked = self.challenge.parameters.get("scope", "").split(" ")
        service = self.challenge.parameters.get("service", "")
        scopes = sorted({self.scope, *asked} - {""})
        return [*([("service", service)] if service else []), *(("scope", scope) for scope in scopes)]


def fetch_token(request: TokenRequest, transport: Transport, *, limits: Limits, now: datetime) -> Token:
    """Fetch a token: by POST with an identity token, else by GET, as docker does.

    Custom headers and client certificates of the registry are sent only to the same origin; secrets are never sent from
    https to http.

    Args:
        request: The request.
        transport: Connections.
        limits: Time limits.
        now: The time, for `Retry-After` headers.

    Raises:
        AccessDenied: The service rejects the credentials, or is not https.
        Interrupted: The connection failed; a retry may succeed.
        SourceError: Any other failure.

    """
    service = Origin.of(request.realm)
    if request.registry.scheme == "https" and service.scheme == "http" and request.credential.secrets:
        raise AccessDenied(f"{request.registry} requests its credentials for {service} without TLS; they were not sent")
    own = service == request.registry
    headers = dict(request.header) if own else {}
    if request.credential.identity_token:
        method, url, body = "POST", request.realm, _form(request)
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    else:
        method, url, body = "GET", _with_query(request.realm, request.parameters), None
        headers |= {"Authorization": f"Basic {request.credential.basic}"} if request.credential.basic else {}
    with transport.send(method, url, headers=headers, body=body, limits=limits, own=own) as answer:
        _check(answer, service, request, now)
        return _parse(answer.body(_MAX_ANSWER), service)


def _form(request: TokenRequest) -> bytes:
    """Return the form of CNCF distribution's "OAuth2 Token Authentication"."""
    scope = " ".join(value for key, value in request.parameters if key == "scope")
    return urlencode(
        {
            "grant_type": "refresh_token",
            "service": request.challenge.parameters.get("service", ""),
            "client_id": _CLIENT,
            "scope": scope,
            "refresh_token": request.credential.identity_token,
        }
    ).encode()


def _with_query(url: str, parameters: list[tuple[str, str]]) -> str:
    parts = urlsplit(url)
    query = "&".join(text for text in (parts.query, urlencode(parameters)) if text)
    return urlunsplit(parts._replace(query=query, fragment=""))


def _check(answer: Answer, service: Origin, request: TokenRequest, now: datetime) -> None:
    if answer.status == _OK:
        return
    if answer.status in _LATER:
        after = retry_after(answer.header("retry-after"), now)
        raise TryLater(f"the token service {service} answers {answer.status}", after=after)
    if answer.status in _REFUSED:
        who = "the credentials in docker's config.json" if request.credential.secrets else "anonymous access"
        raise AccessDenied(
            f"the token service {service} denies {who} ({answer.status})", hint=login(str(request.registry))
        )
    raise SourceError(f"the token service {service} answers {answer.status}")


def _parse(body: bytes, service: Origin) -> Token:
    try:
        found = msgspec.json.decode(body, type=_Answer)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise SourceError(f"the token service {service} does not answer with a token") from None
    text = found.token or found.access_token
    if not _VISIBLE.fullmatch(text):
        raise SourceError(f"the token service {service} does not answer with a token")
    worth = found.expires_in or 0.0
    return Token(text=text, seconds=min(worth, _MAX_SECONDS) if worth > 0 else _DEFAULT_SECONDS)


_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a token of RFC 9110, section 5.6.2
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))', re.ASCII | re.DOTALL)
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+|(?=,)|\Z)", re.ASCII)
_SEPARATOR = re.compile(r"[ \t,]*", re.ASCII)
#: Maximum length of a header that is parsed.
_MAX_LENGTH = 8192


@dataclass(frozen=True)
class Challenge:
    """One challenge (RFC 9110, section 11.3): scheme and parameter names in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Parse WWW-Authenticate headers (RFC 9110, section 11.6.1); a syntax error ends its header."""
    return tuple(challenge for header in headers for challenge in _parse_challenge(header[:_MAX_LENGTH]))


def _parse_challenge(header: str) -> list[Challenge]:
    found: list[Challenge] = []
    at = _skip(header, 0)
    while match := _SCHEME.match(header, at):
        parameters, at = _parameters(header, match.end())
        found.append(Challenge(match[1].lower(), parameters))
    return found


def _parameters(header: str, at: int) -> tuple[dict[str, str], int]:
    parameters: dict[str, str] = {}
    at = _skip(header, at)
    while match := _PARAMETER.match(header, at):
        quoted, bare = match[2], match[3]
        parameters[match[1].lower()] = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
        at = _skip(header, match.end())
    return parameters, at


def _skip(header: str, at: int) -> int:
    match = _SEPARATOR.match(header, at)
    return match.end() if match else at
