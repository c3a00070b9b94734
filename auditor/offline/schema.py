"""containerd's records in its databases, by core/metadata/buckets.go and core/snapshots/storage/bolt.go.

Schema versions 3 (containerd 1.6, 1.7) and 4 (2.x) differ in the place of sandboxes only, which are not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, islice
from sys import intern
from typing import Final

import msgspec

from auditor.bbolt import go_time, varint
from auditor.bbolt.bolt import Bucket
from auditor.errors import InvalidDigest
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.model.snapshot_files import Row, Usage
from auditor.model.store import Blob, Container, Image, Labels, Lease, Resource
from auditor.offline.packed import SMALL, PackedLabels, PackedLeases, PackedResources

#: The buckets that a namespace may have.
NAMESPACE_BUCKETS: Final = frozenset(
    (b"labels", b"images", b"content", b"snapshots", b"leases", b"containers", b"sandboxes")
)
#: Their names, which are the kinds of records.
NAMESPACE_KINDS: Final = frozenset(name.decode() for name in NAMESPACE_BUCKETS)
#: A snapshotter's name is a part of the name of its folder, and is not to lead elsewhere.
_NO_FOLDER: Final = re.compile("[/\\0]")
_LONGEST: Final = 128
#: Shared by the records without labels.
_NONE: Final[Labels] = {}
_KINDS: Final = {1: "view", 2: "active", 3: "committed"}
Fields = Mapping[bytes, bytes | Bucket]


class SnapshotKey(msgspec.Struct, frozen=True, gc=False):
    """A snapshot record of meta.db, and the key of its partner in the snapshotter's metadata.db, which has its kind."""

    name: str
    parent: str
    backend: str
    labels: Labels = _NONE


class IngestKey(msgspec.Struct, frozen=True, gc=False):
    """An ingest record of meta.db: its reference, and the reference of its folder."""

    ref: str
    backend: str


class Records(msgspec.Struct):
    """All records of a namespace in meta.db; `bad` has a sentence for each that was left out."""

    namespace: str
    images: list[Image] = []
    blobs: dict[Digest, Blob] = {}
    snapshots: dict[str, list[SnapshotKey]] = {}
    leases: Sequence[Lease] = ()
    resources: dict[str, Sequence[Resource]] = {}
    ingests: list[IngestKey] = []
    containers: list[Container] = []
    labels: Labels = {}
    bad: list[str] = []
    #: Buckets that containerd does not make.
    unknown: list[str] = []


def text(value: bytes | Bucket | None) -> str:
    """Return a string value; empty where it is absent or a bucket."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def nanoseconds(value: bytes | Bucket | None) -> int:
    """Decode a time, in ns since 1970; 0 where it is unset."""
    return go_time.nanoseconds(value) if isinstance(value, bytes) else 0


def number(value: bytes | Bucket | None) -> int:
    """Return an integer in Go's zig-zag varint encoding; 0 where it is absent."""
    return varint.signed(value) if isinstance(value, bytes) else 0


def strings(value: bytes | Bucket | None) -> Labels:
    """Return the strings of a bucket; equal keys of different records share one string, many strings are packed."""
    if not isinstance(value, Bucket):
        return _NONE
    entries = value.items()
    first = list(islice(entries, SMALL))
    if len(first) < SMALL:
        return {intern(text(key)): text(item) for key, item in first} or _NONE
    packed = PackedLabels((key, item if isinstance(item, bytes) else b"") for key, item in chain(first, entries))
    return packed if packed.is_text() else dict(packed.pairs())


def buckets(value: bytes | Bucket | None) -> Iterator[tuple[str, Bucket]]:
    """Yield the buckets in a bucket, by key."""
    for key, item in value.items() if isinstance(value, Bucket) else ():
        if isinstance(item, Bucket):
            yield text(key), item


def namespaces(top: Bucket) -> Iterator[Records]:
    """Read the records of every namespace of meta.db."""
    for key, version in top.items():
        if key == b"v1" and isinstance(version, Bucket):
            for name, bucket in buckets(version):
                yield _namespace(name, bucket)


def _namespace(name: str, bucket: Bucket) -> Records:
    found = Records(name)
    for key, value in bucket.items():
        match key:
            case b"images":
                _images(found, value)
            case b"content":
                _content(found, value)
            case b"snapshots":
                _snapshots(found, value)
            case b"leases":
                _leases(found, value)
            case b"containers":
                found.containers = [_container(name, one, fields) for one, fields in _all(value) if fields]
            case b"labels":
                found.labels = strings(value)
            case _ if key not in NAMESPACE_BUCKETS:
                found.unknown.append(text(key))
    return found


def _all(value: bytes | Bucket | None) -> Iterator[tuple[str, Fields]]:
    """Yield the records of a bucket, by key."""
    for key, bucket in buckets(value):
        yield key, dict(bucket.items())


def _images(found: Records, value: bytes | Bucket) -> None:
    for name, bucket in buckets(value):
        add_image(found, name, bucket)


