"""A set of names that keeps 8 bytes of each, for archives with millions of members."""

from __future__ import annotations

from array import array
from typing import Final

_FIRST: Final = 1 << 12
_BITS: Final = (1 << 64) - 1


class NameSet:
    """A set of names by their 64-bit hashes, in a table with open addressing.

    Two names of a million have the same hash with a probability of 3e-8; Python seeds the hash in each process. The
    table takes 12 to 24 bytes a name.
    """

    def __init__(self) -> None:
        self._table = _empty(_FIRST)
        self._count = 0

    def __len__(self) -> int:
        """Return the number of names."""
        return self._count

    def __contains__(self, name: object) -> bool:
        """Whether the name was added."""
        return self._table[self._slot(_hash(name))] != 0

    def add(self, name: str) -> None:
        """Add a name."""
        hashed = _hash(name)
        slot = self._slot(hashed)
        if self._table[slot]:
            return
        self._table[slot] = hashed
        self._count += 1
        if self._count * 3 > len(self._table) * 2:
            self._grow()

    def _slot(self, hashed: int) -> int:
        """Return the slot of a hash, or the free slot where it belongs."""
        last = len(self._table) - 1
        slot = hashed & last
        while self._table[slot] not in (0, hashed):
            slot = (slot + 1) & last
        return slot

    def _grow(self) -> None:
        earlier, self._table = self._table, _empty(len(self._table) * 2)
        for hashed in earlier:
            if hashed:
                self._table[self._slot(hashed)] = hashed


def _empty(size: int) -> array[int]:
    return array("Q", [0]) * size


def _hash(name: object) -> int:
    """Return the hash of a name; never 0, which marks a free slot."""
    return hash(name) & _BITS or 1
