"""The protocol of a source of blobs, and the verification of what it delivers.

The adapters in auditor/sources implement `Source`. Bytes from a source are accepted only if they match the digest.
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
    """The origin of a blob, as far as the store knows it.

    `names` are the names of the images that use it, the best first; names that are not references are ignored.
    `origins` maps a host without its port to repositories, as in the labels of the blob and its parents.
    `hosts` are hosts of other images, with ports; an origin may be one of them.
    """

    names: tuple[str, ...] = ()
    origins: Mapping[str, tuple[str, ...]] = {}
    hosts: tuple[str, ...] = ()


def origins(labels: Iterable[Labels]) -> dict[str, tuple[str, ...]]:
    """Return the repositories by host from `containerd.io/distribution.source.<host>` labels, without duplicates.

    The labels are written by core/remotes/docker/handler.go `AppendDistributionSourceLabel`.
    """
    found: dict[str, dict[str, None]] = {}
    for each in labels:
        for key, value in each.items():
            host = key.removeprefix(SOURCE_LABEL)
            if host not in (key, ""):
                found.setdefault(host, {}).update(dict.fromkeys(part for part in value.split(",") if part))
    return {host: tuple(repositories) for host, repositories in found.items() if repositories}


class Offer(msgspec.Struct, frozen=True):
    """A source's statement that it has, or may have, a blob; `Source.open` fetches and verifies it.

    `certain`: the source has checked that it has the blob; false for a registry, which is contacted only by `open`.
    `place` describes the origin for messages. `size` is in bytes.
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
    """A source of blobs; safe to use from several threads at once."""

    @property
    def name(self) -> str:
        """A short name, the same in every run, such as `registry` or `archive:images.tar`."""

    def describe(self) -> str:
        """Return a short description of this source without credentials."""

    def offers(self, digest: Digest, *, size: int, media_type: str, hints: Hints) -> Offer | None:
        """Return an offer of the blob, without a download; None where the source does not have it.

        After `open` failed, a second call leaves out the place that failed, and returns None once no place is left.

        Raises:
            SourceError: The source cannot be reached.

        """

    def open(self, offer: Offer) -> AbstractContextManager[Iterator[bytes]]:
        """Return the blob of an offer in chunks, verified by `verified`; discard all chunks if an error follows.

        Raises:
            NotOffered: The source does not have the blob.
            AccessDenied: The source refuses access.
            BadBytes: The content does not match the digest or the size.
            SourceError: The transfer broke off or timed out.

        """


def verified(chunks: Iterable[bytes], *, digest: Digest, size: int, place: str) -> Generator[bytes]:
    """Yield `chunks` and verify them: the last chunk is yielded only after size and digest matched.

    A consumer that stops at `size` bytes therefore cannot skip the verification. Reading stops at the chunk that
    exceeds `size`, so an endless body is not read on.

    Args:
        chunks: The content.
        digest: The expected digest.
        size: The expected size, in bytes.
        place: The origin, for messages.

    Raises:
        BadBytes: The content does not match the digest or the size.

    """
    meter = Meter(digest.algorithm)
    held = b""
    for chunk in chunks:
        meter.update(chunk)
        if meter.size > size:
            raise BadBytes(f"{place} sent more than the {size} bytes of {digest.short}")
        if held and chunk:
            yield held
        held = chunk or held
    found = meter.result()
    if found.size < size:
        raise BadBytes(f"{place} sent {found.size} of the {size} bytes of {digest.short}")
    if found.digest != digest:
        raise BadBytes(f"{place} sent content that does not match {digest.short}: its digest is {found.digest.short}")
    if held:
        yield held
