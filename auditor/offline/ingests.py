"""Unfinished writes on disk: the folders `ingest/<hash>` of the content store, by plugins/content/local/store.go."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from auditor.model.store import Ingest
from auditor.offline.schema import IngestKey

#: The longest text that a file of an ingest may have, in bytes.
_LONGEST: Final = 4096


def ingest(content_root: Path, namespace: str, key: IngestKey) -> Ingest | None:
    """Return an ingest; None where it has no folder, which the daemon does not list either."""
    folder = content_root / "ingest" / hashlib.sha256(key.backend.encode()).hexdigest()
    try:
        looked = (folder / "data").stat(follow_symlinks=False)
    except OSError:
        return None
    written = datetime.fromtimestamp(looked.st_mtime_ns // 1000 / 1_000_000, UTC)
    stated = _time(_text(folder / "updatedat"))
    total = _text(folder / "total")
    return Ingest(
        namespace,
        key.ref,
        looked.st_size,
        int(total) if total.isdecimal() else 0,
        "",
        _time(_text(folder / "startedat")),
        max(written, stated) if stated is not None else written,
    )


def _text(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, _LONGEST).decode("utf-8", "replace").strip()
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def _time(written: str) -> datetime | None:
    try:
        return datetime.fromisoformat(written).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
