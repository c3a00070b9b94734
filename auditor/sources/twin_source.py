"""Rebuild an uncompressed layer from a twin: a blob of the same store with the same layer, compressed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import chain
from typing import Final, NamedTuple

from auditor.errors import BadBytes, SourceError
from auditor.layers.decompress import SNIFF, Decoder, decoder
from auditor.model.blob_source import Hints, Offer
from auditor.model.chunks import gathered
from auditor.model.digest import Digest
from auditor.model.store import Store
from auditor.sources.store_source import Failures, verified_stream


class Twin(NamedTuple):
    """A blob that decompresses to the wanted layer, and a namespace that has it."""

    namespace: str
    digest: Digest


class TwinSource:
    """Layers whose digest is their diffID, from the blobs that decompress to them.

    Args:
        store: The store.
        twins: The twins of each diffID, the best first; the next one is used when one is damaged.

    """

    name: Final = "twin"

    def __init__(self, store: Store, twins: Mapping[Digest, Sequence[Twin]]) -> None:
        self._store = store
        self._twins = twins
        self._failures: dict[Twin, Failures] = {twin: Failures() for each in twins.values() for twin in each}

    def describe(self) -> str:
        """Return a description of the source."""
        return "blobs of this store that are the same layer, compressed"

    def offers(self, digest: Digest, *, size: int, media_type: str, hints: Hints) -> Offer | None:
        """Return an offer for the first twin that has not failed."""
        twin = self._next(digest)
        if twin is None:
            return None
        return Offer(
            source=self.name,
            digest=digest,
            size=size,
            media_type=media_type,
            place=f"{twin.digest.short} in namespace {twin.namespace}",
            certain=True,
            hints=hints,
        )

    def open(self, offer: Offer) -> AbstractContextManager[Iterator[bytes]]:
        """Open the twin's decompressed bytes, verified.

        Raises:
            NotOffered: The twin has gone.
            BadBytes: It does not decompress to the layer.
            SourceError: No twin is left, or the store failed.

        """
        twin = self._next(offer.digest)
        if twin is None:
            raise SourceError(f"no twin of {offer.digest.short} is left")
        return verified_stream(
            self._store,
            twin.namespace,
            twin.digest,
            offer=offer,
            failures=self._failures[twin],
            change=lambda chunks: gathered(_decompressed(chunks, twin)),
        )

    def _next(self, digest: Digest) -> Twin | None:
        return next((twin for twin in self._twins.get(digest, ()) if digest not in self._failures[twin]), None)


def _decompressed(chunks: Iterable[bytes], twin: Twin) -> Iterator[bytes]:
    """Decompress in bounded chunks; raise BadBytes for a damaged twin."""
    rest = iter(chunks)
    start = b""
    for chunk in rest:
        start += chunk
        if len(start) >= SNIFF:
            break
    decode = decoder(start[:SNIFF])
    for chunk in chain((start,), rest):
        for piece in decode.feed(memoryview(chunk)):
            yield bytes(piece)
        _check(decode, twin)
    decode.finish()
    _check(decode, twin)


def _check(decode: Decoder, twin: Twin) -> None:
    if decode.fault:
        raise BadBytes(f"the twin {twin.digest.short} cannot be decompressed: {decode.fault}")
