"""Whether the daemon's files are visible to this process, and are the daemon's and not another's of the same path."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from auditor.containerd.content_root import ContentRoot
from auditor.errors import AuditorError, UsageError
from auditor.model.store import Blob

ContentRootOption = Path | Literal["auto"] | None

_CONTENT = "io.containerd.content.v1.content"
#: containerd plugins/services/introspection/local.go keeps the daemon's id here, below its root.
_UUID = Path("io.containerd.grpc.v1.introspection", "uuid")
#: Records looked at when no id can be compared.
SAMPLE = 20

NOT_VISIBLE = "the daemon's files are not visible here, so every byte comes over the API"
ANOTHER = "the files at the daemon's content root belong to another containerd, so every byte comes over the API"


def given(path: Path, *, uuid: str) -> ContentRoot:
    """The content root that the user named, or the one below the containerd root that the user named.

    Raises UsageError where there is no `blobs`, or the files are another daemon's.
    """
    root = path if not (path / _CONTENT).is_dir() else path / _CONTENT
    if not _readable(root / "blobs"):
        raise UsageError(
            f"{path} is not a content root that can be read",
            hint=f"give the folder that holds blobs/, usually /var/lib/containerd/{_CONTENT}",
        )
    if _differ(_identity(root), uuid):
        raise UsageError(f"{path} belongs to another containerd than the one that answers")
    return ContentRoot(root)


def exported(path: Path, *, uuid: str, sample: Iterable[Blob]) -> ContentRoot | None:
    """The content root that the daemon names, where it is the same folder for us.

    In a container or on another host the path may not exist, or be somebody else's: then everything would look
    missing. So the daemon's id must be in the file beside it; where only the content root is mounted, a file must be
    there for one of the records in `sample`.
    """
    known = _identity(path)
    if known and uuid:
        return None if _differ(known, uuid) else ContentRoot(path)
    if not _readable(path / "blobs"):
        return None
    root = ContentRoot(path)
    return root if any(_has(root, blob) for blob in sample) else None


def explain(path: Path | None) -> str:
    """Why the files are not used."""
    return ANOTHER if path is not None and _readable(path / "blobs") else NOT_VISIBLE


def _differ(one: str, other: str) -> bool:
    """Whether both are known and not the same."""
    return bool(one and other) and one != other


def _has(root: ContentRoot, blob: Blob) -> bool:
    try:
        with root.opened(blob.digest) as descriptor:
            return os.fstat(descriptor).st_size == blob.size
    except (AuditorError, LookupError):
        return False


def _readable(folder: Path) -> bool:
    try:
        return folder.is_dir() and os.access(folder, os.R_OK | os.X_OK)
    except OSError:
        return False


def _identity(root: Path) -> str:
    try:
        return (root.parent / _UUID).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
