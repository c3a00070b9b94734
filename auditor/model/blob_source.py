"""Where good bytes come from: the protocol of a source, what it is told, what it offers, and the proof of its bytes.

Use-cases hold a `Source`; the adapters in auditor/sources implement it. A source is judged by the digest alone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import msgspec

from auditor.errors import BadBytes
from auditor.model.digest import Digest, Meter
from auditor.model.store import Labels

#: core/remotes/docker/handler.go `distributionSourceLabelKey`; behind it a host without its port, then repositories.
SOURCE_LABEL = "containerd.io/distribution.source."


class Hints(msgspec.Struct, frozen=True):
    """What a store knows of where a blob came from.

    `names` are the names of the images that use it, the best first; names that are no references are passed over.
    `origins` maps a host without its port to repositories, as the blob's own and its parents' labels have it.
    """

    names: tuple[str, ...] = ()
    origins: Mapping[str, tuple[str, ...]] = {}


def origins(labels: Iterable[Labels]) -> dict[str, tuple[str, ...]]:
    """Read the `containerd.io/distribution.source.<host>` labels of some blobs, each repository once, in order."""
    found: dict[str, dict[str, None]] = {}
    for each in labels:
        for key, value in each.items():
            host = key.removeprefix(SOURCE_LABEL)
            if host not in (key, ""):
                found.setdefault(host, {}).update(dict.fromkeys(part for part in value.split(",") if part))
    return {host: tuple(repositories) for host, repositories in found.items() if repositories}


class Offer(msgspec.Struct, frozen=True):
    """A source's word that it has a blob, or may have it; the bytes are fetched by `Source.open` and proven there.

    `certain` says that the source has looked: false for a registry, which is asked only when it is opened. `place`
    names where the bytes would come from, for people. `size` is in bytes.
    """

    source: str
    digest: Digest
    size: int
    media_type: str
    place: str
    certain: bool
    hints: Hints = Hints()


@runtime_checkable
class Source(Protocol):
    """One place to get bytes from; safe to use from several threads at once."""

    @property
    def name(self) -> str:
        """A short name that is stable over runs, such as `registry` or `archive:images.tar`."""

    def describe(self) -> str:
        """Say in a few words what this source is; never contains credentials."""

    def offers(self, digest: Digest, *, size: int, media_type: str, hints: Hints) -> Offer | None:
        """Say without a download whether this source has or may have the blob of `size` bytes; None where not.

        May be asked again after `open` failed: a place that failed this digest is left out from then on, and None is
        the answer once no place is left. Raises SourceError where the source cannot be asked at all.
        """

    def open(self, offer: Offer) -> AbstractContextManager[Iterator[bytes]]:
        """Give the bytes of an offer in pieces, proven by `proven`: they end without an error only if they are right.

        Raises SourceError on entering and while the pieces are read: NotOffered, AccessDenied, BadBytes, or the root
        for a source that broke off or took too long. Whatever was yielded before an error is to be thrown away.
        """


def proven(chunks: Iterable[bytes], *, digest: Digest, size: int, place: str) -> Generator[bytes]:
    """Pass `chunks` on, and end without an error only if they are the `size` bytes that `digest` names.

    One piece is held back until its successor or the end has come, so that the last piece is yielded only after the
    digest matched: a consumer that stops at `size` bytes cannot forget to verify. Nothing is read beyond the piece
    that exceeds `size`, so an endless body ends at once. Raises BadBytes.
    """
    meter = Meter(digest.algorithm)
    held = b""
    for chunk in chunks:
        meter.update(chunk)
        if meter.size > size:
            raise BadBytes(f"{place} gave more than the {size} bytes of {digest.short}")
        if held and chunk:
            yield held
        held = chunk or held
    found = meter.result()
    if found.size < size:
        raise BadBytes(f"{place} gave {found.size} of the {size} bytes of {digest.short}")
    if found.digest != digest:
        raise BadBytes(f"{place} gave other bytes than {digest.short}: they hash to {found.digest.short}")
    if held:
        yield held
