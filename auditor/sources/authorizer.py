"""Authenticate requests to one registry; cache its tokens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from auditor.errors import AccessDenied
from auditor.sources.credentials import Credential, login
from auditor.sources.http import Limits, Origin, Transport
from auditor.sources.retry import Timing
from auditor.sources.tokens import Challenge, TokenRequest, fetch_token, parse_challenges

#: Seconds by which a token expires early, at most half its lifetime.
_SLACK = 10.0


class Authorizer:
    """Answers the challenges of one registry; thread-safe.

    Args:
        origin: The registry.
        transport: Connections to it.
        find: Returns the credentials; called at the first challenge.
        header: Custom headers of the registry.
        timing: Clock.

    """

    def __init__(
        self,
        origin: Origin,
        transport: Transport,
        *,
        find: Callable[[], Credential],
        header: Mapping[str, str],
        timing: Timing,
    ) -> None:
        self._origin = origin
        self._transport = transport
        self._find = find
        self._header = header
        self._timing = timing
        self._lock = threading.Lock()
        self._credential: Credential | None = None
        self._basic = False
        self._tokens: dict[str, tuple[str, float]] = {}
        self._secrets: set[str] = set()

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret and token so far, the longest first, for removal from messages."""
        with self._lock:
            return tuple(sorted(self._secrets, key=len, reverse=True))

    def header(self, scope: str) -> dict[str, str]:
        """Return the Authorization header that earlier challenges require; empty before the first."""
        with self._lock:
            if self._basic and self._credential is not None:
                return {"Authorization": f"Basic {self._credential.basic}"}
            token, until = self._tokens.get(scope, ("", 0.0))
            return {"Authorization": f"Bearer {token}"} if token and self._timing.monotonic() < until else {}

    def answer(self, headers: list[str], scope: str, *, limits: Limits) -> dict[str, str]:
        """Return the Authorization header for a 401 response; fetch a new token for Bearer.

        Bearer precedes Basic, as in containerd core/remotes/docker/authorizer.go.

        Args:
            headers: The WWW-Authenticate headers.
            scope: The scope of the request.
            limits: Time limits of the token request.

        Raises:
            AccessDenied: There are no credentials, or the token service rejects them.
            SourceError: As `fetch_token` raises.

        """
        challenges = parse_challenges(headers)
        credential = self._known()
        for challenge in challenges:
            if challenge.scheme == "bearer":
                return self._bearer(challenge, scope, credential, limits)
        if credential.basic and any(challenge.scheme == "basic" for challenge in challenges):
            with self._lock:
                self._basic = True
            return self.header(scope)
        raise AccessDenied(f"{self._origin} requires credentials (401)", hint=login(str(self._origin)))

    def _known(self) -> Credential:
        with self._lock:
            if self._credential is None:
                self._credential = self._find()
                self._secrets.update(self._credential.secrets)
            return self._credential

    def _bearer(self, challenge: Challenge, scope: str, credential: Credential, limits: Limits) -> dict[str, str]:
        if credential.access_token:
            return {"Authorization": f"Bearer {credential.access_token}"}
        request = TokenRequest(
            registry=self._origin, challenge=challenge, scope=scope, credential=credential, header=self._header
        )
        token = fetch_token(request, self._transport, limits=limits, now=self._timing.now())
        until = self._timing.monotonic() + token.seconds - min(_SLACK, token.seconds / 2)
        with self._lock:
            self._tokens[scope] = (token.text, until)
            self._secrets.add(token.text)
        return {"Authorization": f"Bearer {token.text}"}
