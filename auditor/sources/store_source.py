"""A store as a source: another namespace of the same daemon, or an archive opened as a `Store`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from auditor.errors import AuditorError, NoFile, NoRecord, NotOffered, SourceError
from auditor.model.blob_source import Hints, Offer, proven
from auditor.model.chunks import gathered
from auditor.model.digest import Digest
from auditor.model.store import Store


class StoreSource:
    """The blobs of one namespace of a store; `name` is a label such as `namespace:k8s.io` or `archive:a.tar`.

    The namespace is listed once, at the first question; what came or went since shows when it is opened.
    """

    def __init__(self, store: Store, namespace: str, *, name: str) -> None:
        self._store = store
        self._namespace = namespace
        self._name = name
        self._lock = threading.Lock()
        self._sizes: dict[Digest, int] | None = None
        self._failures = Failures()

    @property
    def name(self) -> str:
        """The label."""
        return self._name

    @property
    def namespace(self) -> str:
        """The namespace that the blobs are in, for a repair that adopts instead of copying."""
        return self._namespace

    def describe(self) -> str:
        """The namespace and the store."""
        info = self._store.info()
        return f"namespace {self._namespace} of {info.kind} {info.address}"

    def offers(self, digest: Digest, *, size: int, media_type: str, hints: Hints) -> Offer | None:
        """Offer what has a record of the right size; whether the bytes are right shows when they are read.

        Raises StoreError, where the store cannot be listed.
        """
        if digest in self._failures or self._listed().get(digest) != size:
            return None
        return Offer(
            source=self._name,
            digest=digest,
            size=size,
            media_type=media_type,
            place=self._name,
            certain=True,
            hints=hints,
        )

    def open(self, offer: Offer) -> AbstractContextManager[Iterator[bytes]]:
        """Give the blob's proven bytes; NotOffered where it has gone, BadBytes where this copy is damaged too."""
        return proven_stream(self._store, self._namespace, offer.digest, offer=offer, failures=self._failures)

    def _listed(self) -> dict[Digest, int]:
        with self._lock:
            if self._sizes is None:
                blobs = self._store.inventory(self._namespace, snapshotters=()).blobs
                self._sizes = {digest: blob.size for digest, blob in blobs.items()}
            return self._sizes


Change = Callable[[Iterable[bytes]], Iterable[bytes]]


class Failures:
    """The digests that a source could not give, so that it does not offer them again; safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._digests: set[Digest] = set()

    def __contains__(self, digest: object) -> bool:
        with self._lock:
            return digest in self._digests

    @contextmanager
    def judged(self, digest: Digest, place: str) -> Iterator[None]:
        """Remember any error of ours as a failure of `digest`, and raise it as a SourceError."""
        try:
            yield
        except AuditorError as error:
            with self._lock:
                self._digests.add(digest)
            raise _translated(error, place) from error


def _translated(error: AuditorError, place: str) -> SourceError:
    if isinstance(error, SourceError):
        return error
    kind = NotOffered if isinstance(error, (NoRecord, NoFile)) else SourceError
    return kind(f"{place} cannot give it: {error.message}", hint=error.hint)


@contextmanager
def proven_stream(
    store: Store, namespace: str, digest: Digest, *, offer: Offer, failures: Failures, change: Change = gathered
) -> Iterator[Iterator[bytes]]:
    """Read the blob `digest`, changed by `change`, as the proven bytes of `offer`.

    Only what reading raises is judged; an error of the consumer passes as it is.
    """
    with ExitStack() as stack:
        with failures.judged(offer.digest, offer.place):
            chunks = stack.enter_context(store.stream(namespace, digest))
        yield _proven(change(chunks), offer, failures)


def _proven(chunks: Iterable[bytes], offer: Offer, failures: Failures) -> Iterator[bytes]:
    with failures.judged(offer.digest, offer.place):
        yield from proven(chunks, digest=offer.digest, size=offer.size, place=offer.place)
