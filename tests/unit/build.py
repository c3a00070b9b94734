"""Stores to audit, made of literals: layers, images and indexes as bytes, and a world that pulled them as containerd
would. A fault is then one change to the world.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from auditor.audit import audit, collect
from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.findings import Finding, Severity
from auditor.model.platforms import Platform, parse
from auditor.model.snapshot_files import SnapshotFiles, SnapshotKey
from auditor.model.store import (
    Blob,
    Image,
    Ingest,
    Inventory,
    Lease,
    Leftovers,
    Resource,
    Snapshot,
    Snapshotter,
    Verification,
)
from tests.unit.fakes import INFO, MemoryStore

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
LONG_AGO = NOW - timedelta(days=30)
OVERLAY = "overlayfs"
GZIP = f"{oci.OCI_LAYER}+gzip"
NODE = Platform("linux", "amd64")
CONTENT = "containerd.io/gc.ref.content"


@dataclass(frozen=True)
class Layer:
    """A layer: what it unpacks to, and what it is packed with; the same content packed otherwise is a twin."""

    content: str
    packing: str = "gzip -6"
    media_type: str = GZIP

    @property
    def data(self) -> bytes:
        return f"{self.packing}: {self.content}".encode()

    @property
    def diff_id(self) -> Digest:
        return Digest.of(self.content.encode())

    @property
    def digest(self) -> Digest:
        return Digest.of(self.data)


@dataclass(frozen=True)
class Document:
    """An index, a manifest or a config: bytes with a type, and what lies below it."""

    value: Any
    media_type: str
    platform: str = ""
    below: tuple[Document, ...] = ()
    layers: tuple[Layer, ...] = ()
    #: Instead of the value, as bytes.
    raw: bytes | None = None
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        return json.dumps(self.value, sort_keys=True).encode() if self.raw is None else self.raw

    @property
    def digest(self) -> Digest:
        return Digest.of(self.data)

    @property
    def config(self) -> Document:
        """The config of a manifest."""
        return self.below[0]

    @property
    def chain(self) -> tuple[Digest, ...]:
        """The chainIDs of a manifest's layers."""
        return oci.chain_ids([layer.diff_id for layer in self.layers])

    def describe(self, *, platform: bool = False) -> dict[str, Any]:
        """The descriptor that leads here, as JSON."""
        wire = describe(self.digest, len(self.data), self.media_type)
        if platform and self.platform:
            wire["platform"] = dict(zip(("os", "architecture", "variant"), self.platform.split("/"), strict=False))
        return wire | ({"annotations": dict(self.annotations)} if self.annotations else {})

    @property
    def target(self) -> oci.Descriptor:
        """The descriptor that leads here, as an image record has it."""
        return oci.Descriptor(self.media_type, self.digest, len(self.data))


def describe(digest: Digest, size: int, media_type: str) -> dict[str, Any]:
    """A descriptor as JSON."""
    return {"mediaType": media_type, "digest": str(digest), "size": size}


def image(
    *layers: Layer,
    platform: str = "linux/amd64",
    diff_ids: Iterable[Digest] | None = None,
    config: dict[str, Any] | None = None,
    config_type: str = oci.OCI_CONFIG,
    media_type: str = oci.OCI_MANIFEST,
    annotations: Mapping[str, str] | None = None,
    **fields: Any,
) -> Document:
    """A manifest over `layers` and its config; `fields` go into the manifest, `config` replaces the config's fields."""
    wire: dict[str, Any] = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
    ids = [layer.diff_id for layer in layers] if diff_ids is None else list(diff_ids)
    wire |= {"rootfs": {"type": "layers", "diff_ids": ids}} if config is None else config
    made = Document(wire if config is None else config, config_type)
    described = [describe(layer.digest, len(layer.data), layer.media_type) for layer in layers]
    value = {"mediaType": media_type, "config": made.describe(), "layers": described} | fields
    return Document(value, media_type, platform, (made,), layers, annotations=annotations or {})


def index(*below: Document, media_type: str = oci.OCI_INDEX, platforms: bool = True, **fields: Any) -> Document:
    """An index over manifests and indexes; without `platforms`, its descriptors name none."""
    described = [child.describe(platform=platforms) for child in below]
    return Document({"mediaType": media_type, "manifests": described} | fields, media_type, below=below)


def attestation(of: Document) -> Document:
    """What BuildKit puts beside an image."""
    notes = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": of.digest}
    statement = Layer("statement", "json", oci.IN_TOTO)
    return image(statement, platform="unknown/unknown", diff_ids=[statement.diff_id], annotations=notes)


