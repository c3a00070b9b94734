"""GET requests to one server, with authentication and redirects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import urljoin

from auditor.errors import AccessDenied, BadBytes, NotOffered, SourceError
from auditor.sources.authorizer import Authorizer
from auditor.sources.credentials import Credential, login
from auditor.sources.hosts import Endpoint
from auditor.sources.http import Answer, Limits, Origin, Transport
from auditor.sources.network_errors import NotTls, Stalled
from auditor.sources.proxies import Proxies
from auditor.sources.retry import Timing, TryLater, retry_after

#: Maximum of redirects for one request; as in Go's net/http `defaultCheckRedirect`.
_MAX_REDIRECTS = 10
#: Seconds of a TLS handshake after which a server is treated as plain HTTP; containerd's TLSHandshakeTimeout.
_HANDSHAKE_SECONDS = 10.0
_OK = frozenset({200, 206})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_LATER = frozenset({408, 429, 500, 502, 503, 504})
_UNAUTHORIZED, _FORBIDDEN, _UNSATISFIABLE = 401, 403, 416
_ABSENT = frozenset({404, 410})


class Client:
    """One endpoint of a registry; thread-safe.

    Credentials, custom headers and client certificates are sent only to the endpoint's own scheme, host and port, and
    no more after a redirect to another one.

    Raises:
        SourceError: A certificate cannot be read, or the server cannot be reached to determine whether it uses TLS.

    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        find: Callable[[], Credential],
        proxies: Proxies,
        limits: Limits,
        timing: Timing,
        user_agent: str,
    ) -> None:
        self._transport = Transport(endpoint, proxies=proxies)
        self._timing = timing
        self._user_agent = {"User-Agent": user_agent}
        self.endpoint = _settle(endpoint, self._transport, limits, self._user_agent)
        self._origin = Origin.of(self.endpoint.root)
        self._header = {name.title(): ", ".join(values) for name, values in endpoint.header}
        self._authorizer = Authorizer(self._origin, self._transport, find=find, header=self._header, timing=timing)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Texts that must not appear in messages: credentials, tokens, values of custom headers."""
        return (*self._authorizer.secrets, *(value for _, values in self.endpoint.header for value in values))

    @contextmanager
    def get(self, path: str, *, scope: str, headers: Mapping[str, str], limits: Limits) -> Iterator[Answer]:
        """GET a path below the API's root.

        Args:
            path: Path and query.
            scope: Scope of the token.
            headers: Headers of the request.
            limits: Time limits; `total` is that of the request with its redirects and tokens.

        Returns:
            The answer, with status 200 or 206.

        Raises:
            AccessDenied: Status 401 or 403.
            NotOffered: Status 404 or 410.
            TryLater: Status 408, 429 or 5xx.
            BadBytes: Status 416: the range begins beyond the end.
            Interrupted: The connection failed.
            SourceError: Any other failure.

        """
        url, own, seen = self.endpoint.root + path, True, [self.endpoint.root + path]
        shown, challenged = self._authorizer.header(scope), False
        end = self._timing.monotonic() + limits.total
        while True:
            private = {**self._header, **shown} if own else {}
            left = limits.within(self._seconds(end, url))
            sent = {**self._user_agent, **private, "Accept-Encoding": "identity", **headers}
            with self._transport.send("GET", url, headers=sent, limits=left, own=own) as answer:
                if answer.status in _REDIRECTS:
                    url = _next(url, answer, seen)
                    own = own and Origin.of(url) == self._origin
                elif answer.status == _UNAUTHORIZED and own and not challenged:
                    challenged = True
                    challenges = answer.headers("www-authenticate")
                    shown = self._authorizer.answer(challenges, scope, limits=left)
                else:
                    self._check(answer, url)
                    yield answer
                    return

    def _seconds(self, end: float, url: str) -> float:
        """Return the seconds until `end`. Raises Stalled if there are none."""
        left = end - self._timing.monotonic()
        if left <= 0:
            raise Stalled(f"{Origin.of(url)} does not send in time")
        return left

    def _check(self, answer: Answer, url: str) -> None:
        """Raise an error for a status without content; the server's text is dropped, because it may repeat secrets."""
        place, status = Origin.of(url), answer.status
        if status in _OK:
            return
        if status in (_UNAUTHORIZED, _FORBIDDEN):
            raise AccessDenied(f"{place} denies access ({status})", hint=login(self.endpoint.host))
        if status in _ABSENT:
            raise NotOffered(f"{place} does not have it ({status})")
        if status in _LATER:
            after = retry_after(answer.header("retry-after"), self._timing.now())
            raise TryLater(f"{place} answers {status}", after=after)
        if status == _UNSATISFIABLE:
            raise BadBytes(f"{place} has fewer bytes than it announced ({status})")
        raise SourceError(f"{place} answers {status}, which is unexpected for a download")


def _next(url: str, answer: Answer, seen: list[str]) -> str:
    """Return the target of a redirect; `seen` are the addresses so far."""
    try:
        target = urljoin(url, answer.header("location"))
    except ValueError:
        raise SourceError(f"{Origin.of(url)} redirects to an invalid address") from None
    Origin.of(target)
    if target in seen:
        raise SourceError(f"{Origin.of(url)} redirects in a circle")
    if len(seen) > _MAX_REDIRECTS:
        raise SourceError(f"{Origin.of(url)} redirects more than {_MAX_REDIRECTS} times")
    seen.append(target)
    return target


def _settle(endpoint: Endpoint, transport: Transport, limits: Limits, headers: Mapping[str, str]) -> Endpoint:
    """Determine whether an endpoint uses TLS, by a request without credentials.

    https first, http if the handshake meets plain HTTP or times out (containerd core/remotes/docker/resolver.go
    `NewHTTPFallback`).

    Raises:
        SourceError: Any other failure.

    """
    if not endpoint.fallback:
        return endpoint
    plain = replace(endpoint, scheme="http", fallback=False)
    short = limits.within(_HANDSHAKE_SECONDS)
    try:
        with transport.send("GET", f"{endpoint.root}/", headers=headers, limits=short):
            return replace(endpoint, fallback=False)
    except (NotTls, Stalled):
        return plain
