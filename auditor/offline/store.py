"""The store of a stopped containerd as a `Store`: records from its databases, content from its files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Final

from auditor.bbolt import database_file
from auditor.containerd.content_root import Absent, ContentRoot
from auditor.errors import NoFile, NoRecord, ReadFailed, StoreError
from auditor.model.digest import Digest
from auditor.model.oci import MAX_CONFIG
from auditor.model.plural import plural
from auditor.model.store import (
    DamageKind,
    FileKind,
    FileState,
    Inventory,
    Resource,
    Snapshotter,
    SourceKind,
    StoreDamage,
    StoreInfo,
    Verification,
)
from auditor.offline import metadata, schema
from auditor.offline.find_root import CONTENT, METADATA, find_root
from auditor.offline.ingest_files import spare_files
from auditor.offline.ingests import ingest
from auditor.offline.lost_records import from_files, left_out, no_records
from auditor.offline.node_platform import platform_note, unpacked_platform
from auditor.offline.paired_snapshots import pair
from auditor.offline.schema import Backend

_SNAPSHOTTER: Final = "io.containerd.snapshotter.v1."
#: A text without meaning; its presence keeps an id of another kind of store apart.
_UUID: Final = Path("io.containerd.grpc.v1.introspection", "uuid")
#: Snapshotters that can serve layers whose blobs are absent by design.
_LAZY: Final = frozenset(("erofs", "nydus", "soci", "stargz", "overlaybd"))
#: Snapshotters that keep a directory for each snapshot.
_DIRECTORIES: Final = frozenset(("native", "overlayfs"))


class OfflineStore:
    """Implements `auditor.model.store.Store` and `FileBacked`; reads the databases once, when it is made.

    Args:
        folder: containerd's root, or a mounted disk with one at a usual path.
        while_running: Read databases that a running daemon holds.
        spare: Read blobs without a whole file from unfinished writes that have their bytes.

    Raises:
        UsageError: There is no root, or more than one.
        StoreError: A daemon holds the databases.

    Attributes:
        root: containerd's root.
        content: The folder of the blobs.
        lost: Why there is no record; None where meta.db was read, in whole or in part.
        unread: Why meta.db could not be opened or read, so that nothing is known of its records; None where it was.

    """

    def __init__(self, folder: Path, *, while_running: bool = False, spare: bool = False) -> None:
        self.root = find_root(folder)
        self._running = while_running
        self.content = ContentRoot(self.root / CONTENT)
        if spare:
            found = spare_files(self.content.path / "ingest", self.content.states())
            self.content = ContentRoot(self.content.path, found)
        self._damage: list[StoreDamage] = []
        self._snapshot_gaps: dict[str, str] = {}
        self.lost: StoreError | None = None
        self.unread: StoreError | None = None
        read = self._metadata()
        self._damage += read.damage
        self._gaps = read.gaps
        self._lost_kinds = read.lost
        self._names_lost = read.names_lost
        self._records = {records.namespace: records for records in read.records}
        self._paired = {name: pair(name, self._records.values(), self._backend(name)) for name in self._snapshotters()}
        self._judge()
        self._complete()

    def info(self) -> StoreInfo:
        """Return the root's properties; the settings of the daemon are not on the disk."""
        return self._info

    @cached_property
    def _info(self) -> StoreInfo:
        blobs = chain.from_iterable(records.blobs.values() for records in self._records.values())
        platform = unpacked_platform(blobs, partial(self.content.read, limit=MAX_CONFIG))
        return StoreInfo(
            kind=SourceKind.OFFLINE,
            address=str(self.root),
            id=self._uuid(),
            content_root=self.content.path,
            snapshotters=tuple(map(self._snapshotter, self._paired)),
            platform=platform,
            notes=("the daemon's settings are not known from its disk", platform_note(platform)),
            damage=tuple(self._damage),
            gaps=self._gaps,
            partial=frozenset(self._lost_kinds),
        )

    def namespaces(self) -> Sequence[str]:
        """Return the names of all namespaces, sorted."""
        return tuple(sorted(self._records))

    def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
        """Return all records of a namespace."""
        records = self._records.get(namespace, schema.Records(namespace))
        wanted = [name for name in self._paired if snapshotters is None or name in snapshotters]
        if "snapshots" in self._lost_kinds.get(namespace, ()):
            # Unknown, not empty.
            wanted = []
        backends = tuple(self._snapshot_gaps[name] for name in wanted if name in self._snapshot_gaps)
        return Inventory(
            namespace=namespace,
            images=tuple(records.images),
            blobs=records.blobs,
            snapshots={n: self._paired[n].held.get(namespace, {}) for n in wanted if n not in self._snapshot_gaps},
            leases=records.leases,
            ingests=tuple(
                found for key in records.ingests if (found := ingest(self.content.path, namespace, key)) is not None
            ),
            containers=tuple(records.containers),
            labels=records.labels,
            gaps=(*left_out(records.bad), *backends, *self._without_folder(namespace, wanted)),
        )

    def resources(self, namespace: str, lease: str) -> Sequence[Resource]:
        """Return the resources of a lease."""
        records = self._records.get(namespace)
        return records.resources.get(lease, ()) if records is not None else ()

    def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
        """Return a small blob, unverified."""
        try:
            return self.content.read(digest, limit=limit)
        except Absent:
            raise self._no_file(namespace, digest) from None

    @contextmanager
    def stream(self, namespace: str, digest: Digest, *, fresh: bool = False) -> Iterator[Iterator[bytes]]:
        """Open a blob as chunks, unverified; `fresh` bypasses the page cache."""
        try:
            with self.content.opened(digest) as descriptor:
                yield self.content.pieces(descriptor, digest, fresh=fresh)
        except Absent:
            raise self._no_file(namespace, digest) from None

    def open_file(self, namespace: str, digest: Digest) -> int | None:
        """Open the blob's file; the caller closes the descriptor."""
        try:
            return self.content.open(digest)
        except Absent:
            raise self._no_file(namespace, digest) from None

    def files(self) -> Mapping[Digest, FileState]:
        """Return kind and size of every blob's file."""
        return self.content.states()

    def probe(self, namespace: str, digest: Digest, size: int) -> FileState:
        """Return the state of one blob's file."""
        del size
        if not self._recorded(namespace, digest):
            raise self._no_file(namespace, digest)
        return self._states.get(digest, FileState(FileKind.MISSING))

    def verifications(self) -> Mapping[Digest, Verification]:
        """Return nothing: opening verifies no content."""
        return {}

    def spare_note(self, wanted: Iterable[Digest] | None = None) -> str:
        """Return a sentence about the blobs that are read from unfinished writes; empty without any.

        Args:
            wanted: The blobs that count; those with a record by default.

        """
        if wanted is None:
            wanted = chain.from_iterable(records.blobs for records in self._records.values())
        sizes = [self._states[digest].size or 0 for digest in self.content.spare.keys() & set(wanted)]
        if not sizes:
            return ""
        blobs = plural(len(sizes), "blob")
        return f"{blobs} ({sum(sizes)} bytes) without a whole file in blobs/: read from ingest/, as their digests show"

    @property
    def lost_kinds(self) -> Mapping[str, frozenset[str]]:
        """The kinds of records of which some are lost, by namespace."""
        return self._lost_kinds

    @property
    def names_lost(self) -> bool:
        """Whether image records are lost."""
        return self.lost is not None or self._names_lost

    @cached_property
    def _states(self) -> Mapping[Digest, FileState]:
        return self.content.states()

    def _recorded(self, namespace: str, digest: Digest) -> bool:
        records = self._records.get(namespace)
        return records is not None and digest in records.blobs

    def _no_file(self, namespace: str, digest: Digest) -> NoFile | NoRecord:
        if self._recorded(namespace, digest):
            return NoFile(f"cannot read {digest}: {namespace} has its record, and there is no file")
        return NoRecord(f"{namespace} has no record of {digest}")

    def _metadata(self) -> metadata.Metadata:
        path = self.root / METADATA / "meta.db"
        try:
            copied = database_file.copy(path, while_running=self._running)
        except FileNotFoundError:
            return self._without_records(path, "is missing")
        except ReadFailed as error:
            hint = "check its type, its mode and its disk; auditor recover brings the images elsewhere without it"
            self.unread = StoreError(error.message, hint=hint)
            return metadata.Metadata((), (), (f"{error.message}: no image is known from it",))
        if not copied.data:
            return self._without_records(path, "is empty")
        found = metadata.read(copied, path)
        if found.damage and not found.records:
            return self._without_records(path, f"cannot be read: {found.damage[0].message}")
        return found

    def _without_records(self, path: Path, what: str) -> metadata.Metadata:
        """Return what is known where no record is left: that the files in blobs/ have none."""
        self.lost = no_records(path, what, len(self._states))
        gaps = (f"{path} {what}: no image is known",)
        if not self._states:
            return metadata.Metadata((), (), gaps)
        facts = {"files": len(self._states), "bytes": sum(state.size or 0 for state in self._states.values())}
        damage = StoreDamage(DamageKind.LOST, str(path), self.lost.message, facts)
        return metadata.Metadata((), (damage,), gaps)

    def _complete(self) -> None:
        """Add a record without labels for each file that may have a record in a lost part of meta.db."""
        for name, kinds in self._lost_kinds.items():
            if name in self._records and "content" in kinds:
                held = self._records[name].blobs
                held |= from_files(name, self._states, frozenset(held))

    def _snapshotters(self) -> list[str]:
        on_disk = {
            path.parent.name.removeprefix(_SNAPSHOTTER) for path in self.root.glob(f"{_SNAPSHOTTER}*/metadata.db")
        }
        recorded = {name for records in self._records.values() for name, held in records.snapshots.items() if held}
        return sorted(on_disk | recorded)

    def _backend(self, name: str) -> dict[str, Backend]:
        """Return the snapshots in a snapshotter's database; a database that cannot be read in whole is a gap."""
        path = self.root / f"{_SNAPSHOTTER}{name}" / "metadata.db"
        try:
            copied = database_file.copy(path, while_running=self._running)
        except FileNotFoundError:
            self._snapshot_gaps[name] = (
                f"the snapshots of {name} are not known: there is no {path}; they may lie elsewhere (root_path)"
            )
            return {}
        except ReadFailed as error:
            self._snapshot_gaps[name] = f"the snapshots of {name} are not known: {error.message}"
            return {}
        walk, faults = metadata.tree(copied, schema_of_meta=False)
        found = schema.backends(walk.top) if walk is not None else {}
        self._damage += metadata.start_faults(copied, path)
        faults += [metadata.lost_sentence(lost) for lost in (walk.lost if walk is not None else ())]
        if faults:
            self._damage.append(metadata.damaged(path, faults))
            self._snapshot_gaps[name] = f"the snapshots of {name} are not known: {path}: {faults[0]}"
        return found

    def _snapshotter(self, name: str) -> Snapshotter:
        root = str(self.root / f"{_SNAPSHOTTER}{name}")
        rows = None if name in self._snapshot_gaps else self._paired[name].rows
        return Snapshotter(name, root, lazy=name in _LAZY, rows=rows)

    def _judge(self) -> None:
        """Compare the records with the files and the snapshotters' databases."""
        if self._running:
            return
        for name, paired in self._paired.items():
            if name not in self._snapshot_gaps and paired.lone:
                self._unpaired(name, paired.lone)
        spare = {digest: state.size or 0 for digest, state in self._states.items()}
        for records in self._records.values():
            for digest in spare.keys() & records.blobs.keys():
                del spare[digest]
        if spare and not self._gaps:
            self._unrecorded(spare, len(self._states))

    def _without_folder(self, namespace: str, names: Sequence[str]) -> Iterator[str]:
        """Yield a sentence for each snapshotter whose snapshots have records and no folder, as in a partial copy."""
        for name in names:
            folder = self.root / f"{_SNAPSHOTTER}{name}" / "snapshots"
            if name in _DIRECTORIES and self._paired[name].recorded(namespace) and not folder.is_dir():
                yield f"the unpacked files of {name} were not checked: there is no {folder}"

    def _unpaired(self, name: str, lone: list[str]) -> None:
        message = f"{plural(len(lone), 'snapshot')} of {name} recorded in meta.db and not in its metadata.db: {lone[0]}"
        self._damage.append(StoreDamage(DamageKind.UNPAIRED, name, message, {"snapshots": len(lone)}))

    def _unrecorded(self, spare: Mapping[Digest, int], files: int) -> None:
        size = sum(spare.values())
        kind = DamageKind.LOST if len(spare) * 2 > files else DamageKind.UNRECORDED
        message = f"{len(spare)} of {files} blob files ({size} bytes) have no record in meta.db"
        facts: dict[str, int | str] = {"files": len(spare), "bytes": size, "first": str(min(spare))}
        self._damage.append(StoreDamage(kind, str(self.content.path), message, facts))

    def _uuid(self) -> str:
        try:
            return (self.root / _UUID).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError):
            return hashlib.sha256(str(self.root).encode()).hexdigest()
