"""Rebuild the files of one committed snapshot from its layer, while containers use it.

The layer is unpacked into a temporary snapshot. Its tree is moved to the quarantine, and from there it changes places
with the damaged one in one atomic step. So no damaged tree is ever in a folder that containerd removes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Protocol

import msgspec

from auditor.errors import AuditorError, Conflict, StoreError
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.model.store import Inventory, Resource, Snapshot
from auditor.model.writable_store import LeaseHandle, Mount, SnapshotWriter, WritableStore
from auditor.repair import quarantine
from auditor.repair.quarantine import Entry, Record

#: Prefix of the keys of temporary snapshots.
PREFIX = "auditor-rebuild-"
#: Label that protects the temporary snapshot where the lease has expired; containerd core/metadata/gc.go.
_ROOT_LABEL = "containerd.io/gc.root"
#: Start of the key of a snapshot into which a pull unpacks; containerd core/unpack/unpacker.go.
_EXTRACT = "extract-"
#: Parameters of the overlay module that bind an upper directory to the identity of its lower ones.
_IDENTITY = tuple(Path("/sys/module/overlay/parameters") / name for name in ("index", "nfs_export"))


class SnapshotStore(WritableStore, SnapshotWriter, Protocol):
    """A store in which snapshots can be rebuilt."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot to rebuild.

    Attributes:
        snapshot: Its record.
        folder: Its folder, `<root>/snapshots/<id>`.
        layer: The layer that it was unpacked from.
        diff_id: Digest of the decompressed layer.
        unpacked: Whether it was made by unpacking the layer, and not by committing a container.

    """

    snapshot: Snapshot
    folder: Path
    layer: Descriptor
    diff_id: Digest
    unpacked: bool = True

    @property
    def root(self) -> Path:
        """The root of the snapshotter."""
        return self.folder.parent.parent


#: Compares an unpacked tree with the layer; returns one sentence for each difference.
Compare = Callable[[Target, Path], Sequence[str]]


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a rebuild takes from outside.

    Attributes:
        token: Returns a new unique name.
        now: Returns the time.
        boot: Identifier of this boot.
        compare: Compares an unpacked tree with the layer.
        overlays: Returns the overlays that are mounted on a snapshot's folder.

    """

    token: Callable[[], str]
    now: Callable[[], datetime]
    boot: str
    compare: Compare
    overlays: quarantine.Overlays = quarantine.unknown


def refusal(target: Target, inventories: Iterable[Inventory], *, identity: Iterable[Path] = _IDENTITY) -> str:
    """Return why a snapshot cannot be rebuilt in place; empty where it can.

    Args:
        target: The snapshot.
        inventories: All namespaces.
        identity: Files with the parameters of the overlay module.

    """
    snapshot = target.snapshot
    if snapshot.snapshotter != "overlayfs":
        return f"only snapshots of overlayfs are exchanged; {snapshot.snapshotter} stores them in another form"
    if snapshot.kind != "committed" or not target.unpacked:
        return (
            "the snapshot was not made by unpacking a layer but by committing a container, and differs from its layer"
        )
    if any(_enabled(path) for path in identity):
        return "overlayfs runs with index or nfs_export on: containers on an exchanged layer could not be mounted again"
    if not os.access(target.folder.parent, os.W_OK | os.X_OK):
        return f"{target.folder.parent} cannot be written by this process; run as root on the node"
    for inventory in inventories:
        for key in inventory.snapshots.get(snapshot.snapshotter, {}):
            if key.startswith(_EXTRACT) and key.endswith(snapshot.name):
                return f"a pull in {inventory.namespace} is unpacking this layer now; run the repair again after it"
    return ""


def users(inventories: Iterable[Inventory], snapshotter: str, chain: str) -> tuple[str, ...]:
    """Return the containers on a snapshot, in all namespaces, as `namespace/id`, sorted."""
    found = set()
    for inventory in inventories:
        held = inventory.snapshots.get(snapshotter, {})
        for container in inventory.containers:
            if container.snapshotter == snapshotter and chain in _parents(held, container.snapshot_key):
                found.add(f"{inventory.namespace}/{container.id}")
    return tuple(sorted(found))


