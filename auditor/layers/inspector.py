"""Verify a layer while its blob is read: compression, tar structure, diffID."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Protocol

from auditor.layers.decompress import PIECE, SNIFF, Decoder, decoder
from auditor.layers.tar_checker import TarWalk
from auditor.model import oci
from auditor.model.digest import Digest, Measured, Meter
from auditor.model.store import ENCRYPTED, LayerVerification, LayerVerificationKind

#: Compressions that some tools write and containerd does not read, by their first bytes.
_UNSUPPORTED = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x04\x22\x4d\x18": "lz4"}


def verifiable(media_type: str) -> str | None:
    """Return why a layer of this media type cannot be checked against a diffID; None where it can.

    The types are those that containerd decompresses itself. The actual compression is detected by content: the type may
    be wrong.
    """
    if oci.is_encrypted(media_type):
        return ENCRYPTED
    if oci.is_tar_layer(media_type):
        return None
    return f"{media_type} is not a type of a tar layer" if media_type else "it has no media type"


def declared(media_type: str) -> str:
    """Return the compression that a verifiable media type states: gzip, zstd or none; empty where it is open.

    Docker's type without a suffix is open: clients use it for gzip, and containerd accepts that.
    """
    if media_type in (oci.DOCKER_LAYER, oci.DOCKER_FOREIGN_LAYER):
        return ""
    return next((name for name in ("gzip", "zstd") if media_type.endswith(name)), "none")


class Metering(Protocol):
    """Counts and hashes the decompressed bytes: a `Meter`, or one that works in another thread."""

    @property
    def size(self) -> int:
        """Bytes so far."""

    def update(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes."""

    def result(self) -> Measured:
        """Digest and size of all bytes."""


class LayerDecoder:
    """Decompress a layer, and hash what comes out.

    Args:
        max_size: bytes of output after which decompression stops; the result is then UNVERIFIABLE.
        piece: compressed bytes that are decoded at a time; fewer bytes locate a fault more exactly.
        meter: hashes the output; a new `Meter` by default.

    """

    def __init__(self, *, max_size: int | None = None, piece: int = PIECE, meter: Metering | None = None) -> None:
        self._max_size = max_size
        self._piece = piece
        self._start = b""
        self._decoder: Decoder | None = None
        self._meter: Metering = meter if meter is not None else Meter()
        self._refusal = ""

    def decode(self, chunk: bytes | memoryview) -> Iterator[bytes | memoryview]:
        """Take the next bytes of the blob, and yield what they decompress to; after a fault they are ignored."""
        if self._decoder is not None:
            yield from self._decode(self._decoder, memoryview(chunk))
            return
        self._start += chunk
        if len(self._start) >= SNIFF:
            yield from self._begin()

    def rest(self) -> Iterator[bytes | memoryview]:
        """End the blob, and yield what is left to decompress: all of one that is shorter than its first bytes."""
        if self._decoder is None:
            yield from self._begin()
        assert self._decoder is not None
        self._decoder.finish()

    def verification(self, fault: str) -> LayerVerification:
        """Return the verdict after `rest`; its `diff_id` is set where the whole layer was decompressed.

        Args:
            fault: That of the tar; empty where there is none.

        """
        if self._refusal:
            return self._verification(LayerVerificationKind.UNVERIFIABLE, self._refusal)
        if self._decoder is not None and self._decoder.fault:
            return self._verification(LayerVerificationKind.UNDECODABLE, self._decoder.fault)
        kind = LayerVerificationKind.UNDECODABLE if fault else LayerVerificationKind.SOUND
        return self._verification(kind, self._explained(fault), diff_id=self._meter.result().digest)

    def _begin(self) -> Iterator[bytes | memoryview]:
        chosen = self._decoder = decoder(self._start, piece=self._piece)
        yield from self._decode(chosen, memoryview(self._start))
        self._start = self._start[:SNIFF]

    def _decode(self, source: Decoder, data: memoryview) -> Iterator[bytes | memoryview]:
        if self._refusal:
            return
        for piece in source.feed(data):
            self._meter.update(piece)
            yield piece
            if self._max_size is not None and self._meter.size > self._max_size:
                self._refusal = f"it decompresses to more than the {self._max_size} bytes allowed"
                return

    def _explained(self, fault: str) -> str:
        names = (name for magic, name in _UNSUPPORTED.items() if fault and self._start.startswith(magic))
        name = next(names, "")
        return f"it is compressed with {name}, which containerd does not read" if name else fault

    def _verification(
        self, kind: LayerVerificationKind, detail: str, *, diff_id: Digest | None = None
    ) -> LayerVerification:
        name = self._decoder.name if self._decoder else ""
        return LayerVerification(
            kind=kind, diff_id=diff_id, size=self._meter.size, detail=sys.intern(detail), compression=name
        )


class LayerInspector:
    """Verify a layer from its bytes.

    Args:
        max_size: as of `LayerDecoder`, like all arguments.
        piece: as of `LayerDecoder`.
        meter: as of `LayerDecoder`.

    """

    def __init__(self, *, max_size: int | None = None, piece: int = PIECE, meter: Metering | None = None) -> None:
        self._layer = LayerDecoder(max_size=max_size, piece=piece, meter=meter)
        self._tar = TarWalk()

    def update(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes of the blob; after a fault they are ignored."""
        for piece in self._layer.decode(chunk):
            self._tar.feed(piece)

    def finish(self) -> LayerVerification:
        """Return the verdict; its `diff_id` is set where the whole layer was decompressed."""
        for piece in self._layer.rest():
            self._tar.feed(piece)
        return self._layer.verification(self._tar.finish())
