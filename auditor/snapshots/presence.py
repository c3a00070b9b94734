"""Look for the directories of the snapshots that the audited images need; the part of it that every check pays for."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final, Self, TypeVar

import msgspec

from auditor.audit.leftovers import leftovers, listed
from auditor.checks.evidence import Evidence
from auditor.model.image_graph import Layer
from auditor.model.snapshot_files import Row, SnapshotFiles, SnapshotKey
from auditor.model.store import LeftoverKind, Leftovers, Snapshot, SourceKind, StoreInfo
from auditor.snapshots.crashes import suspects
from auditor.snapshots.folders import Folders, named, read_folders, read_rows, unpaired_records

#: Seconds between two looks at a directory that is missing.
PAUSE: Final = 0.2
#: The snapshotter that keeps an image of a file system for each snapshot.
EROFS: Final = "erofs"
#: Where snapshotters keep a snapshot's files, below the directory with its id.
_PLACES: Final = {"overlayfs": "/fs", "native": "", EROFS: "/layer.erofs"}
_METADATA: Final = Path("io.containerd.metadata.v1.bolt", "meta.db")

_Key = TypeVar("_Key")


class Needed(msgspec.Struct, frozen=True):
    """A committed snapshot of an image's chain, and the layer that it was unpacked from; `index` counts from 0."""

    snapshot: Snapshot
    layer: Layer
    index: int

    @property
    def key(self) -> SnapshotKey:
        """The snapshot's identity."""
        return self.snapshot.namespace, self.snapshot.snapshotter, self.snapshot.name


class Location(msgspec.Struct, frozen=True):
    """A snapshotter whose directories are visible: its name, containerd's meta.db, and its root directory.

    `known`: its rows, where the store has read its database.
    """

    name: str
    metadata: Path
    root: Path
    known: Mapping[SnapshotKey, Row] | None = None

    def path(self, number: str) -> str:
        """Return the path of the files of a snapshot, by its id."""
        return f"{self.root}/snapshots/{number}{_PLACES[self.name]}"

    def rows(self) -> Mapping[SnapshotKey, Row]:
        """Return its committed snapshots now; errors as of `read_rows`."""
        return self.known if self.known is not None else read_rows(self.metadata, self.name, self.root)


def needed(evidence: Evidence) -> Mapping[SnapshotKey, Needed]:
    """Return the snapshots of the audited images' chains that containerd has a record of, each once."""
    return {each.key: each for each in _needed(evidence)}


def location(info: StoreInfo, name: str) -> Location | None:
    """Return where a snapshotter's directories are; None where it has none, or they are not visible."""
    known, content = info.snapshotter(name), info.content_root
    if known is None or not known.root or content is None or name not in _PLACES:
        return None
    return Location(name, content.parent / _METADATA, Path(known.root), known.rows)


class Presence(msgspec.Struct, frozen=True):
    """What a look at the directories found of needed snapshots.

    `files` has those whose directory is missing at two looks. `suspects` were unpacked just before a crash.
    `folders` has the databases that were read, by snapshotter. `incomplete` has a sentence for each snapshotter
    that could not be looked at, `failed` those among them whose disk did not answer.
    """

    files: Mapping[SnapshotKey, SnapshotFiles] = {}
    suspects: Mapping[SnapshotKey, tuple[Needed, SnapshotFiles]] = {}
    folders: Mapping[str, Folders] = {}
    incomplete: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    def joined(self, other: Self) -> Presence:
        """Return what both have."""
        return Presence(
            {**self.files, **other.files},
            {**self.suspects, **other.suspects},
            {**self.folders, **other.folders},
            (*self.incomplete, *other.incomplete),
            (*self.failed, *other.failed),
        )


class Looked(msgspec.Struct, frozen=True):
    """A snapshotter's database, and the keys of the committed snapshots in it whose directory was absent."""

    folders: Folders
    absent: frozenset[bytes]


def look_at_all(info: StoreInfo) -> Mapping[str, Looked]:
    """Look at the directories of snapshotters, by name; without those that are not visible, or cannot be read now."""
    found = {}
    for name in (each.name for each in info.snapshotters):
        with suppress(OSError, ValueError):
            if (place := location(info, name)) is not None and place.known is None:
                found[name] = _look_at(place)
    return found


