"""Registries as a source: the servers that containerd would ask for an image, in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import msgspec

from auditor.errors import AccessDenied, BadBytes, NotOffered, SourceError
from auditor.model.blob_source import Hints, Offer, verified
from auditor.model.chunks import gathered
from auditor.model.digest import Digest
from auditor.sources.client import Client
from auditor.sources.credentials import DockerConfig
from auditor.sources.download import Download
from auditor.sources.hosts import Endpoint, Hosts, configured_hosts, find_hosts
from auditor.sources.http import Limits
from auditor.sources.network_errors import Interrupted
from auditor.sources.proxies import Proxies
from auditor.sources.repositories import Repository, repositories
from auditor.sources.retry import SYSTEM, Backoff, Timing, TryLater

#: Name of the source.
REGISTRY = "registry"
#: Maximum of failing servers that are named while others are left to ask.
_NAMED = 5
#: Seconds for a connection while others are left to ask.
_HURRY = 10.0
#: Minimum length of a secret that is removed from messages; a shorter one matches at random.
_SHORTEST_SECRET = 4


class _Place(NamedTuple):
    """A repository at one server."""

    repository: Repository
    endpoint: Endpoint

    @property
    def mirrored(self) -> str:
        """The registry that the server mirrors; empty for the registry itself."""
        return "" if self.endpoint.stands_for(self.repository.host) else self.repository.host

    def __str__(self) -> str:
        return f"{self.repository} at {self.endpoint.host}" if self.mirrored else str(self.repository)


class RegistrySource:
    """The registries in the hints of a blob; thread-safe. Neither `repr` nor errors contain a credential.

    Args:
        hosts_dir: Root of a `hosts.toml` tree; None for containerd's defaults.
        credentials: Credentials by host.
        proxies: HTTP proxies.
        limits: Time limits.
        backoff: Pauses between attempts.
        timing: Clock.
        user_agent: User-Agent header.
        image: An image name; its repository is asked first for every blob.
        on_note: Called with a sentence for each unusable `hosts.toml`, and for servers that cannot be reached.

    """

    def __init__(
        self,
        *,
        hosts_dir: Path | None,
        credentials: DockerConfig,
        proxies: Proxies | None = None,
        limits: Limits | None = None,
        backoff: Backoff | None = None,
        timing: Timing = SYSTEM,
        user_agent: str = "containerd-auditor",
        on_note: Callable[[str], None] = lambda _note: None,
        image: str = "",
    ) -> None:
        self.name = f"{REGISTRY}:{image}" if image else REGISTRY
        self._image = image
        self._hosts_dir = hosts_dir
        self._credentials = credentials
        self._proxies = proxies or Proxies()
        self._limits = limits or Limits()
        self._backoff = backoff or Backoff()
        self._timing = timing
        self._user_agent = user_agent
        self._on_note = on_note
        self._lock = threading.Lock()
        self._unreachable: set[Endpoint] = set()
        self._hosts: dict[str, Hosts] = {}
        self._clients: dict[Endpoint, Client] = {}
        self._making: dict[Endpoint, threading.Lock] = {}
        self._failed: set[tuple[Digest, _Place]] = set()

    @cached_property
    def _configured(self) -> tuple[str, ...]:
        return configured_hosts(self._hosts_dir)

    def describe(self) -> str:
        """Return a description of the source."""
        tree = f" by {self._hosts_dir}" if self._hosts_dir is not None else ""
        return f"the registries that the images name{tree}"

    @property
    def notes(self) -> tuple[str, ...]:
        """Unusable parts of the `hosts.toml` tree so far, one sentence each."""
        with self._lock:
            return tuple(note for hosts in self._hosts.values() for note in hosts.notes)

    def offers(self, digest: Digest, *, size: int, media_type: str, hints: Hints) -> Offer | None:
        """Return an offer if a name or label leads to a server that has not failed this digest; no request is sent."""
        places = self._places(digest, hints)
        if not places:
            return None
        return Offer(
            source=self.name,
            digest=digest,
            size=size,
            media_type=media_type,
            place=", ".join(dict.fromkeys(map(str, places))),
            certain=False,
            hints=hints,
        )

    @contextmanager
    def open(self, offer: Offer) -> Iterator[Iterator[bytes]]:
        """Open the verified bytes of the first server that sends them.

        Blobs of up to 1 MiB are verified before the first byte is yielded, so that a server with wrong content is
        skipped. A server that fails later is left out of the next `offers`.

        Raises:
            NotOffered: No server has the blob.
            AccessDenied: A server denies access.
            BadBytes: A server sent wrong content.
            SourceError: Any other failure.

        """
        deadline = self._timing.monotonic() + self._limits.total
        first, rest, place = self._begin(offer, deadline)
        try:
            yield self._guarded(first, rest, offer, place)
        finally:
            rest.close()

    def _begin(self, offer: Offer, deadline: float) -> tuple[bytes, Generator[bytes], _Place]:
        """Try the servers until one yields a first chunk, which is the whole of a small blob."""
        failures: list[SourceError] = []
        places = self._places(offer.digest, offer.hints)
        for number, place in enumerate(places):
            others = any(other.endpoint != place.endpoint for other in places[number + 1 :])
            pieces = self._download(offer, place, deadline, others=others)
            try:
                return next(pieces, b""), pieces, place
            except SourceError as error:
                failures.append(self._failure(error, offer, place))
                self._note_unreachable(error, place)
        raise _none_gave(offer, failures, self.notes)

    def _note_unreachable(self, error: SourceError, place: _Place) -> None:
        """Ask a server that does not answer after all others from now on."""
        with self._lock:
            lost = isinstance(error, Interrupted) and not isinstance(error, TryLater)
            new = lost and place.endpoint not in self._unreachable
            if new:
                self._unreachable.add(place.endpoint)
            count = len(self._unreachable)
        if new and count <= _NAMED:
            more = "; further ones are not named" if count == _NAMED else ""
            self._on_note(f"{error.message}; other servers are asked first from now on{more}")

    def _download(self, offer: Offer, place: _Place, deadline: float, *, others: bool) -> Generator[bytes]:
        limits = replace(self._limits, connect=min(self._limits.connect, _HURRY)) if others else self._limits
        download = Download(
            offer=offer,
            repository=place.repository,
            client=partial(self._client, place.endpoint),
            mirrored=place.mirrored,
            limits=limits,
            backoff=self._backoff,
            timing=self._timing,
            deadline=deadline,
            others=others,
        )
        return verified(gathered(download.pieces()), digest=offer.digest, size=offer.size, place=str(place))

    def _guarded(self, first: bytes, rest: Generator[bytes], offer: Offer, place: _Place) -> Iterator[bytes]:
        if first:
            yield first
        try:
            yield from rest
        except SourceError as error:
            raise self._failure(error, offer, place) from None

    def _places(self, digest: Digest, hints: Hints) -> Sequence[_Place]:
        found = [
            _Place(repository, endpoint)
            for repository in repositories(self._with_image(hints), configured=self._configured)
            for endpoint in self._find(repository.host).endpoints
        ]
        with self._lock:
            left = [place for place in found if (digest, place) not in self._failed]
            return sorted(left, key=lambda place: place.endpoint in self._unreachable)

    def _with_image(self, hints: Hints) -> Hints:
        return msgspec.structs.replace(hints, names=(self._image, *hints.names)) if self._image else hints

    def _find(self, host: str) -> Hosts:
        with self._lock:
            new = host not in self._hosts
            if new:
                self._hosts[host] = find_hosts(self._hosts_dir, host)
            found = self._hosts[host]
        for note in found.notes if new else ():
            self._on_note(note)
        return found

    def _client(self, endpoint: Endpoint) -> Client:
        """Return the client of an endpoint; created once, under a lock of its own, because that may send a request."""
        with self._lock:
            making = self._making.setdefault(endpoint, threading.Lock())
        with making:
            known = self._clients.get(endpoint)
            client = known or Client(
                endpoint,
                find=partial(self._credentials.find, endpoint.host),
                proxies=self._proxies,
                limits=self._limits,
                timing=self._timing,
                user_agent=self._user_agent,
            )
            with self._lock:
                return self._clients.setdefault(endpoint, client)

    def _failure(self, error: SourceError, offer: Offer, place: _Place) -> SourceError:
        """Record that a place failed a digest; remove every known secret from the error."""
        with self._lock:
            self._failed.add((offer.digest, place))
            secrets = [secret for client in self._clients.values() for secret in client.secrets]
        for secret in secrets:
            if len(secret) >= _SHORTEST_SECRET:
                error.message = error.message.replace(secret, "***")
        error.args = (error.message,)
        return error


def _none_gave(offer: Offer, failures: Sequence[SourceError], notes: Sequence[str]) -> SourceError:
    """Merge the errors of all places: the most specific class, all messages, the first hint."""
    if len(failures) == 1:
        return failures[0]
    kinds = [type(failure) for failure in failures]
    kind = next((kind for kind in (BadBytes, AccessDenied) if kind in kinds), SourceError)
    if set(kinds) <= {NotOffered}:
        kind = NotOffered
    words = "; ".join(dict.fromkeys(failure.message for failure in failures)) or "no server is left to ask"
    hints = [failure.hint for failure in failures if failure.hint] + list(notes)
    return kind(f"no registry delivered {offer.digest.short}: {words}", hint=next(iter(hints), ""))