def rebuild(
    store: SnapshotStore, lease: LeaseHandle, target: Target, around: Surroundings, *, containers: tuple[str, ...]
) -> Entry | None:
    """Rebuild a snapshot; after a failure it is as it was.

    Args:
        store: The store; the caller holds its repair lock.
        lease: A lease of this run in the snapshot's namespace.
        target: The snapshot; `refusal` returned nothing for it, its parents are intact, its layer is verified.
        around: Time, names and the comparison.
        containers: The containers on it, for the record.

    Returns:
        The quarantine entry with the old files; None where there were none.

    Raises:
        Conflict: The unpacked layer does not have the diffID, or differs from the layer.
        StoreError: The daemon or the file system failed.

    """
    _hold(store, lease, target)
    _confirm_folder(store, lease, target, key=f"{PREFIX}view-{around.token()}")
    entry = quarantine.create(target.root, around.token(), _record(target, around, containers))
    try:
        _unpack(store, lease, target, entry, around.compare)
        quarantine.exchange(entry)
    except BaseException:
        with suppress(AuditorError):
            recover_entry(store, entry, now=around.now(), overlays=around.overlays)
        raise
    return quarantine.settle(entry, now=around.now(), overlays=around.overlays)


def recover(
    store: SnapshotStore, root: Path, *, now: datetime, overlays: quarantine.Overlays = quarantine.unknown
) -> tuple[str, ...]:
    """Finish or remove what killed rebuilds left; the caller holds the repair lock.

    Args:
        store: The store.
        root: Root of the snapshotter.
        now: The time.
        overlays: Returns the overlays that are mounted on a snapshot's folder.

    Returns:
        One sentence for each interrupted rebuild.

    Raises:
        StoreError: The daemon or the file system failed.

    """
    quarantine.clear_unrecorded(root)
    return tuple(recover_entry(store, entry, now=now, overlays=overlays) for entry in interrupted(root))


def interrupted(root: Path) -> tuple[Entry, ...]:
    """Return the entries of rebuilds that were killed."""
    return tuple(entry for entry in quarantine.entries(root) if not (entry.holds_old and entry.record.exchanged_at))


def recover_entry(
    store: SnapshotStore, entry: Entry, *, now: datetime, overlays: quarantine.Overlays = quarantine.unknown
) -> str:
    """Remove the temporary snapshot of a rebuild, then settle its entry."""
    record = entry.record
    store.remove_snapshot(record.namespace, record.snapshotter, record.key)
    kept = quarantine.settle(entry, now=now, overlays=overlays)
    done = "had exchanged its files" if kept else "is cleared"
    return f"an interrupted rebuild of the snapshot {record.chain} {done}"


def _record(target: Target, around: Surroundings, containers: tuple[str, ...]) -> Record:
    return Record(
        namespace=target.snapshot.namespace,
        snapshotter=target.snapshot.snapshotter,
        chain=target.snapshot.name,
        layer=str(target.layer.digest),
        key=f"{PREFIX}{around.token()}",
        target=str(target.folder),
        inode=quarantine.inode(target.folder / "fs"),
        boot=around.boot,
        containers=containers,
        started_at=around.now(),
    )


def _hold(store: SnapshotStore, lease: LeaseHandle, target: Target) -> None:
    store.hold(lease, Resource("content", target.layer.digest))
    store.hold(lease, Resource(f"snapshots/{target.snapshot.snapshotter}", target.snapshot.name))


