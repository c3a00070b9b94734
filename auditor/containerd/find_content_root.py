"""Decide whether a folder visible to this process is the daemon's content root."""

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
#: File with the daemon's id, below its root; containerd plugins/services/introspection/local.go.
_UUID = Path("io.containerd.grpc.v1.introspection", "uuid")
#: Number of records that are compared with files when no id is available.
SAMPLE = 20

NOT_VISIBLE = "the daemon's files are not visible here: content is read over the API"
ANOTHER = "the files at the daemon's content root belong to another containerd: content is read over the API"


def find(option: ContentRootOption, reported: Path | None, *, uuid: str, sample: Iterable[Blob]) -> ContentRoot | None:
    """Return the content root that an option selects; None: the API alone.

    Args:
        option: "auto" for the one that the daemon reports, a path for the one that the user names, None for none.
        reported: The path that the daemon reports.
        uuid: The daemon's id; empty where it is unknown.
        sample: Some records.

    Raises:
        UsageError: The named folder is no content root, or that of another daemon.

    """
    if option is None:
        return None
    if option != "auto":
        return given(option, uuid=uuid)
    return exported(reported, uuid=uuid, sample=sample) if reported is not None else None


def given(path: Path, *, uuid: str) -> ContentRoot:
    """Return the content root that the user named.

    Args:
        path: The content root, or containerd's root above it.
        uuid: The daemon's id; empty where it is unknown.

    Raises:
        UsageError: It has no readable folder `blobs`, or belongs to another daemon.

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
    """Return the content root that the daemon reports, if the path is the same folder in this process.

    In a container or on another host the path may be absent, or belong to another daemon; every blob would then seem
    missing. The daemon's id must match the file below its root. Without that file, one record must have a file of its
    size.

    Args:
        path: The path that the daemon reports.
        uuid: The daemon's id; empty where it is unknown.
        sample: Some records.

    """
    known = _identity(path)
    if known and uuid:
        return None if _differ(known, uuid) else ContentRoot(path)
    if not _readable(path / "blobs"):
        return None
    root = ContentRoot(path)
    return root if any(_has(root, blob) for blob in sample) else None


def explain(path: Path | None) -> str:
    """Return why the files are not used."""
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
        return (root.parent / _UUID).read_bytes().decode("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