def _look_at(place: Location) -> Looked:
    """Look at the directory of each committed snapshot. Raises OSError, ValueError."""
    folders = read_folders(place.root)
    return Looked(folders, frozenset(_absent(place, {key: folders.ids[key] for key in folders.created})))


def presence(
    evidence: Evidence,
    *,
    pause: Callable[[float], None],
    ends: Sequence[int] = (),
    looked: Mapping[str, Looked] = MappingProxyType({}),
) -> Presence:
    """Return the needed snapshots whose directory is missing, and those that a crash may have damaged.

    Nothing is written, and the daemon is not asked: its databases are read as files.

    Args:
        evidence: The first look of an audit.
        pause: Sleeps for a number of seconds.
        ends: When the machine or the daemon ended, from `crashes`; empty: there are no suspects.
        looked: What `look_at_all` found a moment ago, by snapshotter.

    """
    found = Presence()
    if evidence.info.kind is SourceKind.ARCHIVE:
        return found
    for name in sorted({name for view in evidence.views for name, held in view.inventory.snapshots.items() if held}):
        found = found.joined(_looked(evidence, name, pause, ends, looked.get(name)))
    return found


def _looked(
    evidence: Evidence,
    name: str,
    pause: Callable[[float], None],
    ends: Sequence[int],
    looked: Looked | None,
) -> Presence:
    place = location(evidence.info, name)
    if place is None:
        return Presence(incomplete=(f"the files of snapshots on {name} are not visible or not known",))
    try:
        return _presence(place, looked, evidence, pause, ends)
    except (OSError, ValueError) as error:
        why = (f"the files of snapshots on {name} could not be examined: {words(error)}",)
        out_of_sight = isinstance(error, FileNotFoundError | NotADirectoryError | PermissionError | ValueError)
        return Presence(incomplete=why, failed=() if out_of_sight else why)


def words(error: OSError | ValueError) -> str:
    """Return what went wrong, and with which file."""
    if not isinstance(error, OSError) or error.filename is None:
        return str(error)
    return f"{os.fsdecode(error.filename)}: {error.strerror}"


def _presence(
    place: Location,
    looked: Looked | None,
    evidence: Evidence,
    pause: Callable[[float], None],
    ends: Sequence[int],
) -> Presence:
    """Look at each directory; containerd's own database is read only where one is missing or suspect."""
    if place.known is not None:
        folders = read_folders(place.root)
        missing = _missing(place, place.known, evidence, pause)
        return Presence(missing, _doubted(place, folders, place.known, evidence, ends), {place.name: folders})
    looked = looked or _look_at(place)
    folders, absent = looked.folders, looked.absent
    doubtful = suspects(folders, ends) - absent
    if not absent and not doubtful:
        return Presence(folders={place.name: folders})
    wanted = needed(evidence)
    gone = _of(place, folders, absent)
    doubted = _of(place, folders, doubtful)
    return Presence(
        still_missing(place, [key for key in gone if key in wanted], pause),
        {key: (wanted[key], look(place, row)) for key, row in doubted.items() if key in wanted},
        {place.name: folders},
    )


def _doubted(
    place: Location, folders: Folders, rows: Mapping[SnapshotKey, Row], evidence: Evidence, ends: Sequence[int]
) -> Mapping[SnapshotKey, tuple[Needed, SnapshotFiles]]:
    """Return the snapshots of a stopped daemon's disk that a crash may have damaged."""
    ids = {folders.ids[key] for key in suspects(folders, ends)}
    wanted = needed(evidence) if ids else {}
    looked = {key: look(place, row) for key, row in rows.items() if row.id in ids and key in wanted}
    return {key: (wanted[key], files) for key, files in looked.items() if not files.missing}


def _of(place: Location, folders: Folders, keys: Collection[bytes]) -> Mapping[SnapshotKey, Row]:
    return named(place.metadata, place.name, {key: folders.row(key) for key in keys}) if keys else {}


