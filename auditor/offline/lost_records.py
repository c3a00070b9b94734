"""The records in the lost parts of meta.db: which kinds they are of, and what the files still tell of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from auditor.bbolt.bolt import Lost
from auditor.errors import StoreError
from auditor.model.digest import Digest
from auditor.model.store import Blob, FileKind, FileState
from auditor.offline.schema import NAMESPACE_KINDS

#: Length of the paths that lead to a namespace, and to a kind in it.
_NAMESPACE, _KIND = 2, 3


def lost_kinds(lost: Iterable[Lost]) -> dict[str, frozenset[str]]:
    """Return, by namespace, the kinds of records of which some are lost: `images`, `content`, `snapshots` ….

    A lost part above the namespaces is in none of them.
    """
    found: dict[str, frozenset[str]] = {}
    for path in (one.path for one in lost if len(one.path) >= _NAMESPACE and one.path[0] == b"v1"):
        name = path[1].decode("utf-8", "replace")
        kinds = NAMESPACE_KINDS if len(path) < _KIND else frozenset((path[2].decode("utf-8", "replace"),))
        found[name] = found.get(name, frozenset()) | kinds
    return found


def from_files(namespace: str, states: Mapping[Digest, FileState], recorded: frozenset[Digest]) -> dict[Digest, Blob]:
    """Return a record without labels for each regular file that the namespace has no record of.

    Args:
        namespace: The namespace that lost content records.
        states: The files in blobs/.
        recorded: The blobs with a record in it.

    """
    return {
        digest: Blob(namespace, digest, state.size or 0)
        for digest, state in states.items()
        if state.kind is FileKind.REGULAR and digest not in recorded
    }


def left_out(sentences: list[str]) -> tuple[str, ...]:
    """Return a sentence about the records that are not valid; none where there are none."""
    if not sentences:
        return ()
    others = f", and {len(sentences) - 1} more like it" if len(sentences) > 1 else ""
    return (f"{sentences[0]}{others}: not audited",)


def no_records(path: Path, what: str, files: int) -> StoreError:
    """Return the error for a root without any record."""
    return StoreError(
        f"{path} {what}; {files} blob files have no record",
        hint="do not start containerd on this root: its next garbage collection deletes files without a record; "
        "keep a copy of the root, and put back a copy of meta.db; auditor recover brings the images elsewhere",
    )
