"""Files that no record of containerd leads to: stray names in blobs/, and folders of ingests that it does not list."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

from auditor.model.digest import HEX_LENGTH
from auditor.model.store import Inventory, LeftoverKind, Leftovers
from auditor.regular_file import open_regular

#: A name that changed less than this many seconds ago may belong to work that is under way.
SETTLED: Final = 60
#: Entries that are counted below one leftover folder; a snapshot may have millions.
_ENTRIES: Final = 100_000
#: Bytes of the file `ref` of an ingest that are read.
_LONGEST: Final = 4096


def in_content_root(
    root: Path, inventories: Iterable[Inventory], now: datetime, *, strays: Iterable[str]
) -> tuple[Leftovers, ...]:
    """Return the files of a content store that no record leads to.

    Args:
        root: The content root.
        inventories: The records of all namespaces, listed before.
        now: The current time; names that changed in the last minute are left out.
        strays: The names that `stray_names` returned.

    """
    ingests = root / "ingest"
    dead = _dead_ingests(ingests, {(i.namespace, ingest.ref) for i in inventories for ingest in i.ingests})
    found = [leftovers(LeftoverKind.INGEST, ingests, dead, now)]
    found.append(leftovers(LeftoverKind.STRAY, root / "blobs", strays, now))
    return tuple(each for each in found if each is not None)


def leftovers(
    kind: LeftoverKind, folder: Path, names: Iterable[str], now: datetime, *, owner: str = ""
) -> Leftovers | None:
    """Return the entries of a folder that did not change in the last minute, with their bytes; None without any.

    A name that a client makes or removes now is left out: its folder's ctime is that of the last rename or change.
    """
    sizes = {}
    for name in sorted(names):
        with suppress(OSError):
            looked = (folder / name).lstat()
            if now.timestamp() - looked.st_ctime >= SETTLED:
                sizes[name] = _size(folder / name, looked)
    if not sizes:
        return None
    whole, total = all(complete for _, complete in sizes.values()), sum(size for size, _ in sizes.values())
    return Leftovers(kind, str(folder), len(sizes), total, next(iter(sizes)), at_least=not whole, owner=owner)


def listed(folder: Path) -> tuple[str, ...]:
    """Return the names in a folder; empty where it cannot be listed."""
    with suppress(OSError):
        return tuple(os.listdir(folder))  # noqa: PTH208 - iterdir makes a path of each name
    return ()


def stray_names(root: Path) -> tuple[str, ...]:
    """Return the names below blobs/ of a content root that are neither an algorithm nor a digest of it."""
    return tuple(_stray(root / "blobs"))


def _stray(blobs: Path) -> Iterator[str]:
    for algorithm in listed(blobs):
        length = HEX_LENGTH.get(algorithm)
        if length is None or not stat.S_ISDIR(_mode(blobs / algorithm)):
            yield algorithm
            continue
        is_digest = re.compile(rf"[0-9a-f]{{{length}}}").fullmatch
        for name in listed(blobs / algorithm):
            if not is_digest(name):
                yield f"{algorithm}/{name}"


def _mode(path: Path) -> int:
    with suppress(OSError):
        return path.lstat().st_mode
    return 0


def _dead_ingests(folder: Path, known: Collection[tuple[str, str]]) -> tuple[str, ...]:
    """Return the names in ingest/ that belong to no listed ingest; of two folders of one, the older one.

    A folder's name is the SHA-256 of `<namespace>/<number>/<ref>`, which its file `ref` has; the number grows
    (core/metadata/content.go, plugins/content/local/store.go). A power cut leaves that file empty.
    """
    names = listed(folder)
    latest: dict[tuple[str, str], tuple[int, str]] = {}
    for name in names:
        key = _text(folder / name / "ref")
        namespace, number, ref = (*key.split("/", 2), "", "")[:3]
        if (namespace, ref) in known and number.isdecimal() and hashlib.sha256(key.encode()).hexdigest() == name:
            latest[namespace, ref] = max(latest.get((namespace, ref), (-1, "")), (int(number), name))
    living = {name for _, name in latest.values()}
    return tuple(name for name in names if name not in living)


def _text(path: Path) -> str:
    with suppress(OSError), open_regular(path) as file:
        return file.read(_LONGEST).decode("utf-8", "replace")
    return ""


def _size(path: Path, looked: os.stat_result) -> tuple[int, bool]:
    """Return the bytes of a file, or of the files below a folder, and whether all were counted."""
    if not stat.S_ISDIR(looked.st_mode):
        return looked.st_size, True
    total = 0
    for count, file in enumerate(_below(path)):
        if count >= _ENTRIES:
            return total, False
        with suppress(OSError):
            total += file.stat(follow_symlinks=False).st_size
    return total, True


def _below(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the entries below a folder that are no folders; what cannot be listed is left out."""
    left = [str(folder)]
    while left:
        with suppress(OSError), os.scandir(left.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    left.append(entry.path)
                else:
                    yield entry
