"""What garbage collection keeps: the closure of containerd's roots over its reference labels; no I/O.

core/metadata/gc.go: roots are images and leases that have not expired, containers, and what carries
`containerd.io/gc.root`; references are the labels `containerd.io/gc.ref.…`, and since 1.7 `gc.bref.…` the other way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from auditor.model.digest import Digest
from auditor.model.store import Image, Inventory, Labels, Lease, Snapshot

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
        return self._has("content", digest)

    def snapshot(self, snapshotter: str, name: str) -> bool:
        """Whether the snapshot stays."""
        return self._has("snapshot", name, snapshotter)

    def _has(self, kind: Kind, name: str, snapshotter: str = "") -> bool:
        # Nodes are tuples; a bare one is made in a fraction of the time, and each layer of each image is asked for.
        return (kind, name, snapshotter, False) in self.nodes or (kind, name, snapshotter, True) in self.nodes


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
    return [
        Node(meant[0], value, meant[1])
        for label, value in labels.items()
        if (meant := _meaning(prefix, label)) is not None
    ]


@lru_cache(maxsize=4096)
def _meaning(prefix: str, label: str) -> tuple[Kind, str] | None:
    """The kind of object that a label names and its snapshotter; a store has few labels, each of them many times."""
    if not label.startswith(prefix):
        return None
    what = label.removeprefix(prefix)
    if what.startswith(_SNAPSHOT):
        return "snapshot", what.removeprefix(_SNAPSHOT).partition("/")[0]
    kind = _NAMED.get(what.partition(".")[0].partition("/")[0])
    return None if kind is None else (kind, "")


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
    return any(map(_is_root, labels))


@lru_cache(maxsize=4096)
def _is_root(label: str) -> bool:
    return label.startswith(_ROOT)


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
    onward: list[Node] = []
    if node.kind == "content":
        blob = inventory.blobs.get(Digest(node.name))
        labels = blob.labels if blob is not None else {}
    elif node.kind == "snapshot":
        snapshot = inventory.snapshots.get(node.snapshotter, {}).get(node.name)
        if snapshot is not None and snapshot.parent:
            onward.append(Node(node.kind, snapshot.parent, node.snapshotter, node.flat))
        labels = snapshot.labels if snapshot is not None else {}
    elif node.kind == "image" and node.name in images:
        onward.append(Node("content", images[node.name].target.digest, flat=node.flat))
        labels = images[node.name].labels
    if labels and not node.flat:
        onward += [found for found in _read(labels, _REF) if found.kind != "container"]
    return onward


def _back_references(inventory: Inventory, now: datetime) -> Mapping[Node, list[Node]]:
    """By what they lean on, the objects that are kept as long as it is; of images only those that have expired."""
    found: dict[Node, list[Node]] = {}
    for blob in inventory.blobs.values():
        for support in _read(blob.labels, _BACK):
            found.setdefault(support, []).append(Node("content", blob.digest))
    for snapshot in _snapshots(inventory):
        for support in _read(snapshot.labels, _BACK):
            found.setdefault(support, []).append(_named(snapshot))
    for image in inventory.images:
        for support in _read(image.labels, _BACK) if _over(image.labels, now) else ():
            found.setdefault(support, []).append(Node("image", image.name))
    return found
