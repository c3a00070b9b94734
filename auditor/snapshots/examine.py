"""Examine the directories of the snapshots that the audited images need."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from auditor.checks.evidence import Evidence
from auditor.errors import AuditorError
from auditor.model.digest import Digest
from auditor.model.findings import Verify
from auditor.model.plural import plural
from auditor.model.snapshot_files import OF_CONTENT, Differences, Kind, SnapshotFiles, SnapshotKey, Usage
from auditor.model.store import SourceKind, Store, Verification
from auditor.snapshots.beside import Admit, Unsettled, at_once
from auditor.snapshots.compare import agreed, compare
from auditor.snapshots.erofs_image import in_image
from auditor.snapshots.expected import COMPARED, MERGED, Layers
from auditor.snapshots.layer_files import LayerFiles, LayerTask
from auditor.snapshots.presence import EROFS, Needed, location, look, needed, still_missing, words
from auditor.snapshots.tree import Node

_REFERENCE: Final = "containerd.io/snapshot.ref"
_ORIGIN: Final = "trusted.overlay.origin"
_ADMINISTER: Final = 21
#: Kinds that are compared in a snapshot that was unpacked just before a crash: content is not read.
_OF_CRASHES: Final = (OF_CONTENT - {Kind.ZEROED, Kind.CONTENT}) | {Kind.EXTRA, Kind.WHITEOUT_MISSING}
_COMMITTED: Final = "attributes and additional files, as the snapshot was committed and not unpacked"
_UNRECORDED: Final = "attributes and additional files: no label records whether the snapshot was unpacked or committed"
#: Begins the reason for a snapshot with files that only another user may read.
_FORBIDDEN: Final = "not permitted to read"
#: Begins the reason for a snapshot whose directory cannot be read.
_FAILED: Final = "cannot read"
_UNKNOWN: Final = "containerd does not report the snapshotter's directory, as 1.6 does not for native"
#: The snapshotter whose directories have the files of one layer.
_SINGLE: Final = "overlayfs"
_UNCOMPARED: Final = "only overlayfs, native and erofs are compared: {} keeps its files otherwise"

#: Compares layers in other processes; returns those that could be.
Ahead = Callable[[Mapping[SnapshotKey, LayerTask]], Mapping[SnapshotKey, LayerFiles]]


def nothing_ahead(_tasks: Mapping[SnapshotKey, LayerTask], /) -> Mapping[SnapshotKey, LayerFiles]:
    """Compare no layer in another process."""
    return {}


class Examined(msgspec.Struct, frozen=True):
    """What was found, by snapshot, and sentences about what could not be examined though it was asked for.

    `verifications` has the blobs of layers that were read on the way and are intact.
    """

    files: Mapping[SnapshotKey, SnapshotFiles] = {}
    incomplete: tuple[str, ...] = ()
    verifications: Mapping[Digest, Verification] = {}


def examine(
    store: Store,
    evidence: Evidence,
    *,
    pause: Callable[[float], None],
    admit: Admit = at_once,
    max_layer: int | None = None,
    known: Mapping[SnapshotKey, SnapshotFiles] = MappingProxyType({}),
    ahead: Ahead = nothing_ahead,
) -> Examined:
    """Look for the directory of each needed snapshot, and count or compare its files as the level asks.

    Nothing is written, and the daemon is not asked: its databases are read as files.

    Args:
        store: The store that has the layers.
        evidence: The first look of an audit.
        pause: Sleeps for a number of seconds.
        admit: Called before bytes of a layer or a file are read.
        max_layer: Largest decompressed size of a layer, in bytes, that is compared.
        known: What was found before; these snapshots are not examined again.
        ahead: Compares several layers at once; what it leaves out is compared here.

    """
    if evidence.info.kind is SourceKind.ARCHIVE:
        return Examined()
    layers = Layers(store, evidence, admit=admit, max_layer=max_layer)
    wanted = {key: each for key, each in needed(evidence).items() if key not in known}
    looked = directories(evidence, wanted, pause=pause)
    if evidence.verify is Verify.SNAPSHOTS_QUICK:
        found = {key: counted(files) for key, files in looked.files.items()}
    else:
        done = ahead(_tasks(layers, wanted, looked.files, max_layer))
        found = {
            key: compare_files(layers, wanted[key], files, done=done.get(key)) for key, files in looked.files.items()
        }
    return Examined({**known, **found}, (*looked.incomplete, *unread(found)), layers.verifications)


def _tasks(
    layers: Layers, wanted: Mapping[SnapshotKey, Needed], looked: Mapping[SnapshotKey, SnapshotFiles], most: int | None
) -> Mapping[SnapshotKey, LayerTask]:
    """Return the snapshots whose files depend on nothing but their own layer."""
    privileged = administrator()
    found = {}
    for key, files in looked.items():
        each = wanted[key]
        if files.missing or files.reason or each.snapshot.snapshotter != _SINGLE or layers.holder(each) is None:
            continue
        blob = each.layer.descriptor
        found[key] = LayerTask(
            blob.digest, blob.size, each.layer.diff_id, os.fsencode(files.path), each.index == 0, privileged, most
        )
    return found


def directories(
    evidence: Evidence, wanted: Mapping[SnapshotKey, Needed], *, pause: Callable[[float], None]
) -> Examined:
    """Return the directory of each snapshot, or that it is missing, without a look at its files.

    Args:
        evidence: The first look of an audit.
        wanted: The snapshots, from `needed`.
        pause: Sleeps for a number of seconds.

    """
    found: dict[SnapshotKey, SnapshotFiles] = {}
    incomplete = []
    for name in sorted({snapshotter for _, snapshotter, _ in wanted}):
        mine = {key: each for key, each in wanted.items() if key[1] == name}
        try:
            found |= _directories(evidence, name, mine, pause)
        except (OSError, ValueError) as error:
            incomplete.append(
                f"the files of {plural(len(mine), 'snapshot')} on {name} could not be examined: {words(error)}"
            )
    return Examined(found, tuple(incomplete))


def unreadable(files: SnapshotFiles) -> bool:
    """Return whether the files could not be read, which a run with other privileges may be able to."""
    return files.reason.startswith((_FORBIDDEN, _FAILED))


def unread(found: Mapping[SnapshotKey, SnapshotFiles]) -> tuple[str, ...]:
    """Return a sentence about the snapshots whose files could not be read; none where all could be."""
    reasons = [files.reason for files in found.values() if unreadable(files)]
    return (f"the files of {plural(len(reasons), 'snapshot')} could not be compared: {reasons[0]}",) if reasons else ()


def examine_suspects(
    store: Store,
    evidence: Evidence,
    suspects: Mapping[SnapshotKey, tuple[Needed, SnapshotFiles]],
    *,
    admit: Admit = at_once,
) -> Examined:
    """Count the files of snapshots that a crash may have damaged, and compare their sizes with the layers' headers.

    Contents, attributes and opaque markers are not compared. Where a layer cannot be used, only the count is judged.

    Args:
        store: The store that has the layers.
        evidence: The first look of an audit.
        suspects: The snapshots, from `presence`.
        admit: Called for each piece of a layer that is read.

    """
    layers = Layers(store, evidence, admit=admit)
    found = {key: _suspected(layers, each, counted(files)) for key, (each, files) in suspects.items()}
    return Examined(found, unread(found))


def _suspected(layers: Layers, needed: Needed, files: SnapshotFiles) -> SnapshotFiles:
    if files.counted is None:
        return files
    found = compare_files(layers, needed, files, contents=False)
    if found.differences is None:
        return found if unread({needed.key: found}) else msgspec.structs.replace(found, reason="")
    kinds = _OF_CRASHES if found.unpacked else OF_CONTENT
    differences = Differences(found.differences.of(kinds), found.differences.expected)
    return msgspec.structs.replace(found, differences=differences)


def _directories(
    evidence: Evidence, name: str, wanted: Mapping[SnapshotKey, Needed], pause: Callable[[float], None]
) -> dict[SnapshotKey, SnapshotFiles]:
    place = location(evidence.info, name)
    if place is None:
        return _unexamined(evidence, name, wanted)
    rows = place.rows()
    found = {key: look(place, rows[key]) for key in wanted if key in rows}
    found = {key: files for key, files in found.items() if not files.missing}
    return found | dict(still_missing(place, [key for key in wanted if key in rows and key not in found], pause))


def _unexamined(
    evidence: Evidence, name: str, wanted: Mapping[SnapshotKey, Needed]
) -> dict[SnapshotKey, SnapshotFiles]:
    if evidence.info.content_root is None and name in COMPARED:
        raise ValueError("the daemon's files are not visible")
    reason = _UNKNOWN if name in COMPARED else _UNCOMPARED.format(name)
    return {key: SnapshotFiles(id="", path="", reason=reason) for key in wanted}


def counted(files: SnapshotFiles) -> SnapshotFiles:
    """Return a snapshot's files with their present disk usage, or the reason why it could not be counted."""
    if files.missing or files.reason:
        return files
    try:
        return msgspec.structs.replace(files, counted=usage(Path(files.path)))
    except FileNotFoundError:
        return files  # it was removed meanwhile
    except OSError as error:
        return _not_read(files, error)


