"""Compare one unpacked layer with its blob, apart from the store: the work of another process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

import msgspec

from auditor.model.digest import Digest
from auditor.model.snapshot_files import Differences
from auditor.model.store import Verification
from auditor.snapshots.beside import Admit, Beside, Unsettled, at_once
from auditor.snapshots.compare import agreed, compare
from auditor.snapshots.play_blob import play_blob, usable


class LayerTask(msgspec.Struct, frozen=True):
    """A layer and the `fs` directory that it was unpacked into.

    `size` is that of the blob. `lowest`: the layer has no parent. `privileged`: `trusted.*` xattrs are visible.
    `max_size`: Largest decompressed size in bytes that is compared.
    """

    digest: Digest
    size: int
    diff_id: Digest | None
    directory: bytes
    lowest: bool
    privileged: bool
    max_size: int | None = None


class LayerFiles(msgspec.Struct, frozen=True):
    """The differences of a layer's files, or why they cannot be judged; and the blob's verification, if intact."""

    differences: Differences | str
    verification: Verification | None = None


def compare_layer(
    blob: Callable[[], AbstractContextManager[Iterable[bytes]]], task: LayerTask, *, admit: Admit = at_once
) -> LayerFiles:
    """Compare as `examine.compare_files` does: equal content is not hashed, and differences are looked at twice.

    Args:
        blob: Opens the layer's blob; called again where the content of all files has to be hashed.
        task: What to compare.
        admit: Called before bytes are read; what it raises ends the comparison.

    Raises:
        StoreError: The blob cannot be read.
        OSError: The files cannot be read.

    """
    directory = Path(os.fsdecode(task.directory))
    try:
        with Beside(directory, admit=admit) as files:
            return _compared(blob, task, files, admit)
    except Unsettled:
        return _compared(blob, task, None, admit)


def _compared(
    blob: Callable[[], AbstractContextManager[Iterable[bytes]]], task: LayerTask, files: Beside | None, admit: Admit
) -> LayerFiles:
    with blob() as chunks:
        played, verification = play_blob(
            chunks, task.digest, lowest=task.lowest, files=files, max_size=task.max_size, admit=admit
        )
    directory = Path(os.fsdecode(task.directory))
    tree = usable(played, task.diff_id)
    if isinstance(tree, str):
        return LayerFiles(tree, verification)
    found = agreed(lambda: compare(tree, directory, privileged=task.privileged, admit=admit))
    return LayerFiles(found, verification)
