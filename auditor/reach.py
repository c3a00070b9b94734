"""What garbage collection keeps: the closure of containerd's roots over its reference labels; no I/O.

core/metadata/gc.go: roots are image targets, leases that have not expired, containers' snapshots, and what carries
`containerd.io/gc.root`; references are the labels `containerd.io/gc.ref.…`, and since 1.7 `gc.bref.…` the other way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import msgspec

from auditor.digest import Digest
from auditor.store import Inventory, Lease

_ROOT = "containerd.io/gc.root"
_EXPIRE = "containerd.io/gc.expire"
_FLAT = "containerd.io/gc.flat"
_CONTENT = "containerd.io/gc.ref.content"
_SNAPSHOT = "containerd.io/gc.ref.snapshot."
_BACK_CONTENT = "containerd.io/gc.bref.content"
_BACK_IMAGE = "containerd.io/gc.bref.image"

#: A blob (snapshotter "", name its digest) or a snapshot.
Node = tuple[str, str]


class Reach(msgspec.Struct, frozen=True):
    """The blobs and snapshots that a collection would keep."""

    nodes: frozenset[Node]

    def blob(self, digest: Digest) -> bool:
        """Whether the blob stays."""
        return ("", digest) in self.nodes

    def snapshot(self, snapshotter: str, name: str) -> bool:
        """Whether the snapshot stays."""
        return (snapshotter, name) in self.nodes


def _before(labels: Mapping[str, str], now: datetime) -> bool | None:
    """Whether the expiry among `labels` lies before `now`; None without one, or with one that Go cannot read.

    An image past it is no root any more; content before it is one.
    """
    try:
        end = datetime.fromisoformat(labels[_EXPIRE])
    except (KeyError, ValueError):
        return None
    return end < now if end.tzinfo is not None else None


def expired(lease: Lease, now: datetime) -> bool:
    """Whether the next collection drops the lease; one whose expiry cannot be read is kept, as containerd keeps it."""
    return bool(_before(lease.labels, now))


def references(labels: Mapping[str, str]) -> Iterator[Node]:
    """What labels protect; the part behind the reference's name follows a `.` or a `/`."""
    for label, value in labels.items():
        if not label.startswith("containerd.io/gc.ref."):
            continue
        if label.startswith(_CONTENT) and label[len(_CONTENT) : len(_CONTENT) + 1] in ("", ".", "/"):
            yield ("", value)
        elif label.startswith(_SNAPSHOT):
            snapshotter = label[len(_SNAPSHOT) :]
            yield (snapshotter.partition("/")[0], value)


def reachable(inventory: Inventory, *, now: datetime) -> Reach:
    """Compute what a collection at `now` would keep of this namespace.

    Leases whose resources were not listed hold nothing here; the caller lists them where that could matter.
    """
    back = _back_references(inventory)
    kept: set[Node] = set()
    todo: list[Node] = []
    for node, deep in _roots(inventory, now):
        if deep:
            todo.append(node)
        else:
            kept.add(node)
    done: set[Node] = set()
    while todo:
        node = todo.pop()
        if node in done:
            continue
        done.add(node)
        todo.extend(_onward(inventory, node))
        todo.extend(back.get(node, ()))
    return Reach(nodes=frozenset(kept | done))


def _roots(inventory: Inventory, now: datetime) -> Iterator[tuple[Node, bool]]:
    for image in inventory.images:
        if _before(image.labels, now):
            continue
        yield ("", image.target.digest), True
        yield from ((node, True) for node in references(image.labels))
    for container in inventory.containers:
        yield (container.snapshotter, container.snapshot_key), True
    for lease in inventory.leases:
        if not expired(lease, now):
            yield from _held(lease)
    for blob in inventory.blobs.values():
        if _ROOT in blob.labels or _before(blob.labels, now) is False:
            yield ("", blob.digest), True
    for snapshotter, held in inventory.snapshots.items():
        yield from (((snapshotter, s.name), True) for s in held.values() if _ROOT in s.labels)


def _held(lease: Lease) -> Iterator[tuple[Node, bool]]:
    deep = _FLAT not in lease.labels
    for resource in lease.resources or ():
        if resource.type == "content":
            yield ("", resource.id), deep
        elif resource.type.startswith("snapshots/"):
            yield (resource.type.removeprefix("snapshots/"), resource.id), deep
    yield from ((node, True) for node in references(lease.labels))


def _onward(inventory: Inventory, node: Node) -> Iterable[Node]:
    snapshotter, name = node
    if not snapshotter:
        blob = inventory.blobs.get(Digest(name))
        return references(blob.labels) if blob is not None else ()
    snapshot = inventory.snapshots.get(snapshotter, {}).get(name)
    if snapshot is None:
        return ()
    parent = [(snapshotter, snapshot.parent)] if snapshot.parent else []
    return [*parent, *references(snapshot.labels)]


def _back_references(inventory: Inventory) -> Mapping[Node, list[Node]]:
    """By what they lean on, the blobs that are kept as long as it is."""
    targets = {image.name: ("", str(image.target.digest)) for image in inventory.images}
    found: dict[Node, list[Node]] = {}
    for blob in inventory.blobs.values():
        for label, value in blob.labels.items():
            if label.startswith(_BACK_CONTENT):
                found.setdefault(("", value), []).append(("", blob.digest))
            elif label.startswith(_BACK_IMAGE) and value in targets:
                found.setdefault(targets[value], []).append(("", blob.digest))
    return found
