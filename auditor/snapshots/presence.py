"""Look for the directories of the snapshots that the audited images need; the part of it that every check pays for."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from auditor.checks.evidence import Evidence
from auditor.model.image_graph import Layer
from auditor.model.snapshot_files import Row, SnapshotFiles, SnapshotKey
from auditor.model.store import Snapshot, SourceKind
from auditor.snapshots.folders import read_rows

#: Seconds between two looks at a directory that is missing.
PAUSE: Final = 0.2
#: Snapshotters that keep a directory for each snapshot, and the directory's name below the snapshot's own.
_DIRECTORIES: Final = {"overlayfs": "/fs", "native": ""}
_METADATA: Final = Path("io.containerd.metadata.v1.bolt", "meta.db")


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

    def rows(self) -> Mapping[SnapshotKey, Row]:
        """Return its committed snapshots now; errors as of `read_rows`."""
        return self.known if self.known is not None else read_rows(self.metadata, self.name, self.root)


def needed(evidence: Evidence) -> Mapping[SnapshotKey, Needed]:
    """Return the snapshots of the audited images' chains that containerd has a record of, each once."""
    return {each.key: each for each in _needed(evidence)}


def location(evidence: Evidence, name: str) -> Location | None:
    """Return where a snapshotter's directories are; None where it has none, or they are not visible."""
    known, content = evidence.snapshotter(name), evidence.info.content_root
    if known is None or not known.root or content is None or name not in _DIRECTORIES:
        return None
    return Location(name, content.parent / _METADATA, Path(known.root), known.rows)


def missing(evidence: Evidence, *, pause: Callable[[float], None]) -> Mapping[SnapshotKey, SnapshotFiles]:
    """Return the needed snapshots whose directory is missing at two looks.

    Nothing is written, and the daemon is not asked: its databases are read as files. A snapshotter whose databases
    cannot be read is left out.

    Args:
        evidence: The first look of an audit.
        pause: Sleeps for a number of seconds.

    """
    found: dict[SnapshotKey, SnapshotFiles] = {}
    if evidence.info.kind is SourceKind.ARCHIVE:
        return found
    for name in sorted({name for view in evidence.views for name in view.inventory.snapshots}):
        place = location(evidence, name)
        with suppress(OSError, ValueError):
            if place is not None:
                found |= _missing(place, evidence, pause)
    return found


def _missing(
    place: Location, evidence: Evidence, pause: Callable[[float], None]
) -> Mapping[SnapshotKey, SnapshotFiles]:
    rows = place.rows()
    gone = [key for key, row in rows.items() if _absent(place, row)]
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
    return SnapshotFiles(id=row.id, path=_path(place, row), missing=_absent(place, row), recorded=row.usage)


def _path(place: Location, row: Row) -> str:
    return f"{place.root}/snapshots/{row.id}{_DIRECTORIES[place.name]}"


def _absent(place: Location, row: Row) -> bool:
    try:
        return not stat.S_ISDIR(os.lstat(_path(place, row)).st_mode)
    except FileNotFoundError:
        (place.root / "snapshots").lstat()  # where the whole folder is out of sight, nothing is known
        return True


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
