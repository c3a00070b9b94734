"""The objects that containerd's garbage collection keeps: the closure of its roots over reference labels; no I/O.

core/metadata/gc.go: roots are unexpired images and leases, containers, and objects with the label
`containerd.io/gc.root`. References are the labels `containerd.io/gc.ref.…`, and since 1.7 back-references `gc.bref.…`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Literal, cast

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


class Node(msgspec.Struct, frozen=True, gc=False):
    """An object of the namespace; `flat`: kept without the objects that its labels reference, as by a flat lease."""

    kind: Kind
    name: str
    snapshotter: str = ""
    flat: bool = False


class Reach(msgspec.Struct, frozen=True):
    """The objects that a collection keeps."""

    nodes: frozenset[Node]

    def blob(self, digest: Digest) -> bool:
        """Whether the blob is kept."""
        return self._has("content", digest)

    def snapshot(self, snapshotter: str, name: str) -> bool:
        """Whether the snapshot is kept."""
        return self._has("snapshot", name, snapshotter)

    def _has(self, kind: Kind, name: str, snapshotter: str = "") -> bool:
        return Node(kind, name, snapshotter) in self.nodes or Node(kind, name, snapshotter, True) in self.nodes


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
    return ((node.snapshotter, node.name) for node in _referenced(labels, _REF) if node.kind in ("content", "snapshot"))


def _referenced(labels: Labels, prefix: str) -> list[Node]:
    """Return the objects that labels reference; the part of the label after a further `.` or `/` is ignored."""
    return [
        Node(parsed[0], value, parsed[1])
        for label, value in labels.items()
        if (parsed := _parse_label(prefix, label)) is not None
    ]


@lru_cache(maxsize=4096)
def _parse_label(prefix: str, label: str) -> tuple[Kind, str] | None:
    """Return the kind and the snapshotter of the object that a label references; cached, since labels recur."""
    if not label.startswith(prefix):
        return None
    rest = label.removeprefix(prefix)
    if rest.startswith(_SNAPSHOT):
        return "snapshot", rest.removeprefix(_SNAPSHOT).partition("/")[0]
    kind = _NAMED.get(rest.partition(".")[0].partition("/")[0])
    return None if kind is None else (kind, "")


def reachable(inventory: Inventory, *, now: datetime) -> Reach:
    """Compute the objects of a namespace that a collection at `now` keeps.

    Args:
        inventory: The records of the namespace. Leases whose resources were not listed protect nothing here.
        now: The time of the collection, in UTC.

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
        todo += _references_of(inventory, images, node)
        if back:
            todo += back.get(node, ())
    return Reach(nodes=frozenset(done))


def _roots(inventory: Inventory, now: datetime) -> Iterator[Node]:
    yield from (Node("image", image.name) for image in inventory.images if not _has_expired(image.labels, now))
    for container in inventory.containers:
        yield Node("container", container.id)
        yield Node("snapshot", container.snapshot_key, container.snapshotter)
    for lease in inventory.leases:
        if not expired(lease, now):
            yield from _lease_resources(lease)
    yield from (Node("content", blob.digest) for blob in inventory.blobs.values() if _has_label(blob.labels, _ROOT))
    yield from (_snapshot_node(snapshot) for snapshot in _snapshots(inventory) if _has_label(snapshot.labels, _ROOT))


def _has_label(labels: Labels, prefix: str) -> bool:
    for label in labels:  # noqa: SIM110 - any() takes several times as long, and this runs for each record
        if label.startswith(prefix):
            return True
    return False


def _snapshots(inventory: Inventory) -> Iterator[Snapshot]:
    return (snapshot for held in inventory.snapshots.values() for snapshot in held.values())


def _snapshot_node(snapshot: Snapshot) -> Node:
    return Node("snapshot", snapshot.name, snapshot.snapshotter)


def _lease_resources(lease: Lease) -> Iterator[Node]:
    flat = _FLAT in lease.labels
    for resource in lease.resources or ():
        if resource.type == "content":
            yield Node("content", resource.id, flat=flat)
        elif resource.type == "images":
            yield Node("image", resource.id, flat=flat)
        elif resource.type.startswith(_SNAPSHOTS):
            yield Node("snapshot", resource.id, resource.type.removeprefix(_SNAPSHOTS), flat)


def _references_of(inventory: Inventory, images: Mapping[str, Image], node: Node) -> Iterable[Node]:
    """Return the objects that a node references, by its record and, unless flat, by its labels; gc.go `references`."""
    record: Blob | Snapshot | Image | None = None
    found: list[Node] = []
    if node.kind == "content":
        record = inventory.blobs.get(cast("Digest", node.name))  # compares as its text
    elif node.kind == "snapshot":
        record = inventory.snapshots.get(node.snapshotter, {}).get(node.name)
        if record is not None and record.parent:
            found.append(Node("snapshot", record.parent, node.snapshotter, node.flat))
    elif node.kind == "image":
        record = images.get(node.name)
        if record is not None:
            found.append(Node("content", record.target.digest, "", node.flat))
    if record is not None and record.labels and not node.flat:
        found += [each for each in _referenced(record.labels, _REF) if each.kind != "container"]
    return found


def _back_references(inventory: Inventory, now: datetime) -> Mapping[Node, list[Node]]:
    """Return, by referenced object, the objects kept together with it; of images only the expired ones."""
    found: dict[Node, list[Node]] = {}
    for node, labels in _with_back_references(inventory, now):
        for target in _referenced(labels, _BACK):
            found.setdefault(target, []).append(node)
    return found


def _with_back_references(inventory: Inventory, now: datetime) -> Iterator[tuple[Node, Labels]]:
    """Yield the few objects that have such labels."""
    for blob in inventory.blobs.values():
        if _has_label(blob.labels, _BACK):
            yield Node("content", blob.digest), blob.labels
    for snapshot in _snapshots(inventory):
        if _has_label(snapshot.labels, _BACK):
            yield _snapshot_node(snapshot), snapshot.labels
    for image in inventory.images:
        if _has_label(image.labels, _BACK) and _has_expired(image.labels, now):
            yield Node("image", image.name), image.labels
