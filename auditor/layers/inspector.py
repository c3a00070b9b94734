"""The inspector that one read of a blob feeds, beside the hash of the blob itself."""

from __future__ import annotations

from typing import Protocol

from auditor.layers.decompress import PIECE, SNIFF, Decoder, decoder
from auditor.layers.tar_checker import TarWalk
from auditor.model import oci
from auditor.model.digest import Digest, Measured, Meter
from auditor.model.store import LayerProof, LayerProofKind

_OCI_TARS = frozenset({oci.OCI_LAYER, "application/vnd.oci.image.layer.nondistributable.v1.tar"})
_DOCKER_TARS = frozenset(
    {base + suffix for base in (oci.DOCKER_LAYER, oci.DOCKER_FOREIGN_LAYER) for suffix in ("", ".gzip")}
    | {f"{oci.DOCKER_LAYER}.zstd"}
)
_OCI_SUFFIXES = frozenset({"", "gzip", "zstd"})
#: Compressions that some tools write and containerd does not read, by their first bytes.
_UNSUPPORTED = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz", b"\x04\x22\x4d\x18": "lz4"}


def verifiable(media_type: str) -> str | None:
    """Why a layer of this type cannot be checked against a diffID; None where it can.

    The types are those that containerd decompresses itself, core/images/mediatypes.go `DiffCompression`. Which of the
    compressions it really is, is told by content: the type is known to lie.
    """
    if oci.is_encrypted(media_type):
        return "its bytes are encrypted"
    base, _, suffix = media_type.partition("+")
    if (base in _OCI_TARS and suffix in _OCI_SUFFIXES) or media_type in _DOCKER_TARS:
        return None
    return f"{media_type} is no type of layer that is a tar" if media_type else "its media type is not said"


def declared(media_type: str) -> str:
    """The compression that a verifiable type promises: gzip, zstd or none; empty where it leaves that open.

    Docker's plain type says nothing: clients have always put gzip under it, and containerd expects it.
    """
    if media_type in (oci.DOCKER_LAYER, oci.DOCKER_FOREIGN_LAYER):
        return ""
    return next((name for name in ("gzip", "zstd") if media_type.endswith(name)), "none")


class Metering(Protocol):
    """What counts and hashes the decompressed bytes; a `Meter`, or one that works elsewhere."""

    @property
    def size(self) -> int:
        """Bytes taken so far."""

    def update(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes."""

    def result(self) -> Measured:
        """Digest and size of all bytes."""


class LayerInspector:
    """Takes a layer's bytes as they are read and tells what they decompress to.

    With `max_size`, decompressing stops once so many bytes have come out, and the outcome is UNVERIFIABLE. `piece` is
    how many compressed bytes are decoded at a time: a smaller one tells more exactly where decoding breaks. `meter`
    hashes what comes out, where that is not to happen here.
    """

    def __init__(self, *, max_size: int | None = None, piece: int = PIECE, meter: Metering | None = None) -> None:
        self._max_size = max_size
        self._piece = piece
        self._start = b""
        self._decoder: Decoder | None = None
        self._meter: Metering = meter if meter is not None else Meter()
        self._tar = TarWalk()
        self._refusal = ""

    def update(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes of the blob; after a fault they are ignored."""
        if self._decoder is not None:
            self._feed(self._decoder, memoryview(chunk))
            return
        self._start += chunk
        if len(self._start) >= SNIFF:
            self._begin()

    def finish(self) -> LayerProof:
        """There is no more: the verdict. `diff_id` is set where all that the layer holds was decompressed."""
        source = self._decoder or self._begin()
        source.finish()
        if refusal := self._refusal or source.refusal:
            return self._proof(LayerProofKind.UNVERIFIABLE, refusal)
        if source.fault:
            return self._proof(LayerProofKind.UNDECODABLE, source.fault)
        fault = self._tar.finish()
        if fault:
            return self._proof(LayerProofKind.UNDECODABLE, self._explained(fault), diff_id=self._meter.result().digest)
        return self._proof(LayerProofKind.SOUND, "", diff_id=self._meter.result().digest)

    def _begin(self) -> Decoder:
        chosen = self._decoder = decoder(self._start, piece=self._piece)
        self._feed(chosen, memoryview(self._start))
        self._start = self._start[:SNIFF]
        return chosen

    def _feed(self, source: Decoder, data: memoryview) -> None:
        if self._refusal:
            return
        for piece in source.feed(data):
            self._meter.update(piece)
            self._tar.feed(piece)
            if self._max_size is not None and self._meter.size > self._max_size:
                self._refusal = f"it decompresses to more than the {self._max_size} bytes allowed"
                return

    def _explained(self, fault: str) -> str:
        for magic, name in _UNSUPPORTED.items():
            if self._start.startswith(magic):
                return f"it is compressed with {name}, which containerd does not read"
        return fault

    def _proof(self, kind: LayerProofKind, detail: str, *, diff_id: Digest | None = None) -> LayerProof:
        name = self._decoder.name if self._decoder else ""
        return LayerProof(kind=kind, diff_id=diff_id, size=self._meter.size, detail=detail, compression=name)
