"""What one registry is shown of our credentials, and for how long its tokens are kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from auditor.errors import AccessDenied
from auditor.sources.credentials import Credential, login
from auditor.sources.http import Limits, Origin, Transport
from auditor.sources.retry import Timing
from auditor.sources.tokens import Challenge, TokenRequest, fetch_token, parse_challenges

#: A token is taken for expired this many seconds early, or half its time if that is less.
_SLACK = 10.0


class Authorizer:
    """Answers the challenges of one registry; safe for several threads.

    `find` gives the credentials and is called at the first challenge: a registry that asks for none sees none.
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
        """Every secret and token seen so far, the longest first, to keep them out of messages."""
        with self._lock:
            return tuple(sorted(self._secrets, key=len, reverse=True))

    def header(self, scope: str) -> dict[str, str]:
        """The Authorization header that earlier challenges called for, so that each is asked only once."""
        with self._lock:
            if self._basic and self._credential is not None:
                return {"Authorization": f"Basic {self._credential.basic}"}
            token, until = self._tokens.get(scope, ("", 0.0))
            return {"Authorization": f"Bearer {token}"} if token and self._timing.monotonic() < until else {}

    def answer(self, headers: list[str], scope: str, *, limits: Limits) -> dict[str, str]:
        """The Authorization header that a 401 with these challenges calls for; a token is fetched anew.

        Bearer is preferred over Basic, as containerd does. Raises AccessDenied where we have nothing to show, and
        what `fetch_token` raises.
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
        raise AccessDenied(f"{self._origin} wants credentials (401)", hint=login(str(self._origin)))

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
