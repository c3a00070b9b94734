"""What garbage collection keeps: the closure of containerd's roots over its reference labels; no I/O.

core/metadata/gc.go: roots are images and leases that have not expired, containers, and what carries
`containerd.io/gc.root`; references are the labels `containerd.io/gc.ref.…`, and since 1.7 `gc.bref.…` the other way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from auditor.digest import Digest
from auditor.store import Image, Inventory, Labels, Lease, Snapshot

_ROOT = "containerd.io/gc.root"
_EXPIRE = "containerd.io/gc.expire"
_FLAT = "containerd.io/gc.flat"
_REF = "containerd.io/gc.ref."
_BACK = "containerd.io/gc.bref."
_SNAPSHOT = "snapshot."
_SNAPSHOTS = "snapshots/"

Kind = Literal["content", "image", "snapshot", "container"]
#: The kinds of object that a label may name, by the word it names them with; gc.go `labelHandlers`.
_NAMED: Mapping[str, Kind] = {"content": "content", "image": "image", "container": "container"}


class Node(NamedTuple):
    """An object of the namespace; `flat` is one kept without what its labels reference, as by a flat lease."""

    kind: Kind
    name: str
    snapshotter: str = ""
    flat: bool = False


class Reach(msgspec.Struct, frozen=True):
    """The objects that a collection would keep."""

    nodes: frozenset[Node]

    def blob(self, digest: Digest) -> bool:
        """Whether the blob stays."""
        return any(Node("content", digest, flat=flat) in self.nodes for flat in (False, True))

    def snapshot(self, snapshotter: str, name: str) -> bool:
        """Whether the snapshot stays."""
        return any(Node("snapshot", name, snapshotter, flat) in self.nodes for flat in (False, True))


def _over(labels: Labels, now: datetime) -> bool:
    """Whether the expiry among `labels` has passed; not without one, nor with one that Go cannot read."""
    try:
        end = datetime.fromisoformat(labels[_EXPIRE])
    except (KeyError, ValueError):
        return False
    return end.tzinfo is not None and end < now


def expired(lease: Lease, now: datetime) -> bool:
    """Whether the next collection drops the lease; one whose expiry cannot be read is kept, as containerd keeps it."""
    return _over(lease.labels, now)


def references(labels: Labels) -> Iterator[tuple[str, str]]:
    """The blobs (snapshotter "", digest) and the snapshots that labels protect."""
    return ((node.snapshotter, node.name) for node in _read(labels, _REF) if node.kind in ("content", "snapshot"))


def _read(labels: Labels, prefix: str) -> list[Node]:
    """The objects that labels name; the reference's own name follows a `.` or a `/` and does not matter."""
    found = []
    for label, value in labels.items():
        if not label.startswith(prefix):
            continue
        what = label[len(prefix) :]
        if what.startswith(_SNAPSHOT):
            found.append(Node("snapshot", value, what[len(_SNAPSHOT) :].partition("/")[0]))
        elif (kind := _NAMED.get(what.partition(".")[0].partition("/")[0])) is not None:
            found.append(Node(kind, value))
    return found


def reachable(inventory: Inventory, *, now: datetime) -> Reach:
    """Compute what a collection at `now` would keep of this namespace.

    Leases whose resources were not listed hold nothing here; the caller lists them where that could matter.
    """
    back = _back_references(inventory, now)
    images = {image.name: image for image in inventory.images}
    todo = list(_roots(inventory, now))
    done: set[Node] = set()
    while todo:
        node = todo.pop()
        if node in done:
            continue
        done.add(node)
        todo.extend(_onward(inventory, images, node))
        todo.extend(back.get(node, ()))
    return Reach(nodes=frozenset(done))


def _roots(inventory: Inventory, now: datetime) -> Iterator[Node]:
    yield from (Node("image", image.name) for image in inventory.images if not _over(image.labels, now))
    for container in inventory.containers:
        yield Node("container", container.id)
        yield Node("snapshot", container.snapshot_key, container.snapshotter)
    for lease in inventory.leases:
        if not expired(lease, now):
            yield from _held(lease)
    yield from (Node("content", blob.digest) for blob in inventory.blobs.values() if _rooted(blob.labels))
    yield from (_named(snapshot) for snapshot in _snapshots(inventory) if _rooted(snapshot.labels))


def _rooted(labels: Labels) -> bool:
    return any(label.startswith(_ROOT) for label in labels)


def _snapshots(inventory: Inventory) -> Iterator[Snapshot]:
    return (snapshot for held in inventory.snapshots.values() for snapshot in held.values())


def _named(snapshot: Snapshot) -> Node:
    return Node("snapshot", snapshot.name, snapshot.snapshotter)


def _held(lease: Lease) -> Iterator[Node]:
    flat = _FLAT in lease.labels
    for resource in lease.resources or ():
        if resource.type == "content":
            yield Node("content", resource.id, flat=flat)
        elif resource.type == "images":
            yield Node("image", resource.id, flat=flat)
        elif resource.type.startswith(_SNAPSHOTS):
            yield Node("snapshot", resource.id, resource.type.removeprefix(_SNAPSHOTS), flat)


def _onward(inventory: Inventory, images: Mapping[str, Image], node: Node) -> Iterable[Node]:
    """What a node leads to: by nature, and by its labels unless it is kept flat; gc.go `references`."""
    labels: Labels = {}
    if node.kind == "content":
        blob = inventory.blobs.get(Digest(node.name))
        labels = blob.labels if blob is not None else {}
    elif node.kind == "snapshot":
        snapshot = inventory.snapshots.get(node.snapshotter, {}).get(node.name)
        if snapshot is not None and snapshot.parent:
            yield node._replace(name=snapshot.parent)
        labels = snapshot.labels if snapshot is not None else {}
    elif node.kind == "image" and node.name in images:
        yield Node("content", images[node.name].target.digest, flat=node.flat)
        labels = images[node.name].labels
    if not node.flat:
        yield from (found for found in _read(labels, _REF) if found.kind != "container")


def _back_references(inventory: Inventory, now: datetime) -> Mapping[Node, list[Node]]:
    """By what they lean on, the objects that are kept as long as it is; of images only those that have expired."""
    leaning = [(Node("content", blob.digest), blob.labels) for blob in inventory.blobs.values()]
    leaning += [(_named(snapshot), snapshot.labels) for snapshot in _snapshots(inventory)]
    leaning += [(Node("image", image.name), image.labels) for image in inventory.images if _over(image.labels, now)]
    found: dict[Node, list[Node]] = {}
    for node, labels in leaning:
        for support in _read(labels, _BACK):
            found.setdefault(support, []).append(node)
    return found