def _confirm_folder(store: SnapshotStore, lease: LeaseHandle, target: Target, *, key: str) -> None:
    """Compare the folder with the one that the daemon mounts; without a folder, the daemon must fail to mount it.

    Raises:
        StoreError: They differ.

    """
    snapshot = target.snapshot
    try:
        mounted = top_folder(store.view_snapshot(lease, snapshot.snapshotter, key, parent=snapshot.name))
    except StoreError:
        if quarantine.inode(target.folder / "fs"):
            raise
        return
    finally:
        store.remove_snapshot(snapshot.namespace, snapshot.snapshotter, key)
    if mounted is None or not _same(mounted, target.folder / "fs"):
        raise StoreError(
            f"containerd mounts {mounted} for {snapshot.name}, not {target.folder / 'fs'}",
            hint="the snapshot was removed and unpacked again meanwhile; run the repair again",
        )


def top_folder(mounts: Sequence[Mount]) -> Path | None:
    """Return the folder of the topmost layer of a view; None where the mount has another form."""
    if len(mounts) != 1:
        return None
    if mounts[0].type == "bind":
        return Path(mounts[0].source)
    return next((Path(value.split(":")[0]) for value in _values(mounts[0], "lowerdir=")), None)


def _unpack(store: SnapshotStore, lease: LeaseHandle, target: Target, entry: Entry, compare: Compare) -> None:
    """Move a new, verified tree into the entry."""
    record, snapshot = entry.record, target.snapshot
    mounts = store.prepare_snapshot(
        lease,
        record.snapshotter,
        record.key,
        parent=snapshot.parent,
        labels={_ROOT_LABEL: record.started_at.isoformat()},
    )
    new = _upper(mounts, target)
    applied = store.unpack(lease, target.layer, mounts)
    if applied != target.diff_id:
        raise Conflict(
            f"{target.layer.digest} unpacked to {applied}, and the image names {target.diff_id}",
            hint="the layer's blob is damaged: run auditor repair --verify digests first",
        )
    differences = compare(target, new)
    if differences:
        raise Conflict(
            f"the newly unpacked files differ from the layer, too: {differences[0]}",
            hint="the disk or the memory may be failing; the snapshot was left as it was",
        )
    _copy_owner(target.folder / "fs", new)
    quarantine.sync_file_system(new)
    quarantine.take(entry, new)
    store.remove_snapshot(snapshot.namespace, record.snapshotter, record.key)


def _upper(mounts: Sequence[Mount], target: Target) -> Path:
    """Return the folder that the layer is unpacked into.

    Raises:
        StoreError: The mounts have a form that cannot be exchanged.

    """
    upper = None
    if len(mounts) == 1 and mounts[0].type == "bind":
        upper = Path(mounts[0].source)
    elif len(mounts) == 1 and mounts[0].type == "overlay" and "userxattr" not in mounts[0].options:
        upper = next(map(Path, _values(mounts[0], "upperdir=")), None)
    if upper is None or upper.name != "fs" or not _same(upper.parent.parent, target.folder.parent):
        raise StoreError(
            f"the snapshotter mounts {target.snapshot.name} in a form that cannot be exchanged",
            hint="rootless daemons, user extended attributes and other snapshotters are not supported",
        )
    return upper


def _values(mount: Mount, option: str) -> Iterator[str]:
    return (text.removeprefix(option) for text in mount.options if text.startswith(option))


def _copy_owner(old: Path, new: Path) -> None:
    """Give the new root directory the owner and mode of the old one, which no layer records."""
    with suppress(FileNotFoundError):
        found = old.stat(follow_symlinks=False)
        os.chown(new, found.st_uid, found.st_gid)
        new.chmod(found.st_mode & 0o7777)


def _same(first: Path, second: Path) -> bool:
    try:
        return first.samefile(second)
    except OSError:
        return False


def _enabled(path: Path) -> bool:
    try:
        return path.read_text().strip() == "Y"
    except OSError:
        return False


def _parents(held: Mapping[str, Snapshot], key: str) -> Iterator[str]:
    seen: set[str] = set()
    while key and key not in seen:
        yield key
        seen.add(key)
        key = held[key].parent if key in held else ""
