"""Strings of large records, packed: a string in memory takes 50 bytes more than on the disk."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import ItemsView, Iterable, Iterator, Mapping, Sequence
from typing import Final, overload

from auditor.bbolt import go_time
from auditor.model.store import Labels, Lease, Resource

#: Records with more labels, and leases with more resources, are packed.
SMALL: Final = 1000


class Strings:
    """A sequence of byte strings in one buffer; they are decoded when they are read."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._ends = array("I", (0,))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def add(self, value: bytes) -> None:
        """Append a string."""
        self._data += value
        self._ends.append(len(self._data))

    def raw(self, index: int) -> bytes:
        """Return the bytes of a string."""
        return bytes(self._data[self._ends[index] : self._ends[index + 1]])

    def text(self, index: int) -> str:
        """Return a string."""
        return self.raw(index).decode("utf-8", "replace")

    def texts(self) -> Iterator[str]:
        """Yield all strings."""
        return map(self.text, range(len(self)))

    def find(self, wanted: bytes) -> int | None:
        """Return the index of a string, where they are in order; None where it is absent."""
        index = bisect_left(range(len(self)), wanted, key=self.raw)
        return index if index < len(self) and self.raw(index) == wanted else None


class PackedLabels(Mapping[str, str]):
    """Labels whose keys are UTF-8, added in the order of their bytes, which is bbolt's."""

    def __init__(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        self._keys = Strings()
        self._values = Strings()
        for key, value in entries:
            self._keys.add(key)
            self._values.add(value)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return self._keys.texts()

    def __getitem__(self, name: str) -> str:
        index = self._keys.find(name.encode("utf-8", "replace"))
        if index is None:
            raise KeyError(name)
        return self._values.text(index)

    def items(self) -> ItemsView[str, str]:
        """Return the labels, without a search for each."""
        return _Items(self)

    def is_text(self) -> bool:
        """Return whether all keys are UTF-8; others cannot be found by name."""
        return all(self._keys.raw(n) == key.encode() for n, key in enumerate(self))

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Yield the labels."""
        return zip(self._keys.texts(), self._values.texts(), strict=True)


class _Items(ItemsView[str, str]):
    def __init__(self, labels: PackedLabels) -> None:
        super().__init__(labels)
        self._labels = labels

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return self._labels.pairs()


class PackedResources(Sequence[Resource]):
    """The resources of a lease by type; the ids of a type are added in the order of their bytes."""

    def __init__(self) -> None:
        self._types: dict[str, Strings] = {}

    def add(self, kind: str, identifier: bytes) -> None:
        """Append a resource."""
        self._types.setdefault(kind, Strings()).add(identifier)

    def __len__(self) -> int:
        return sum(map(len, self._types.values()))

    def __iter__(self) -> Iterator[Resource]:
        for kind, ids in self._types.items():
            for identifier in ids.texts():
                yield Resource(kind, identifier)

    def __contains__(self, wanted: object) -> bool:
        if not isinstance(wanted, Resource):
            return False
        ids = self._types.get(wanted.type)
        return ids is not None and ids.find(wanted.id.encode("utf-8", "replace")) is not None

    @overload
    def __getitem__(self, index: int) -> Resource: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Resource]: ...
    def __getitem__(self, index: int | slice) -> Resource | Sequence[Resource]:
        return tuple(self)[index]


class PackedLeases(Sequence[Lease]):
    """The leases of a namespace; records are made when they are read.

    Args:
        namespace: The namespace.

    """

    def __init__(self, namespace: str) -> None:
        self._namespace = namespace
        self._names = Strings()
        self._times = Strings()
        self._labels: dict[int, Labels] = {}

    def add(self, name: str, created: bytes, labels: Labels) -> None:
        """Append a lease; `created` is a time in Go's encoding."""
        if labels:
            self._labels[len(self)] = labels
        self._names.add(name.encode())
        self._times.add(created)

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[Lease]:
        return map(self._lease, range(len(self)))

    def _lease(self, index: int) -> Lease:
        created = go_time.moment(self._times.raw(index))
        return Lease(self._namespace, self._names.text(index), self._labels.get(index, {}), created)

    @overload
    def __getitem__(self, index: int) -> Lease: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Lease]: ...
    def __getitem__(self, index: int | slice) -> Lease | Sequence[Lease]:
        return tuple(self)[index]