def unpaired(evidence: Evidence, *, pause: Callable[[float], None]) -> frozenset[SnapshotKey]:
    """Return containerd's records of snapshots of which the snapshotter's database has no row, at two looks.

    Only snapshotters are read that lack a snapshot which the label of a config names: containerd lists no snapshot
    without such a row.

    Args:
        evidence: The first look of an audit.
        pause: Sleeps for a number of seconds.

    """
    found: set[SnapshotKey] = set()
    if evidence.info.kind is not SourceKind.CONTAINERD:
        return frozenset()
    for name in sorted(_lacking(evidence)):
        place = location(evidence.info, name)
        with suppress(OSError, ValueError):
            if place is not None and (first := unpaired_records(place.metadata, name, place.root)):
                pause(PAUSE)
                found |= first & unpaired_records(place.metadata, name, place.root)
    return frozenset(found)


def unowned(evidence: Evidence, known: Mapping[str, Folders] = MappingProxyType({})) -> tuple[Leftovers, ...]:
    """Return, by snapshotter, the directories that no snapshot of its database has; none where images are selected.

    Args:
        evidence: The first look of an audit.
        known: The databases that were read a moment ago, by snapshotter.

    """
    found = []
    whole = not any(view.selected for view in evidence.views)
    for name in (each.name for each in evidence.info.snapshotters if whole):
        place = location(evidence.info, name)
        with suppress(OSError, ValueError):
            if place is not None:
                folders, held = known.get(name) or read_folders(place.root), place.root / "snapshots"
                spare = set(listed(held)).difference(folders.ids.values())
                found.append(leftovers(LeftoverKind.SNAPSHOT, held, spare, evidence.now, owner=name))
    return tuple(each for each in found if each is not None)


def _lacking(evidence: Evidence) -> set[str]:
    """Return the snapshotters that do not list the snapshot which a config's label names."""
    found: set[str] = set()
    for view in evidence.views:
        for _, node in view.manifests():
            inside = view.content(node.digest)
            claims = view.claims(inside.manifest.config.digest) if inside is not None else {}
            found.update(name for name, top in claims.items() if top not in view.inventory.snapshots.get(name, {}))
    return found


def _missing(
    place: Location, rows: Mapping[SnapshotKey, Row], evidence: Evidence, pause: Callable[[float], None]
) -> Mapping[SnapshotKey, SnapshotFiles]:
    gone = _absent(place, {key: row.id for key, row in rows.items()})
    wanted = needed(evidence) if gone else {}
    return still_missing(place, [key for key in gone if key in wanted], pause)


def still_missing(
    place: Location, gone: Iterable[SnapshotKey], pause: Callable[[float], None]
) -> Mapping[SnapshotKey, SnapshotFiles]:
    """Look again for directories that were missing; a snapshot that was removed meanwhile is left out.

    Raises:
        ValueError: A database is damaged.
        OSError: A database or the folder of all directories cannot be read.

    """
    keys = list(gone)
    if not keys:
        return {}
    pause(PAUSE)
    rows = place.rows()
    return {key: look(place, rows[key]) for key in keys if key in rows}


def look(place: Location, row: Row) -> SnapshotFiles:
    """Return what one lstat tells of a snapshot's directory. Raises OSError where nothing can be told."""
    return SnapshotFiles(
        id=row.id, path=place.path(row.id), missing=bool(_absent(place, {row.id: row.id})), recorded=row.usage
    )


def _absent(place: Location, ids: Mapping[_Key, str]) -> list[_Key]:
    """Return the snapshots whose directory, or image, is absent, by one lstat each. Raises OSError."""
    expected = stat.S_IFREG if place.name == EROFS else stat.S_IFDIR
    found = []
    for key, number in ids.items():
        try:
            if stat.S_IFMT(os.lstat(place.path(number)).st_mode) != expected:
                found.append(key)
        except FileNotFoundError:
            (place.root / "snapshots").lstat()  # where the whole folder is out of sight, nothing is known
            found.append(key)
    return found


def _needed(evidence: Evidence) -> Iterator[Needed]:
    for view in evidence.views:
        for _, node in view.manifests():
            inside = view.content(node.digest)
            if inside is None or not inside.chain or not view.has(inside.manifest.config.digest):
                continue
            for held in view.inventory.snapshots.values():
                if inside.chain[-1] in held:
                    chain = zip(inside.chain, inside.layers, strict=False)
                    yield from (
                        Needed(held[name], layer, index) for index, (name, layer) in enumerate(chain) if name in held
                    )
