"""A store as a source: another namespace of the same daemon, or an archive."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from auditor.errors import AuditorError, NoFile, NoRecord, NotOffered, SourceError
from auditor.model.blob_source import Hints, Offer, verified
from auditor.model.chunks import gathered
from auditor.model.digest import Digest
from auditor.model.store import Store


class StoreSource:
    """The blobs of one namespace of a store. The namespace is listed once; later changes show on opening.

    Args:
        store: The store.
        namespace: The namespace.
        name: Name of the source, such as `namespace:k8s.io` or `archive:a.tar`.

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
        """Name of the source."""
        return self._name

    @property
    def namespace(self) -> str:
        """The namespace that has the blobs."""
        return self._namespace

    def describe(self) -> str:
        """Return a description of the source."""
        info = self._store.info()
        return f"namespace {self._namespace} of {info.kind} {info.address}"

    def offers(self, digest: Digest, *, size: int, media_type: str, hints: Hints) -> Offer | None:
        """Return an offer for a record of the right size; the content is verified on reading.

        Raises:
            StoreError: The store cannot be listed.

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
        """Open the verified bytes of the blob.

        Raises:
            NotOffered: The record or the file has gone.
            BadBytes: This copy is damaged, too.
            SourceError: The store failed.

        """
        return verified_stream(self._store, self._namespace, offer.digest, offer=offer, failures=self._failures)

    def _listed(self) -> dict[Digest, int]:
        with self._lock:
            if self._sizes is None:
                blobs = self._store.inventory(self._namespace, snapshotters=()).blobs
                self._sizes = {digest: blob.size for digest, blob in blobs.items()}
            return self._sizes


Change = Callable[[Iterable[bytes]], Iterable[bytes]]


class Failures:
    """The digests that a source failed to deliver, so that it does not offer them again; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._digests: set[Digest] = set()

    def __contains__(self, digest: object) -> bool:
        with self._lock:
            return digest in self._digests

    @contextmanager
    def recorded(self, digest: Digest, place: str) -> Iterator[None]:
        """Record an AuditorError as a failure of `digest`; raise it as a SourceError."""
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
    return kind(f"{place} cannot deliver it: {error.message}", hint=error.hint)


@contextmanager
def verified_stream(
    store: Store, namespace: str, digest: Digest, *, offer: Offer, failures: Failures, change: Change = gathered
) -> Iterator[Iterator[bytes]]:
    """Read a blob of a store as the verified bytes of an offer.

    Errors of reading are recorded; errors of the consumer pass unchanged.

    Args:
        store: The store.
        namespace: A namespace with a record of the blob.
        digest: The blob to read.
        offer: What its bytes must be.
        failures: Records a failure.
        change: Transforms the bytes, for example decompresses them.

    """
    with ExitStack() as stack:
        with failures.recorded(offer.digest, offer.place):
            chunks = stack.enter_context(store.stream(namespace, digest))
        yield _verified(change(chunks), offer, failures)


def _verified(chunks: Iterable[bytes], offer: Offer, failures: Failures) -> Iterator[bytes]:
    with failures.recorded(offer.digest, offer.place):
        yield from verified(chunks, digest=offer.digest, size=offer.size, place=offer.place)
