"""Describe how bytes are damaged, without the right bytes at hand."""

from __future__ import annotations

from collections.abc import Container

from auditor.layers import LayerInspector
from auditor.model.digest import Digest, Hasher, Measured, Meter, hasher
from auditor.model.store import LayerVerification, LayerVerificationKind

#: A run of zeros of this many bytes inside compressed bytes or a document is damage.
PAGE = 4096
#: Zeros at the end are reported from one sector on; behind a tar from more than a writer's padding.
_SECTOR = 512
_TAR_PADDING = 20 * 512
#: Largest blob in bytes of which each bit is flipped and hashed: 65,536 hashes, a third of a second.
TRIED = 8192


class Damage:
    """Takes the bytes of a blob that did not match its digest before; `words` describes the damage.

    Args:
        digest: the digest of the blob.
        size: the bytes that it should have.
        known: the digests of other blobs, to detect that two were swapped.
        max_layer: bytes of output after which decompression stops.

    """

    def __init__(
        self, digest: Digest, size: int, *, known: Container[Digest] = (), max_layer: int | None = None
    ) -> None:
        self._digest = digest
        self._size = size
        self._known = known
        self._head = Meter(digest.algorithm)
        self._zeros = _Zeros()
        self._kept = bytearray()
        # Decoded in small steps, to locate the fault.
        self._layer = LayerInspector(max_size=max_layer, piece=PAGE)

    def update(self, piece: bytes) -> None:
        """Take the next bytes."""
        if self._head.size < self._size:
            self._head.update(piece[: self._size - self._head.size])
        if len(self._kept) <= TRIED:
            self._kept += piece[: TRIED + 1 - len(self._kept)]
        self._zeros.update(piece)
        self._layer.update(piece)

    def words(self, found: Measured) -> str:
        """Describe the damage as a phrase.

        Args:
            found: digest and size of the bytes that were read.

        """
        if found.size == 0:
            return "empty"
        if found.digest in self._known:
            return f"these are the bytes of {found.digest}"
        return "; ".join(filter(None, (self._length(found), self._damage(found))))

    def _length(self, found: Measured) -> str:
        lost = self._size - found.size
        if lost > 0:
            return f"shortened by {_count(lost)}, to {found.size}"
        if lost == 0:
            return ""
        if self._head.result().digest == self._digest:
            return f"longer by {_count(-lost)}: they follow the right {self._size}"
        return f"longer by {_count(-lost)}"

    def _damage(self, found: Measured) -> str:
        # In compressed bytes and documents no zeros belong; in a tar that can be walked they may.
        verification = self._layer.finish()
        walkable = verification.kind is LayerVerificationKind.SOUND
        if zeros := self._zeros.words(found.size, belong=walkable and verification.compression == "none"):
            return zeros
        if found.size != self._size:
            return ""
        return self._one_bit(found.size) or self._other(found, verification, walkable=walkable)

    def _other(self, found: Measured, verification: LayerVerification, *, walkable: bool) -> str:
        if walkable and verification.compression == "gzip":
            # Its checksums hold. zstd's are optional, and few writers have them.
            return "another layer of the same length, undamaged in itself"
        if walkable and verification.compression == "zstd":
            return "other bytes of the same length, which still decompress to a tar"
        why = (
            self._zeros.tail(found.size)
            if walkable
            else verification.detail
            if verification.compression != "none"
            else ""
        )
        return "; ".join(filter(None, ("other bytes of the same length", why)))

    def _one_bit(self, size: int) -> str:
        place = flipped_bit(bytes(self._kept), self._digest) if size <= TRIED else None
        return f"one bit differs: bit {place[1]} of byte {place[0]}" if place else ""


def flipped_bit(data: bytes, digest: Digest) -> tuple[int, int] | None:
    """Find the one bit whose flip makes `data` match `digest`, by trying each; for small blobs.

    Returns:
        The offset of the byte and the number of the bit, 0 being the lowest; None where no single bit does.

    """
    before = hasher(digest.algorithm)
    for at in range(len(data)):
        for bit in range(8):
            if _ends_as(before, bytes([data[at] ^ 1 << bit]) + data[at + 1 :], digest):
                return at, bit
        before.update(data[at : at + 1])
    return None


def _ends_as(before: Hasher, rest: bytes, digest: Digest) -> bool:
    trial = before.copy()
    trial.update(rest)
    return trial.hexdigest() == digest.hex


class _Zeros:
    """The first page of zeros, and the offset from which there is nothing but zeros."""

    def __init__(self) -> None:
        self._read = 0
        self._filled_from = 0
        self._tail = b""
        self._start: int | None = None
        self._length = 0
        self._open = True

    def update(self, piece: bytes) -> None:
        content = len(piece.rstrip(b"\0"))
        if content:
            self._filled_from = self._read + content
        if self._start is None:
            self._look(piece)
        elif self._open:
            self._extend(piece)
        self._read += len(piece)

    def _look(self, piece: bytes) -> None:
        window = self._tail + piece
        at = window.find(bytes(PAGE))
        if at < 0:
            self._tail = window[-(PAGE - 1) :]
            return
        self._start = self._read - len(self._tail) + at
        self._extend(window[at:])

    def _extend(self, piece: bytes) -> None:
        zeros = len(piece) - len(piece.lstrip(b"\0"))
        self._length += zeros
        self._open = zeros == len(piece)

    def words(self, size: int, *, belong: bool) -> str:
        """Describe the zeros that are damage; `belong`: intact content of this kind may have zeros."""
        if self._filled_from == 0:
            return "all zeros"
        if self._start == 0:
            return self._run(size)
        if belong:
            return ""
        if size - self._filled_from >= _SECTOR:
            return f"zero-filled from byte {self._filled_from} to the end"
        return self._run(size) if self._start is not None else ""

    def tail(self, size: int) -> str:
        """Describe zeros at the end that are more than a tar's padding; they need not be damage."""
        return f"zeros from byte {self._filled_from} on" if size - self._filled_from > _TAR_PADDING else ""

    def _run(self, size: int) -> str:
        start = self._start or 0
        end = start + self._length
        return f"zeros from byte {start} to " + ("the end" if end == size else f"byte {end}")


def _count(number: int) -> str:
    return "1 byte" if number == 1 else f"{number} bytes"