def _not_read(files: SnapshotFiles, error: OSError) -> SnapshotFiles:
    path = os.fsdecode(error.filename or files.path)
    if isinstance(error, PermissionError):
        reason = f"{_FORBIDDEN} {path}; run as root with CAP_DAC_READ_SEARCH"
    else:
        reason = f"{_FAILED} {path}: {os.strerror(error.errno or 0)}"
    return msgspec.structs.replace(files, reason=reason)


def usage(directory: Path) -> Usage:
    """Return allocated bytes and inodes of a directory and all below, as continuity's `fs.DiskUsage` counts them.

    A file counts as one inode.

    Raises:
        OSError: A directory cannot be read.

    """
    first = directory.lstat()
    seen: set[int] = set()
    size, inodes = first.st_blocks * 512, 1
    waiting = [os.fsencode(directory)] if stat.S_ISDIR(first.st_mode) else []
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                info = entry.stat(follow_symlinks=False)
                if info.st_nlink > 1 and not stat.S_ISDIR(info.st_mode):
                    if info.st_ino in seen:
                        continue
                    seen.add(info.st_ino)
                size += info.st_blocks * 512
                inodes += 1
                if stat.S_ISDIR(info.st_mode):
                    waiting.append(entry.path)
    return Usage(size, inodes)


