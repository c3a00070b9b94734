"""The objects that containerd's garbage collection keeps: the closure of its roots over reference labels; no I/O.

core/metadata/gc.go: roots are unexpired images and leases, containers, and objects with the label
`containerd.io/gc.root`. References are the labels `containerd.io/gc.ref.…`, and since 1.7 back-references `gc.bref.…`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import datetime
from functools import cached_property
from itertools import chain
from typing import Literal, NamedTuple, cast

import msgspec

from auditor.model.digest import Digest
from auditor.model.store import Blob, Image, Inventory, Labels, Lease, Snapshot

_ROOT = "containerd.io/gc.root"
_EXPIRE = "containerd.io/gc.expire"
_FLAT = "containerd.io/gc.flat"
_REF = "containerd.io/gc.ref."
_BACK = "containerd.io/gc.bref."
_SNAPSHOT = "snapshot."
_SNAPSHOTS = "snapshots/"

Kind = Literal["content", "image", "snapshot", "container"]
#: The kinds of object that a label may reference, by the word in the label; gc.go `labelHandlers`.
_NAMED: Mapping[str, Kind] = {"content": "content", "image": "image", "container": "container"}


class Place(NamedTuple):
    """Objects of one kind and snapshotter; `flat`: kept without what their labels reference, as by a flat lease."""

    kind: Kind
    snapshotter: str = ""
    flat: bool = False


class Reach(msgspec.Struct, frozen=True, dict=True):
    """The objects that a collection keeps: their names by place. A blob's name is its digest."""

    kept: Mapping[Place, AbstractSet[str]]

    @cached_property
    def blobs(self) -> AbstractSet[str]:
        """The digests of the blobs that are kept."""
        whole, flat = (self.kept.get(Place("content", flat=flat), frozenset()) for flat in (False, True))
        return whole | flat if flat else whole

    def blob(self, digest: Digest) -> bool:
        """Whether the blob is kept."""
        return digest in self.blobs

    def snapshot(self, snapshotter: str, name: str) -> bool:
        """Whether the snapshot is kept."""
        return any(name in self.kept.get(Place("snapshot", snapshotter, flat), ()) for flat in (False, True))


def _has_expired(labels: Labels, now: datetime) -> bool:
    """Whether the expiry time in `labels` has passed; false where it is absent or malformed."""
    text = labels.get(_EXPIRE)
    if text is None:
        return False
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        return False
    return end.tzinfo is not None and end < now


def expired(lease: Lease, now: datetime) -> bool:
    """Whether the next collection deletes the lease; a lease with a malformed expiry time is kept, as by containerd."""
    return _has_expired(lease.labels, now)


def references(labels: Labels) -> Iterator[tuple[str, str]]:
    """Return the blobs (as `("", digest)`) and the snapshots (as `(snapshotter, name)`) that labels protect."""
    places = _places(_REF, labels).items()
    return ((to.snapshotter, labels[label]) for label, to in places if to.kind in ("content", "snapshot"))


def _places(prefix: str, labels: Iterable[str]) -> dict[str, Place]:
    """Return the labels that reference objects, and where; what follows a further `.` or `/` in them is ignored."""
    found = {}
    for label in labels:
        if not label.startswith(prefix):
            continue
        rest = label.removeprefix(prefix)
        if rest.startswith(_SNAPSHOT):
            found[label] = Place("snapshot", rest.removeprefix(_SNAPSHOT).partition("/")[0])
        elif (kind := _NAMED.get(rest.partition(".")[0].partition("/")[0])) is not None:
            found[label] = Place(kind)
    return found


_Record = Blob | Snapshot | Image
#: By place, the records by name.
_Tables = Mapping[Place, Mapping[str, _Record]]
#: By place, names of objects whose references are to be followed.
_Waiting = defaultdict[Place, set[str]]


