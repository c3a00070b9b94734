"""Intact blobs of an archive in packed rows, for archives with a million of them."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

import msgspec

from auditor.archive.seen import Seen, claimed
from auditor.model.digest import Digest
from auditor.model.store import LayerVerification

_ALGORITHM: Final = "sha256"
#: Bytes of a digest that are kept: no two blobs are known, or can be made, whose digests begin with the same ones.
_DIGEST: Final = 20
#: Bytes of a row: the digest, the size, the block of the data, the number of its kind.
_SIZE, _BLOCK, _KIND = slice(20, 26), slice(26, 31), 31
_ROW: Final = 32
#: Rows of layers also have the diffID and the decompressed size.
_DIFF_ID, _UNPACKED = slice(32, 64), slice(64, 70)
_LAYER_ROW: Final = 70
_TAR_BLOCK: Final = 512
_FIRST: Final = 1 << 12
_KINDS: Final = 255


class _Rows:
    """Rows of one length, found by the digest that they begin with: a table with open addressing."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._rows = bytearray()
        self._table = array("I", [0]) * _FIRST
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[bytes]:
        for number in range(1, self._count + 1):
            yield bytes(self._row(number)[:_DIGEST])

    def add(self, row: bytes) -> None:
        slot = self._slot(row[:_DIGEST])
        if self._table[slot]:
            return
        self._rows += row
        self._count += 1
        self._table[slot] = self._count
        if self._count * 3 > len(self._table) * 2:
            self._grow()

    def find(self, digest: bytes) -> bytes | None:
        number = self._table[self._slot(digest)]
        return bytes(self._row(number)) if number else None

    def _row(self, number: int) -> bytearray:
        return self._rows[(number - 1) * self._length : number * self._length]

    def _slot(self, digest: bytes) -> int:
        """Return the slot of a digest, or the free slot where it belongs; a digest's first bytes are its hash."""
        last = len(self._table) - 1
        slot = int.from_bytes(digest[:8], "little") & last
        while (number := self._table[slot]) and self._row(number)[:_DIGEST] != digest:
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        self._table = array("I", [0]) * (len(self._table) * 2)
        for number, digest in enumerate(self, 1):
            self._table[self._slot(digest)] = number


class BlobTable:
    """Blobs `blobs/sha256/<hex>` that match their digest, at 40 to 100 bytes each."""

    def __init__(self) -> None:
        self._plain = _Rows(_ROW)
        self._layers = _Rows(_LAYER_ROW)
        #: Compressions, with the verdicts on layers except for diffID and size.
        self._kinds: list[tuple[str, LayerVerification | None]] = []
        self.bytes = 0

    def __len__(self) -> int:
        """Return the number of blobs."""
        return len(self._plain) + len(self._layers)

    def __contains__(self, name: object) -> bool:
        """Whether the member of this name is in the table."""
        return isinstance(name, str) and self._find(name) is not None

    def add(self, seen: Seen) -> bool:
        """Add a blob; False where it cannot be packed: damaged, kept, sparse, or with a name of another kind."""
        digest, kind = claimed(seen.name), self._kind(seen)
        if digest is None or seen.offset is None or not _packable(seen, digest) or kind is None:
            return False
        if self._find(seen.name) is None:
            self.bytes += seen.size
        row = _short(digest) + seen.size.to_bytes(6) + (seen.offset // _TAR_BLOCK).to_bytes(5)
        row += bytes([kind])
        if seen.layer is None or seen.layer.diff_id is None:
            self._plain.add(row)
        else:
            self._layers.add(row + bytes.fromhex(seen.layer.diff_id.hex) + seen.layer.size.to_bytes(6))
        return True

    def get(self, name: str) -> Seen | None:
        """Return the blob of a name as it was added; None where it was not."""
        digest, row = claimed(name), self._find(name)
        if digest is None or row is None:
            return None
        packing, layer = self._kinds[row[_KIND]]
        if layer is not None and len(row) == _LAYER_ROW:
            diff_id = Digest(f"sha256:{row[_DIFF_ID].hex()}")
            layer = msgspec.structs.replace(layer, diff_id=diff_id, size=int.from_bytes(row[_UNPACKED]))
        size, offset = int.from_bytes(row[_SIZE]), int.from_bytes(row[_BLOCK]) * _TAR_BLOCK
        return Seen(name=name, size=size, read=size, digest=digest, packing=packing, layer=layer, offset=offset)

    def _find(self, name: str) -> bytes | None:
        digest = claimed(name)
        if digest is None or digest.algorithm != _ALGORITHM:
            return None
        raw = _short(digest)
        return self._plain.find(raw) or self._layers.find(raw)

    def _kind(self, seen: Seen) -> int | None:
        """Return the number of a blob's compression and verdict; None where there are too many."""
        layer = seen.layer
        if layer is not None and layer.diff_id is not None:
            layer = msgspec.structs.replace(layer, diff_id=None, size=0)
        kind = seen.packing, layer
        if kind not in self._kinds:
            if len(self._kinds) > _KINDS:
                return None
            self._kinds.append(kind)
        return self._kinds.index(kind)


def _short(digest: Digest) -> bytes:
    return bytes.fromhex(digest.hex)[:_DIGEST]


def _packable(seen: Seen, digest: Digest) -> bool:
    whole = seen.whole and not seen.error and seen.kept is None and seen.extents is None
    diff_id = seen.layer.diff_id if seen.layer is not None else None
    return whole and digest == seen.digest and {digest.algorithm, (diff_id or digest).algorithm} == {_ALGORITHM}
