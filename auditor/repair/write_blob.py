"""Write a blob: commit it under new records, adopt another namespace's file, or replace the file on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from auditor.errors import AlreadyThere
from auditor.model.blob_source import Offer, verified
from auditor.model.oci import CONFIG_TYPES, INDEX_TYPES, MANIFEST_TYPES, largest
from auditor.model.store import Labels
from auditor.model.writable_store import Staging
from auditor.repair.context import RecordGone, RepairContext, StillDamaged
from auditor.repair.needs import Need, Place
from auditor.repair.own_state import ref
from auditor.repair.plan import NAMESPACE

_DOCUMENTS = INDEX_TYPES | MANIFEST_TYPES | CONFIG_TYPES


def commit(context: RepairContext, need: Need, offer: Offer) -> list[str]:
    """Create a record in each namespace that lacks one, and read the blob back.

    Returns:
        Remarks, one sentence each.

    Raises:
        SourceError: The source failed.
        StillDamaged: The store has a damaged file under this digest.
        Busy: Another client writes the same reference.
        Conflict: The store has other bytes than were sent.
        StoreError: The store failed.

    """
    rest = list(need.places)
    raw: bytes | None = None
    with context.bytes_of(need, offer) as chunks:
        raw, data = document(need, chunks)
        if offer.source.startswith(NAMESPACE):
            for _ in data:
                pass
        else:
            first = rest.pop(0)
            _write(context, need, first, data, context.labels(need, first, raw))
            context.verify(first.namespace, need)
    for place in rest:
        add_record(context, need, place, context.labels(need, place, raw))
        context.verify(place.namespace, need)
    return [note for place in need.places if (note := context.add_gc_label(need, place))]


def document(need: Need, chunks: Iterator[bytes]) -> tuple[bytes | None, Iterable[bytes]]:
    """Read a document whole: its labels must be in the commit, or its children would be collected.

    Returns:
        The content of a document, None for other blobs; and the bytes to write.

    """
    if need.media_type not in _DOCUMENTS or need.size > largest(need.media_type):
        return None, chunks
    raw = b"".join(chunks)
    return raw, iter((raw,) if raw else ())


def _write(context: RepairContext, need: Need, place: Place, data: Iterable[bytes], labels: Labels) -> None:
    lease = context.leases.get(place.namespace)
    try:
        context.store.ingest(lease, ref(need.digest), iter(data), size=need.size, expected=need.digest, labels=labels)
    except AlreadyThere:
        context.store.label(place.namespace, need.digest, labels)


def add_record(context: RepairContext, need: Need, place: Place, labels: Labels) -> None:
    """Create a record in a further namespace by adoption, or from a copy where the namespaces are isolated.

    Raises:
        Conflict: The file has another size.
        StoreError: The store failed.

    """
    lease = context.leases.get(place.namespace)
    try:
        if not context.store.adopt(lease, need.digest, size=need.size, labels=labels):
            _copy(context, need, place, labels)
    except AlreadyThere:
        context.store.label(place.namespace, need.digest, labels)


def _copy(context: RepairContext, need: Need, place: Place, labels: Labels) -> None:
    holder = next(name for name in context.holders(need) if name != place.namespace)
    with context.store.stream(holder, need.digest) as chunks:
        _write(
            context,
            need,
            place,
            verified(chunks, digest=need.digest, size=need.size, place=f"namespace {holder}"),
            labels,
        )


def replace(context: RepairContext, staging: Staging, need: Need, offer: Offer) -> tuple[Path | None, list[str]]:
    """Stage the bytes, rename them over the damaged file, read them back; undo where they do not match.

    Returns:
        The quarantined copy of the damaged file; and remarks, one sentence each.

    Raises:
        SourceError: The source failed; nothing was changed.
        RecordGone: No namespace has a record any more.
        StillDamaged: The new file does not read back right; the old one was restored.
        StoreError: The store failed.

    """
    with context.bytes_of(need, offer) as chunks:
        staged = staging.stage(need.digest, chunks, size=need.size)
    namespace = _holder(context, need)
    replaced = staging.replace(need.digest, staged)
    try:
        context.verify(namespace, need)
    except StillDamaged:
        replaced.undo()
        raise
    _holder(context, need)
    for place in need.places:
        add_record(context, need, place, context.labels(need, place, _document(context, namespace, need)))
        context.verify(place.namespace, need)
    return replaced.quarantined, [note for place in need.places if (note := context.add_gc_label(need, place))]


def _holder(context: RepairContext, need: Need) -> str:
    """Return a namespace that has the record now; raise RecordGone where none has."""
    for held in need.holders:
        if context.store.has_record(held.namespace, need.digest):
            return held.namespace
    raise RecordGone(f"no namespace has a record of {need.digest.short} any more: its image was removed meanwhile")


def _document(context: RepairContext, namespace: str, need: Need) -> bytes | None:
    if need.role not in ("index", "manifest", "config"):
        return None
    return context.store.read(namespace, need.digest, limit=need.size)