class World:
    """A store on a linux/amd64 node with one snapshotter, and one namespace of it that tests pull into and damage."""

    def __init__(self, namespace: str = "k8s.io", *, store: MemoryStore | None = None, lazy: bool = False) -> None:
        info = msgspec.structs.replace(INFO, platform=NODE, snapshotters=(Snapshotter(OVERLAY, lazy=lazy),))
        self.store = store or MemoryStore(info=info)
        self.namespace = namespace
        self.verifications: dict[Digest, Verification] = {}
        self.snapshot_files: dict[SnapshotKey, SnapshotFiles] = {}
        self.leftovers: tuple[Leftovers, ...] = ()
        self.undeletable: dict[str, int] = {}
        if namespace not in self.store.namespaces():
            self.store.put(Inventory(namespace, snapshots={OVERLAY: {}}))

    @property
    def inventory(self) -> Inventory:
        return self.store.inventory_of(self.namespace)

    def change(self, **fields: Any) -> None:
        """Replace records of the namespace."""
        self.store.put(msgspec.structs.replace(self.inventory, **fields))

    # What clients do.

    def name(self, target: Document, *names: str, **fields: Any) -> None:
        """Write image records."""
        made = tuple(Image(self.namespace, name, target.target, **fields) for name in names)
        self.change(images=(*self.inventory.images, *made))

    def put(self, data: bytes, **labels: str) -> Digest:
        """Write a blob."""
        return self.store.add(data, self.namespace, labels=labels)

    def pull(
        self,
        target: Document,
        *names: str,
        platforms: tuple[str, ...] = ("linux/amd64",),
        unpack: bool = True,
    ) -> Document:
        """Pull as containerd does: the wanted platforms of an index, all labels, a snapshot for each layer."""
        self.name(target, *(names or ("docker.io/library/app:1",)))
        self._fetch(target, platforms, unpack=unpack)
        return target

    def _fetch(self, document: Document, platforms: tuple[str, ...], *, unpack: bool) -> None:
        if document.media_type in oci.INDEX_TYPES:
            labels = {f"{CONTENT}.m.{i}": str(child.digest) for i, child in enumerate(document.below)}
            self.put(document.data, **labels)
            for child in document.below:
                if child.media_type in oci.INDEX_TYPES or child.platform in platforms:
                    self._fetch(child, platforms, unpack=unpack)
            return
        labels = {f"{CONTENT}.l.{i}": str(layer.digest) for i, layer in enumerate(document.layers)}
        self.put(document.data, **{f"{CONTENT}.config": str(document.config.digest)}, **labels)
        claims = {f"containerd.io/gc.ref.snapshot.{OVERLAY}": document.chain[-1]} if unpack and document.layers else {}
        self.put(document.config.data, **claims)
        for layer in document.layers:
            self.put(layer.data, **({"containerd.io/uncompressed": layer.diff_id} if unpack else {}))
        if unpack:
            self.unpack(document)

    def unpack(self, manifest: Document, *, snapshotter: str = OVERLAY, **labels: str) -> None:
        """Make the snapshots of a manifest's layers."""
        parents = ("", *manifest.chain)
        for name, parent in zip(manifest.chain, parents, strict=False):
            self.snapshot(name, parent, snapshotter=snapshotter, **labels)

    def snapshot(self, name: str, parent: str = "", *, snapshotter: str = OVERLAY, **labels: str) -> None:
        """Write a snapshot record."""
        made = Snapshot(self.namespace, snapshotter, name, parent, labels=labels)
        held = self.inventory.snapshots
        self.change(snapshots={**held, snapshotter: {**held.get(snapshotter, {}), name: made}})

    def lease(
        self,
        name: str,
        *resources: Resource,
        age: timedelta = timedelta(0),
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Create a lease that holds `resources`."""
        made = Lease(self.namespace, name, labels or {}, NOW - age)
        self.change(leases=(*self.inventory.leases, made))
        self.store.hold(self.namespace, name, *resources)

    def ingest(self, ref: str, *, age: timedelta = timedelta(0), offset: int = 5) -> None:
        """Begin a write."""
        made = Ingest(self.namespace, ref, offset, 10, started_at=NOW - age, updated_at=NOW - age)
        self.change(ingests=(*self.inventory.ingests, made))

    # What goes wrong.

    def drop(self, *digests: Digest) -> None:
        """Delete content records, and files that no namespace needs any more."""
        for digest in digests:
            self.store.drop_record(self.namespace, digest)

    def drop_snapshots(self, *names: Digest) -> None:
        """Delete snapshots of every snapshotter."""
        held = self.inventory.snapshots
        self.change(snapshots={s: {n: v for n, v in of.items() if n not in names} for s, of in held.items()})

    def relabel(self, digest: Digest, change: Callable[[Mapping[str, str]], Mapping[str, str]]) -> None:
        """Change the labels of a blob."""
        blob = self.inventory.blobs[digest]
        self.record(msgspec.structs.replace(blob, labels=dict(change(blob.labels))))

    def unlabel(self, digest: Digest, *values: str) -> None:
        """Drop the labels of a blob that have one of these values, or all of them."""
        self.relabel(digest, lambda old: {k: v for k, v in old.items() if values and v not in values})

    def record(self, blob: Blob) -> None:
        """Write a content record as it is."""
        self.change(blobs={**self.inventory.blobs, blob.digest: blob})

    # What the audit says.

    def audit(self, **request: Any) -> audit.AuditResult:
        """Audit the whole store; findings are looked at again, at no cost of time."""
        request["platforms"] = tuple(parse(text) for text in request.get("platforms", ()))
        return audit.audit(
            self.store,
            collect.Request(**request),
            clock=lambda: NOW,
            pause=lambda _: None,
            read=lambda _: audit.Reading(
                self.verifications,
                snapshot_files=self.snapshot_files,
                leftovers=self.leftovers,
                undeletable=self.undeletable,
            ),
        )

    def findings(self, **request: Any) -> tuple[Finding, ...]:
        """All that is found, the worst first."""
        return self.audit(**request).findings

    def faults(self, **request: Any) -> list[tuple[str, str]]:
        """What is found over info: code and subject of each."""
        return [(f.code, f.subject.id) for f in self.findings(**request) if f.severity is not Severity.INFO]

    def notes(self, **request: Any) -> list[tuple[str, str]]:
        """What is found at info: code and subject of each."""
        return [(f.code, f.subject.id) for f in self.findings(**request) if f.severity is Severity.INFO]


#: Three layers that most tests share, and an image of them.
BASE, MIDDLE, TOP = Layer("base"), Layer("middle"), Layer("top")
APP = image(BASE, MIDDLE, TOP)
