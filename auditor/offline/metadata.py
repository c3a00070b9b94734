"""Open meta.db: by its newest valid meta page, else by a search for the root of the tree."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from auditor.bbolt import bolt, pages
from auditor.bbolt.database_file import Copy
from auditor.errors import StoreError
from auditor.model.store import DamageKind, StoreDamage
from auditor.offline import salvage, schema
from auditor.offline.lost_records import lost_kinds

#: How many lost parts are named one by one.
NAMED: Final = 20
#: Length of the path to the deepest bucket that holds records: v1/NAMESPACE/content/blob.
_BUCKETS: Final = 4
#: Namespaces that are read; each takes about a kilobyte of memory, and a hostile database has as many as it likes.
MAX_NAMESPACES: Final = 10_000
#: Length of the path to a namespace.
_NAMESPACE: Final = 2


class Metadata(msgspec.Struct, frozen=True):
    """The records of meta.db by namespace, its faults, and a sentence for each part that was not read.

    `lost` has the kinds of records of which some are lost, by namespace. `names_lost`: image records are lost, or whole
    namespaces.
    """

    records: tuple[schema.Records, ...]
    damage: tuple[StoreDamage, ...] = ()
    gaps: tuple[str, ...] = ()
    lost: Mapping[str, frozenset[str]] = {}
    names_lost: bool = False


def read(copied: Copy, path: Path) -> Metadata:
    """Read all records.

    Args:
        copied: The content of meta.db.
        path: The file, for messages.

    Raises:
        StoreError: It has more than MAX_NAMESPACES namespaces.

    """
    walk, faults = tree(copied, schema_of_meta=True)
    if walk is None:
        return Metadata((), *_told(path, faults))
    records = _records(walk, path)
    start = start_faults(copied, path)
    faults += map(lost_sentence, walk.lost)
    older = _older(copied, search=not records) if any(len(one.path) <= _BUCKETS for one in walk.lost) else None
    if older is None:
        lost = lost_kinds(walk.lost)
        if walk.unnamed:
            faults.append(f"{walk.unnamed} further parts are lost")
            lost = {each.namespace: schema.NAMESPACE_KINDS for each in records}
        above = walk.unnamed > 0 or any(len(one.path) < _NAMESPACE for one in walk.lost)
        names_lost = above or any("images" in kinds for kinds in lost.values())
        damage, gaps = _told(path, faults)
        return Metadata(records, (*damage, *start), gaps, lost, names_lost)
    faults.append(f"the whole tree at page {older.top.root} is read instead and may lack the last transactions")
    return Metadata(_records(older, path), *_told(path, faults))


def _records(walk: bolt.Walk, path: Path) -> tuple[schema.Records, ...]:
    found = tuple(islice(schema.namespaces(walk.top), MAX_NAMESPACES + 1))
    if len(found) > MAX_NAMESPACES:
        raise StoreError(
            f"{path} has more than {MAX_NAMESPACES} namespaces",
            hint="containerd does not make so many: somebody else wrote this file",
        )
    return found


def _older(copied: Copy, *, search: bool) -> bolt.Walk | None:
    """Return a whole tree older than the newest one: that of the other meta page; else, with `search`, by a search."""
    for meta in pages.metas(copied.data)[1:]:
        database = pages.Database(copied.data, page_size=meta.page_size, high_water=meta.high_water)
        if salvage.examine(database, meta.root) is not None:
            return bolt.Walk(database, meta.root)
    return _searched(copied) if search else None


def _searched(copied: Copy) -> bolt.Walk | None:
    """Return the newest whole tree that has containerd's schema, by a search of all pages."""
    for database in salvage.databases(copied.data):
        page = salvage.find_root(database)
        if page is not None:
            return bolt.Walk(database, page)
    return None


def tree(copied: Copy, *, schema_of_meta: bool) -> tuple[bolt.Walk | None, list[str]]:
    """Return the tree of a database; None where none is found.

    Args:
        copied: The database.
        schema_of_meta: Whether it is meta.db, whose root can be searched for.

    Returns:
        The walk, and a sentence for each fault of the file and its meta pages.

    """
    faults = [f"the sector at byte {hole} cannot be read" for hole in copied.holes]
    valid = pages.metas(copied.data)
    if valid:
        meta = valid[0]
        if len(valid) == 1 and not copied.in_use:
            faults.append(f"meta page {1 - meta.page} is damaged: the last transaction may be missing")
        database = pages.Database(copied.data, page_size=meta.page_size, high_water=meta.high_water)
        return bolt.Walk(database, meta.root), faults
    faults.append("both meta pages are damaged")
    found = _searched(copied) if schema_of_meta else None
    if found is not None:
        faults.append(f"the tree at page {found.top.root} was found by a search and may lack the last transaction")
        return found, faults
    return None, [*faults, "no whole tree was found"]


def start_faults(copied: Copy, path: Path) -> tuple[StoreDamage, ...]:
    """Return what keeps containerd from starting and loses no record: a damaged list of free pages."""
    valid = pages.metas(copied.data)
    fault = pages.freelist_fault(copied.data, valid[0]) if valid else ""
    if not fault:
        return ()
    sentence = f"{path}: {fault}; its records are whole, and containerd does not start with it"
    return (StoreDamage(DamageKind.DAMAGED, str(path), sentence, {"faults": 1}),)


def lost_sentence(lost: bolt.Lost) -> str:
    """Return a sentence that names a lost part."""
    path = "/".join(part.decode("utf-8", "replace") for part in lost.path) or "the top bucket"
    return f"{path} is lost in part: {lost.reason}"


def _told(path: Path, faults: list[str]) -> tuple[tuple[StoreDamage, ...], tuple[str, ...]]:
    if not faults:
        return (), ()
    return (damaged(path, faults),), tuple(f"{path}: {fault}" for fault in shortened(faults))


def damaged(path: Path, faults: list[str]) -> StoreDamage:
    """Return the fault of a damaged database."""
    more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
    return StoreDamage(DamageKind.DAMAGED, str(path), f"{path} is damaged: {faults[0]}{more}", {"faults": len(faults)})


def shortened(faults: list[str]) -> list[str]:
    """Return the first faults, and the number of the others."""
    others = [f"{len(faults) - NAMED} more parts are lost"] if len(faults) > NAMED else []
    return [*faults[:NAMED], *others]
