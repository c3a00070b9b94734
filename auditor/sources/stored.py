"""Reading a store on behalf of a source: its errors in a source's words, and what failed once remembered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager

from auditor.digest import Digest
from auditor.errors import AuditorError, NoFile, NoRecord, NotOffered, SourceError
from auditor.source import Offer, proven
from auditor.sources.pieces import gathered
from auditor.store import Store

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