def reachable(inventory: Inventory, *, now: datetime) -> Reach:
    """Compute the objects of a namespace that a collection at `now` keeps.

    Args:
        inventory: The records of the namespace. Leases whose resources were not listed protect nothing here.
        now: The time of the collection, in UTC.

    """
    tables: _Tables = {
        Place("content"): cast("Mapping[str, Blob]", inventory.blobs),  # a digest compares as its text
        Place("image"): {image.name: image for image in inventory.images},
        **{Place("snapshot", name): held for name, held in inventory.snapshots.items()},
    }
    # Thousands of records share a few labels, so that each label is parsed once.
    labels = set(chain.from_iterable(record.labels for table in tables.values() for record in table.values()))
    forward = {label: to for label, to in _places(_REF, labels).items() if to.kind != "container"}
    back = _back_references(tables, _places(_BACK, labels), now)
    waiting = _roots(inventory, tables, {label for label in labels if label.startswith(_ROOT)}, now)
    kept: defaultdict[Place, set[str]] = defaultdict(set)
    while waiting:
        place, names = waiting.popitem()
        names -= kept[place]
        if not names:
            continue
        kept[place] |= names
        table = tables.get(place._replace(flat=False), {})
        _follow([table[name] for name in names if name in table], place, forward, waiting)
        for name in names & back.get(place, {}).keys():
            for other, leaning in back[place][name]:
                waiting[other].add(leaning)
    return Reach(kept=kept)


def _roots(inventory: Inventory, tables: _Tables, root_labels: AbstractSet[str], now: datetime) -> _Waiting:
    found: _Waiting = defaultdict(set)
    found[Place("image")].update(image.name for image in inventory.images if not _has_expired(image.labels, now))
    for container in inventory.containers:
        found[Place("container")].add(container.id)
        found[Place("snapshot", container.snapshotter)].add(container.snapshot_key)
    for lease in inventory.leases:
        for place, name in () if expired(lease, now) else _lease_resources(lease):
            found[place].add(name)
    for place, table in tables.items() if root_labels else ():
        if place.kind != "image":
            found[place].update(name for name, record in table.items() if not root_labels.isdisjoint(record.labels))
    return found


def _lease_resources(lease: Lease) -> Iterator[tuple[Place, str]]:
    flat = _FLAT in lease.labels
    for resource in lease.resources or ():
        if resource.type == "content":
            yield Place("content", flat=flat), resource.id
        elif resource.type == "images":
            yield Place("image", flat=flat), resource.id
        elif resource.type.startswith(_SNAPSHOTS):
            yield Place("snapshot", resource.type.removeprefix(_SNAPSHOTS), flat), resource.id


def _follow(records: Iterable[_Record], place: Place, forward: Mapping[str, Place], waiting: _Waiting) -> None:
    """Add what records of a place reference by themselves and, unless flat, by their labels; gc.go `references`."""
    if place.kind == "snapshot":
        waiting[place].update(each.parent for each in records if isinstance(each, Snapshot) and each.parent)
    elif place.kind == "image":
        targets = (each.target.digest for each in records if isinstance(each, Image))
        waiting[Place("content", flat=place.flat)].update(targets)
    below = {label: waiting[to] for label, to in forward.items()}
    for record in () if place.flat else records:
        for label, name in record.labels.items():
            if label in below:
                below[label].add(name)


def _back_references(
    tables: _Tables, labels: Mapping[str, Place], now: datetime
) -> Mapping[Place, Mapping[str, list[tuple[Place, str]]]]:
    """Return, by referenced object, the objects kept together with it; of images only the expired ones."""
    found: dict[Place, dict[str, list[tuple[Place, str]]]] = {}
    for place, table in tables.items() if labels else ():
        for name, record in table.items():
            for label in labels.keys() & record.labels.keys():
                if place.kind != "image" or _has_expired(record.labels, now):
                    leaning = found.setdefault(labels[label], {}).setdefault(record.labels[label], [])
                    leaning.append((place, name))
    return found
