"""One image as a store of its own, by single calls: every rule judges it, and nothing else is listed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final

from auditor.errors import MalformedDocument, ObjectError
from auditor.model.digest import Digest
from auditor.model.image_graph import children, key
from auditor.model.oci import Descriptor, ImageConfig, chain_ids, largest, parse
from auditor.model.store import Blob, FileKind, FileState, Image, Inventory, Resource, Snapshot, StoreInfo, Verification
from auditor.model.store_event import LookupStore

#: Label of a config with the chainID of the image's top snapshot; containerd core/unpack/unpacker.go.
_SNAPSHOT: Final = "containerd.io/gc.ref.snapshot."


def one_image(store: LookupStore, image: Image) -> OneImage:
    """Look up all that belongs to an image.

    Args:
        store: The daemon.
        image: The image's record.

    Returns:
        A store that holds this image alone.

    Raises:
        StoreError: The daemon failed.
        InvalidDigest: A record of the image is named by no digest.

    """
    namespace = image.namespace
    blobs: dict[Digest, Blob] = {}
    configs: dict[Digest, ImageConfig] = {}
    _collect(store, namespace, image.target, blobs, configs)
    leases, ingests = store.guards(namespace)
    inventory = Inventory(
        namespace=namespace,
        images=(image,),
        blobs=blobs,
        snapshots=_snapshots(store, namespace, blobs, configs),
        leases=tuple(leases),
        ingests=tuple(ingests),
    )
    return OneImage(store, inventory)


def _collect(
    store: LookupStore,
    namespace: str,
    root: Descriptor,
    blobs: dict[Digest, Blob],
    configs: dict[Digest, ImageConfig],
) -> None:
    """Look up the records of the graph below a target; what cannot be read is for the rules to find."""
    seen: set[Digest] = set()
    waiting = [root]
    while waiting:
        descriptor = waiting.pop()
        if descriptor.digest in seen:
            continue
        seen.add(descriptor.digest)
        record = store.blob(namespace, descriptor.digest)
        if record is None:
            continue
        blobs[record.digest] = record
        if key(descriptor) is None:
            continue
        try:
            raw = store.read(namespace, descriptor.digest, limit=largest(descriptor.media_type))
            document = parse(raw, descriptor.media_type, malformed_children=True)
        except (ObjectError, MalformedDocument):
            continue
        if isinstance(document, ImageConfig):
            configs[descriptor.digest] = document
        waiting.extend(children(document))


def _snapshots(
    store: LookupStore, namespace: str, blobs: Mapping[Digest, Blob], configs: Mapping[Digest, ImageConfig]
) -> dict[str, dict[str, Snapshot]]:
    """Look up the chains on the snapshotters that the configs name."""
    found: dict[str, dict[str, Snapshot]] = {name.name: {} for name in store.info().snapshotters}
    for digest, config in configs.items():
        names = [label.removeprefix(_SNAPSHOT) for label in blobs[digest].labels if label.startswith(_SNAPSHOT)]
        for name in names:
            for chain in map(str, chain_ids(config.diff_ids)):
                if (held := store.snapshot(namespace, name, chain)) is not None:
                    found.setdefault(name, {})[chain] = held
    return found


class OneImage:
    """Implements `auditor.model.store.Store` with the records of one image."""

    def __init__(self, store: LookupStore, inventory: Inventory) -> None:
        self._store = store
        self._inventory = inventory

    def info(self) -> StoreInfo:
        """Return the daemon's description."""
        return self._store.info()

    def namespaces(self) -> Sequence[str]:
        """Return the image's namespace."""
        return (self._inventory.namespace,)

    def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
        """Return the records of the image."""
        del namespace, snapshotters
        return self._inventory

    def resources(self, namespace: str, lease: str) -> Sequence[Resource]:
        """Return the resources of a lease."""
        return self._store.resources(namespace, lease)

    def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
        """Return a document."""
        return self._store.read(namespace, digest, limit=limit)

    def stream(self, namespace: str, digest: Digest, *, fresh: bool = False) -> AbstractContextManager[Iterator[bytes]]:
        """Open a blob."""
        return self._store.stream(namespace, digest, fresh=fresh)

    def files(self) -> Mapping[Digest, FileState] | None:
        """Return the states of the image's files; a missing one is left out, as in a listing."""
        states = {digest: self._store.file(digest) for digest in self._inventory.blobs}
        found = {digest: state for digest, state in states.items() if state is not None}
        return {d: state for d, state in found.items() if state.kind is not FileKind.MISSING} if found else None

    def probe(self, namespace: str, digest: Digest, size: int) -> FileState:
        """Examine one blob's file over the API."""
        return self._store.probe(namespace, digest, size)

    def verifications(self) -> Mapping[Digest, Verification]:
        """Return nothing: nothing was verified."""
        return {}
