"""A blob without a record: its bytes are written and committed, or another namespace's are adopted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from auditor.errors import AlreadyThere
from auditor.model.blob_source import Offer, proven
from auditor.model.oci import CONFIG_TYPES, INDEX_TYPES, MANIFEST_TYPES, MAX_DOCUMENT
from auditor.model.store import Labels
from auditor.model.writable_store import Staging
from auditor.repair.context import Gone, NotRight, Workbench
from auditor.repair.needs import Need, Place
from auditor.repair.own_state import ref
from auditor.repair.plan import NAMESPACE

_DOCUMENTS = INDEX_TYPES | MANIFEST_TYPES | CONFIG_TYPES


def commit(bench: Workbench, need: Need, offer: Offer) -> list[str]:
    """Give each place a record and prove it; what is to be said besides is returned.

    Raises SourceError, NotRight where the store has bad bytes under this name already, StoreError, Busy, Conflict.
    """
    rest = list(need.places)
    raw: bytes | None = None
    with bench.bytes_of(need, offer) as chunks:
        raw, data = document(need, chunks)
        if offer.source.startswith(NAMESPACE):
            for _ in data:
                pass
        else:
            first = rest.pop(0)
            _write(bench, need, first, data, bench.labels(need, first, raw))
            bench.prove(first.namespace, need)
    for place in rest:
        give(bench, need, place, bench.labels(need, place, raw))
        bench.prove(place.namespace, need)
    return [said for place in need.places if (said := bench.bind(need, place))]


def document(need: Need, chunks: Iterator[bytes]) -> tuple[bytes | None, Iterable[bytes]]:
    """A document's bytes whole, for its labels must be in the commit: without them its children would be collected."""
    if need.media_type not in _DOCUMENTS or need.size > MAX_DOCUMENT:
        return None, chunks
    raw = b"".join(chunks)
    return raw, iter((raw,) if raw else ())


def _write(bench: Workbench, need: Need, place: Place, data: Iterable[bytes], labels: Labels) -> None:
    lease = bench.leases.get(place.namespace)
    try:
        bench.store.ingest(lease, ref(need.digest), iter(data), size=need.size, expected=need.digest, labels=labels)
    except AlreadyThere:
        bench.store.label(place.namespace, need.digest, labels)


def give(bench: Workbench, need: Need, place: Place, labels: Labels) -> None:
    """Make a record in one more namespace from what the store has; where namespaces do not share, from a copy."""
    lease = bench.leases.get(place.namespace)
    try:
        if not bench.store.adopt(lease, need.digest, size=need.size, labels=labels):
            _copy(bench, need, place, labels)
    except AlreadyThere:
        bench.store.label(place.namespace, need.digest, labels)


def _copy(bench: Workbench, need: Need, place: Place, labels: Labels) -> None:
    holder = next(name for name in bench.holders(need) if name != place.namespace)
    with bench.store.stream(holder, need.digest) as chunks:
        _write(
            bench,
            need,
            place,
            proven(chunks, digest=need.digest, size=need.size, place=f"namespace {holder}"),
            labels,
        )


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