def add_image(found: Records, name: str, bucket: Bucket) -> None:
    """Read the record of an image, and add it."""
    labels = _NONE
    target: dict[bytes, bytes | Bucket] = {}
    annotations: Labels = {}
    for key, item in bucket.items():
        if key == b"labels":
            labels = strings(item)
        elif key == b"target" and isinstance(item, Bucket):
            target = dict(item.items())
        elif key == b"annotations":
            annotations = strings(item)
    if not target:
        return  # its page is lost
    digest = text(target.get(b"digest"))
    try:
        descriptor = Descriptor(
            intern(text(target.get(b"mediatype"))),
            Digest.parse(digest),
            number(target.get(b"size")),
            annotations=dict(annotations),
        )
    except InvalidDigest:
        found.bad.append(f"image {name!r} of {found.namespace} points to {digest!r}, which is not a digest")
        return
    found.images.append(Image(found.namespace, name, descriptor, labels))


def _content(found: Records, value: bytes | Bucket) -> None:
    for kind, bucket in buckets(value):
        if kind == "blob":
            for name, one in buckets(bucket):
                _blob(found, name, one)
        elif kind == "ingests":
            found.ingests = [IngestKey(ref, text(fields.get(b"ref"))) for ref, fields in _all(bucket)]


def _blob(found: Records, name: str, bucket: Bucket) -> None:
    labels = _NONE
    fields: dict[bytes, bytes] = {}
    for key, item in bucket.items():
        if isinstance(item, bytes):
            fields[key] = item
        elif key == b"labels":
            labels = strings(item)
    if b"size" not in fields:
        return  # its page is lost
    try:
        digest = Digest.parse(name)
    except InvalidDigest:
        found.bad.append(f"a content record of {found.namespace} is named {name!r}, which is not a digest")
        return
    found.blobs[digest] = Blob(
        found.namespace,
        digest,
        number(fields.get(b"size")),
        labels,
        nanoseconds(fields.get(b"createdat")),
        nanoseconds(fields.get(b"updatedat")),
    )


def _snapshots(found: Records, value: bytes | Bucket) -> None:
    for snapshotter, bucket in buckets(value):
        if _NO_FOLDER.search(snapshotter) or len(snapshotter) > _LONGEST:
            found.bad.append(f"snapshots of {found.namespace} are on {snapshotter!r}, which names no snapshotter")
            continue
        kept = found.snapshots.setdefault(intern(snapshotter), [])
        for key, one in buckets(bucket):
            labels = _NONE
            fields: dict[bytes, bytes] = {}
            for name, item in one.items():
                if isinstance(item, bytes):
                    fields[name] = item
                elif name == b"labels":
                    labels = strings(item)
            if b"name" not in fields:
                continue  # its page is lost
            kept.append(SnapshotKey(key, text(fields.get(b"parent")), text(fields[b"name"]), labels))


def _leases(found: Records, value: bytes | Bucket) -> None:
    leases = PackedLeases(found.namespace)
    for name, bucket in buckets(value):
        labels = _NONE
        created = b""
        held = PackedResources()
        for key, item in bucket.items():
            if key == b"labels":
                labels = strings(item)
            elif key == b"createdat":
                created = item if isinstance(item, bytes) else b""
            else:
                _hold(held, text(key), item)
        leases.add(name, created, labels)
        if count := len(held):
            found.resources[name] = held if count > SMALL else tuple(sorted(held))
    found.leases = leases


def _hold(held: PackedResources, kind: str, value: bytes | Bucket) -> None:
    if kind == "snapshots":
        for snapshotter, bucket in buckets(value):
            for key in bucket.keys():  # noqa: SIM118 - not a dict
                held.add(f"snapshots/{snapshotter}", key)
    elif isinstance(value, Bucket):
        for key in value.keys():  # noqa: SIM118 - not a dict
            held.add(kind, key)


def _container(namespace: str, name: str, fields: Fields) -> Container:
    return Container(
        namespace,
        name,
        text(fields.get(b"image")),
        intern(text(fields.get(b"snapshotter"))),
        text(fields.get(b"snapshotKey")),
    )


class Backend(msgspec.Struct, frozen=True, gc=False):
    """A snapshot in a snapshotter's metadata.db: its kind, the id of its directory, and the usage at commit time."""

    kind: str
    id: str
    size: int
    inodes: int

    def row(self) -> Row:
        """Return what is known of the directory."""
        return Row(self.id, Usage(self.size, self.inodes))


def backends(top: Bucket) -> dict[str, Backend]:
    """Return the snapshots of a snapshotter's metadata.db, by backend key."""
    found: dict[str, Backend] = {}
    for key, version in top.items():
        for name, bucket in buckets(version) if key == b"v1" else ():
            if name == "snapshots":
                found.update((backend, _backend(fields)) for backend, fields in _all(bucket) if b"kind" in fields)
    return found


def _backend(fields: Fields) -> Backend:
    kind, identifier = fields[b"kind"], fields.get(b"id")
    known = _KINDS.get(kind[0], "unknown") if isinstance(kind, bytes) and kind else "unknown"
    directory = str(varint.unsigned(identifier)) if isinstance(identifier, bytes) else ""
    return Backend(known, directory, number(fields.get(b"size")), number(fields.get(b"inodes")))