def compare_files(
    layers: Layers, needed: Needed, files: SnapshotFiles, *, contents: bool = True, done: LayerFiles | None = None
) -> SnapshotFiles:
    """Return a snapshot's files with their differences from its layer, or the reason why they are not compared.

    Args:
        layers: The layers.
        needed: The snapshot.
        files: Its directory.
        contents: Whether files are read; else their sizes are compared.
        done: The comparison, where it was made before.

    """
    if files.missing or files.reason:
        return files
    if needed.snapshot.snapshotter not in COMPARED:
        return msgspec.structs.replace(files, reason=_UNCOMPARED.format(needed.snapshot.snapshotter))
    unpacked = _unpacked(layers, needed, Path(files.path))
    try:
        found = _differences(layers, needed, files, contents=contents) if done is None else _taken(layers, done)
    except AuditorError as error:
        return msgspec.structs.replace(files, reason=f"its layer cannot be read: {error}")
    except FileNotFoundError:
        return msgspec.structs.replace(files, missing=not Path(files.path).is_dir(), reason="it changed meanwhile")
    except OSError as error:
        return _not_read(files, error)
    if isinstance(found, str):
        return msgspec.structs.replace(files, reason=found)
    if not unpacked:
        why = _UNRECORDED if needed.snapshot.snapshotter in (MERGED, EROFS) else _COMMITTED
        found = Differences(found.of(OF_CONTENT), found.expected, (*found.skipped, why))
    return msgspec.structs.replace(files, differences=found, unpacked=unpacked)


def _taken(layers: Layers, done: LayerFiles) -> Differences | str:
    if done.verification is not None:
        layers.verifications[done.verification.digest] = done.verification
    return done.differences


def _differences(layers: Layers, needed: Needed, files: SnapshotFiles, *, contents: bool) -> Differences | str:
    """Return the differences that two looks at the files agree on, or why the files cannot be judged.

    Most content is compared while the layer is decoded. Where that leaves a file unsettled, the layer is read again and
    the content of all files is hashed.
    """
    try:
        return _looked(layers, needed, Path(files.path), contents=contents, beside=True)
    except Unsettled:
        return _looked(layers, needed, Path(files.path), contents=contents, beside=False)


def _looked(layers: Layers, needed: Needed, path: Path, *, contents: bool, beside: bool) -> Differences | str:
    def played(files: Path | None) -> Node | str:
        return layers.expected(needed, contents=contents, beside=files if beside else None)

    if needed.snapshot.snapshotter == EROFS:
        return in_image(played, path, contents=contents, admit=layers.admit)
    tree = played(path)
    if isinstance(tree, str):
        return tree
    return agreed(partial(compare, tree, path, privileged=administrator(), contents=contents, admit=layers.admit))


def _unpacked(layers: Layers, needed: Needed, path: Path) -> bool:
    """Return whether the snapshot was unpacked; a container's committed upper directory has neither sign.

    A merged directory and an image have no sign but the label, which `ctr images pull` of 1.x does not set; in merged
    directories those below count, too.
    """
    if needed.snapshot.snapshotter == EROFS:
        return needed.snapshot.labels.get(_REFERENCE) == needed.snapshot.name
    if needed.snapshot.snapshotter == MERGED:
        return all(each.snapshot.labels.get(_REFERENCE) == each.snapshot.name for each in layers.chain(needed))
    if needed.snapshot.labels.get(_REFERENCE) == needed.snapshot.name:
        return True
    with suppress(OSError):
        os.getxattr(path, _ORIGIN)
        return False
    return not any(_worked_on(Path(folder)) for folder, _, _ in os.walk(path))


def _worked_on(folder: Path) -> bool:
    with suppress(OSError):
        return any(name in (_ORIGIN, "trusted.overlay.impure") for name in os.listxattr(folder))
    return False


def administrator() -> bool:
    """Return whether this process has CAP_SYS_ADMIN, without which `trusted.*` xattrs are not listed."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        line = next(line for line in lines if line.startswith("CapEff:"))
        return bool(int(line.split()[1], 16) >> _ADMINISTER & 1)
    return False
