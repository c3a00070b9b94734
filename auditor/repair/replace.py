"""A bad file, and a content root that we may write to: the right file is put in its place, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

from auditor.repair.bench import Gone, NotRight, Workbench
from auditor.repair.commit import give
from auditor.repair.needs import Need
from auditor.source import Offer
from auditor.writable import Staging


def replace(bench: Workbench, staging: Staging, need: Need, offer: Offer) -> tuple[Path | None, list[str]]:
    """Stage the bytes, put them in place, read them back; where they are not right then, put back what was there.

    Gives where the bad copy is kept, and what is to be said besides. Raises SourceError, BadBytes, Gone, NotRight,
    StoreError.
    """
    with bench.bytes_of(need, offer) as chunks:
        staged = staging.stage(need.digest, chunks, size=need.size)
    namespace = _holder(bench, need)
    replaced = staging.replace(need.digest, staged)
    try:
        bench.prove(namespace, need)
    except NotRight:
        replaced.undo()
        raise
    _holder(bench, need)
    for place in need.places:
        give(bench, need, place, bench.labels(need, place, _document(bench, namespace, need)))
        bench.prove(place.namespace, need)
    return replaced.aside, [said for place in need.places if (said := bench.bind(need, place))]


def _holder(bench: Workbench, need: Need) -> str:
    """A namespace that has the record now. Raises Gone where none has."""
    for held in need.holders:
        if bench.store.has_record(held.namespace, need.digest):
            return held.namespace
    raise Gone(f"nobody has a record of {need.digest.short} any more: its image was removed meanwhile")


def _document(bench: Workbench, namespace: str, need: Need) -> bytes | None:
    if need.role not in ("index", "manifest", "config"):
        return None
    return bench.store.read(namespace, need.digest, limit=need.size)
