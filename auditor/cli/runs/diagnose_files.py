"""Compare the unpacked files that may cause a message, within the time limit of a diagnosis."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from auditor.checks.evidence import Evidence
from auditor.diagnose.extract import Mentions
from auditor.diagnose.read_order import Wanted
from auditor.model.plural import plural
from auditor.model.snapshot_files import SnapshotFiles, SnapshotKey
from auditor.model.store import SourceKind, Store
from auditor.snapshots.examine import Examined, compare_files, counted, directories, unread
from auditor.snapshots.expected import Layers
from auditor.snapshots.presence import Needed, needed


class _Over(Exception):
    """The time limit was reached during a comparison."""


def examined(
    store: Store, mentions: Mentions, evidence: Evidence, want: Wanted, *, over: Callable[[], bool]
) -> Examined:
    """Look for the directory of each snapshot; compare files where the message may come from damaged ones.

    Args:
        store: The store that has the layers.
        mentions: What the text mentions.
        evidence: The first look of an audit.
        want: The blobs that the text leads to; where there are none of snapshots, all snapshots are compared.
        over: Returns whether the time limit is reached.

    """
    if evidence.info.kind is SourceKind.ARCHIVE:
        return Examined()
    wanted = needed(evidence)
    looked = directories(evidence, wanted, pause=time.sleep)
    files = dict(looked.files)
    chosen = _chosen(mentions, wanted, files, want)
    _count(files, chosen, over)
    chosen.sort(key=lambda key: (_as_recorded(files[key]), wanted[key].index))
    layers = Layers(store, evidence, admit=_admit(over))
    for number, key in enumerate(chosen):
        try:
            files[key] = compare_files(layers, wanted[key], files[key])
        except _Over:
            rest = plural(len(chosen) - number, "snapshot")
            late = f"within the time limit, {rest} could not be compared: raise --max-duration"
            return Examined(files, (late,), layers.verifications)
    return Examined(files, unread(files), layers.verifications)


def _chosen(
    mentions: Mentions,
    wanted: Mapping[SnapshotKey, Needed],
    files: Mapping[SnapshotKey, SnapshotFiles],
    want: Wanted,
) -> list[SnapshotKey]:
    """Return the snapshots to compare: those that the text leads to, else all; none for messages of other causes."""
    if not any("snapshot-damaged" in message.findings for message in mentions.known[:1]):
        return []
    present = [key for key, each in files.items() if not each.missing and not each.reason]
    named = [key for key in present if wanted[key].layer.descriptor.digest in want]
    return named or present


def _count(files: dict[SnapshotKey, SnapshotFiles], keys: list[SnapshotKey], over: Callable[[], bool]) -> None:
    """Count the space of files until the time limit: those that differ from their record are compared first."""
    for key in keys:
        if over():
            return
        files[key] = counted(files[key])


def _as_recorded(files: SnapshotFiles) -> bool:
    return files.counted is None or files.counted == files.recorded


def _admit(over: Callable[[], bool]) -> Callable[[int], None]:
    def admit(_count: int) -> None:
        if over():
            raise _Over

    return admit
