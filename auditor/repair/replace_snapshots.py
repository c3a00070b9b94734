"""Remove a snapshot that nobody uses, with those above it, and unpack all of them again under the same names.

A journal in the quarantine's folder is written before the first removal; from it the next run finishes a killed one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from auditor.errors import AlreadyThere, AuditorError, Conflict, NoRecord, StoreError
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.model.store import Resource
from auditor.model.writable_store import LeaseHandle
from auditor.repair.quarantine import FOLDER, sync_folder
from auditor.repair.rebuild_snapshot import PREFIX, SnapshotStore, Target

#: Ending of a journal's name.
_JOURNAL: Final = ".replace.json"
#: Ending of the name of one that is being written.
_UNFINISHED: Final = ".replace.new"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot to unpack again: its record, and the layer.

    Attributes:
        chain: Its name, the chainID.
        labels: Labels of its record.
        layer: Digest of the layer's blob.
        media_type: Media type of the blob.
        size: Size of the blob in bytes.
        diff_id: Digest of the decompressed layer.

    """

    namespace: str
    snapshotter: str
    chain: str
    parent: str
    labels: dict[str, str]
    layer: str
    media_type: str
    size: int
    diff_id: str

    @property
    def descriptor(self) -> Descriptor:
        """The layer's descriptor."""
        return Descriptor(digest=Digest.parse(self.layer), size=self.size, media_type=self.media_type)


def step(target: Target) -> Step:
    """Return the step for a snapshot."""
    snapshot = target.snapshot
    return Step(
        namespace=snapshot.namespace,
        snapshotter=snapshot.snapshotter,
        chain=snapshot.name,
        parent=snapshot.parent,
        labels=dict(snapshot.labels),
        layer=str(target.layer.digest),
        media_type=target.layer.media_type,
        size=target.layer.size,
        diff_id=str(target.diff_id),
    )


def replace(
    store: SnapshotStore, lease: LeaseHandle, root: Path, steps: Sequence[Step], *, token: Callable[[], str]
) -> None:
    """Remove snapshots and unpack them again.

    Args:
        store: The store; the caller holds its repair lock.
        lease: A lease of this run in the namespace of the snapshots.
        root: Root of the snapshotter.
        steps: A snapshot and all above it, parents first; the layers were verified.
        token: Returns a new unique name.

    Raises:
        Conflict: A snapshot is in use; nothing below it was removed, and what was is unpacked again.
        NoRecord: A layer was removed meanwhile; no snapshot was.
        StoreError: The daemon or the file system failed.

    """
    for each in steps:
        store.hold(lease, Resource("content", Digest.parse(each.layer)))
    journal = _write(root / FOLDER / f"{token()}{_JOURNAL}", steps)
    in_use: AuditorError | None = None
    for each in reversed(steps):
        try:
            store.remove_snapshot(each.namespace, each.snapshotter, each.chain)
        except Conflict as error:
            in_use = error
            break
    try:
        _unpack_absent(store, lease, steps, token)
    except AuditorError as error:
        raise StoreError(
            f"it was removed, and is not unpacked again yet: {error.message}",
            hint="the next auditor repair --snapshots finishes it; containerd unpacks it, too, when the image is used",
        ) from error
    _delete(journal)
    if in_use is not None:
        raise Conflict(
            f"a snapshot got a child meanwhile, or lists one that garbage collection has removed: {in_use.message}",
            hint="rebuild it with --rebuild exchange",
        )


def recover(
    store: SnapshotStore, lease: Callable[[str], LeaseHandle], root: Path, *, token: Callable[[], str]
) -> tuple[str, ...]:
    """Finish the replacements that were killed; the caller holds the repair lock.

    Args:
        store: The store.
        lease: Returns the lease of this run in a namespace.
        root: Root of the snapshotter.
        token: Returns a new unique name.

    Returns:
        One sentence for each.

    """
    for unfinished in (root / FOLDER).glob(f"*{_UNFINISHED}"):
        _delete(unfinished)
    notes = []
    for journal, steps in journals(root):
        try:
            _unpack_absent(store, lease(steps[0].namespace), steps, token)
        except NoRecord:
            notes.append(f"the interrupted replacement of {steps[0].chain} is over: its layer was removed meanwhile")
        except AuditorError as error:
            notes.append(f"the interrupted replacement of {steps[0].chain} is not finished: {error.message}")
            continue
        else:
            notes.append(f"the interrupted replacement of {steps[0].chain} has been finished")
        _delete(journal)
    return tuple(notes)


def journals(root: Path) -> Iterator[tuple[Path, tuple[Step, ...]]]:
    """Yield the journals of killed replacements."""
    for path in sorted((root / FOLDER).glob(f"*{_JOURNAL}")):
        with suppress(OSError, msgspec.DecodeError):
            steps = msgspec.json.decode(path.read_bytes(), type=tuple[Step, ...])
            if steps:
                yield path, steps


def _unpack_absent(store: SnapshotStore, lease: LeaseHandle, steps: Iterable[Step], token: Callable[[], str]) -> None:
    """Unpack the snapshots that do not exist, parents first.

    Raises:
        Conflict: A layer does not have its diffID.
        NoRecord: A parent or a layer does not exist.
        StoreError: The daemon failed.

    """
    for each in steps:
        held = store.inventory(each.namespace, snapshotters=(each.snapshotter,)).snapshots.get(each.snapshotter, {})
        if each.chain not in held:
            store.hold(lease, Resource("content", Digest.parse(each.layer)))
            _unpack(store, lease, each, key=f"{PREFIX}{token()}")
        with suppress(NoRecord):
            store.hold(lease, Resource(f"snapshots/{each.snapshotter}", each.chain))


def _unpack(store: SnapshotStore, lease: LeaseHandle, each: Step, *, key: str) -> None:
    try:
        mounts = store.prepare_snapshot(lease, each.snapshotter, key, parent=each.parent)
        applied = store.unpack(lease, each.descriptor, mounts)
        if applied != each.diff_id:
            raise Conflict(f"{each.layer} unpacked to {applied}, and the image names {each.diff_id}")
        with suppress(AlreadyThere):  # a pull was faster
            store.commit_snapshot(lease, each.snapshotter, each.chain, key, labels=each.labels)
    finally:
        with suppress(AuditorError):
            store.remove_snapshot(each.namespace, each.snapshotter, key)


def _write(path: Path, steps: Sequence[Step]) -> Path:
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = path.with_name(path.name.removesuffix(_JOURNAL) + _UNFINISHED)
        with temporary.open("wb") as file:
            file.write(msgspec.json.encode(tuple(steps)))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}", hint="is the file system full?") from error
    return path


def _delete(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
        path.parent.rmdir()
