"""Replace a damaged file over the API: delete its records, collect it, commit the right bytes, restore the records.

The blob is absent between deletion and commit. Everything needed to continue is in the store before the first deletion:
the right bytes as an ingest, and in each namespace a lease with the record's labels, which holds what they protected.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from auditor.errors import AlreadyThere, AuditorError, Conflict, InvalidDigest, NoRecord, ObjectError, StoreError
from auditor.model.blob_source import Offer
from auditor.model.digest import Digest
from auditor.model.store import Inventory, Labels, Resource
from auditor.model.writable_store import LeaseHandle
from auditor.repair.context import RecordGone, RepairContext, StillDamaged
from auditor.repair.needs import Need, Place, keeps
from auditor.repair.own_state import LEASE_LABEL, RUN, ref
from auditor.repair.write_blob import add_record, document

#: Expiry of the leases in seconds: one week to run repair again after a power cut.
JOURNAL_SECONDS = 7 * 24 * 3600
#: Attempts of the commit; the old records are deleted by then, so it cannot be undone.
TRIES = 3
_SIZE = f"{LEASE_LABEL}.size"
_HOME = f"{LEASE_LABEL}.home"
_COUNT = f"{LEASE_LABEL}.leases"
#: Prefix of each label to restore. The limit for key and value together: containerd pkg/labels/validate.go.
_KEPT = "auditor:"
_LABEL_LIMIT = 4096
_BACK = "containerd.io/gc.bref.content"


class Entry(msgspec.Struct, frozen=True):
    """One namespace of a journal: the labels of its future record, and the lease that stores them."""

    namespace: str
    labels: Labels
    lease: LeaseHandle


class Journal(msgspec.Struct, frozen=True):
    """A replacement as its leases record it.

    Attributes:
        home: The namespace that has the right bytes as an ingest.
        entries: The namespaces to restore.
        whole: All leases are present; otherwise the replacement had not begun, or was about to end.

    """

    digest: Digest
    size: int
    home: str
    entries: tuple[Entry, ...]
    whole: bool = True


def replace_by_api(context: RepairContext, need: Need, offer: Offer) -> tuple[Path | None, list[str]]:
    """Replace the file of a blob; one replacement at a time, because each runs a garbage collection.

    Returns:
        The quarantined copy, if the user asked for one; and remarks, one sentence each.

    Raises:
        SourceError: The source failed; nothing was changed.
        RecordGone: No namespace has a record any more.
        StillDamaged: The store has the damaged file still.
        StoreError: The store failed.

    """
    context.before_delete()
    home = need.holders[0].namespace
    reference = ref(need.digest)
    with context.bytes_of(need, offer) as chunks:
        raw, data = document(need, chunks)
        context.store.fill(context.leases.get(home), reference, data, size=need.size)
    quarantined = _quarantine(context, need, home)
    with context.records:
        try:
            journal = _write_down(context, need, home, raw)
        except BaseException:
            context.drop(home, reference)
            raise
        exchange(context, journal)
    return quarantined, [note for place in need.places if (note := context.add_gc_label(need, place))]


def _quarantine(context: RepairContext, need: Need, namespace: str) -> Path | None:
    """Copy the damaged bytes to the user's folder; None where they cannot be read."""
    if context.quarantine is None:
        return None
    path = context.quarantine / need.digest.replace(":", "-")
    with suppress(ObjectError, OSError), context.store.stream(namespace, need.digest) as chunks:
        with path.open("wb") as file:
            file.writelines(chunks)
        return path
    path.unlink(missing_ok=True)
    return None


def _write_down(context: RepairContext, need: Need, home: str, raw: bytes | None) -> Journal:
    """Create the leases of the journal; nothing is deleted yet, and a failure releases all of them."""
    holders = context.holders(need)
    wanted = {name: inventory.blobs[need.digest].labels for name, inventory in holders.items()}
    if not wanted:
        raise RecordGone(f"no namespace has a record of {need.digest.short} any more: its image was removed meanwhile")
    if home not in wanted:
        raise Conflict(
            f"the record of {need.digest.short} in {home} disappeared during the preparation",
            hint="run auditor repair again",
        )
    dependents = {name: tuple(_dependents(inventory, need.digest)) for name, inventory in holders.items()}
    wanted |= {place.namespace: context.labels(need, place, raw) for place in need.places}
    _refuse_long(need, wanted)
    entries: list[Entry] = []
    try:
        for namespace, labels in wanted.items():
            markers = {
                LEASE_LABEL: str(need.digest),
                _SIZE: str(need.size),
                _HOME: home,
                _COUNT: str(len(wanted)),
            }
            kept = (*keeps(labels), *dependents.get(namespace, ()))
            entries.append(_entry(context, need, Entry(namespace, labels, LeaseHandle(namespace, "")), markers, kept))
        context.store.hold(_lease_of(entries, home), Resource("ingests", ref(need.digest)))
    except BaseException:
        _release(context, entries)
        raise
    return Journal(need.digest, need.size, home, tuple(entries))


def _dependents(inventory: Inventory, digest: Digest) -> Iterator[Resource]:
    """Yield the blobs that this one protects by their back-reference labels; containerd 1.7, core/metadata/gc.go."""
    for blob in inventory.blobs.values():
        if any(key.startswith(_BACK) and value == digest for key, value in blob.labels.items()):
            yield Resource("content", str(blob.digest))


def _entry(context: RepairContext, need: Need, plain: Entry, markers: Labels, kept: Iterable[Resource]) -> Entry:
    labels = {**markers, **{f"{_KEPT}{key}": value for key, value in plain.labels.items()}}
    lease = context.store.grant(plain.namespace, seconds=JOURNAL_SECONDS, labels=labels)
    entry = msgspec.structs.replace(plain, lease=lease)
    try:
        for resource in (Resource("content", str(need.digest)), *kept):
            context.store.hold(lease, resource)
    except BaseException:
        _release(context, [entry])
        raise
    return entry


def _refuse_long(need: Need, wanted: Mapping[str, Labels]) -> None:
    for labels in wanted.values():
        for key, value in labels.items():
            if len(_KEPT) + len(key) + len(value) > _LABEL_LIMIT:
                raise StoreError(
                    f"a label of {need.digest.short} is too long to be stored on a lease while its record is deleted",
                    hint="run repair where the content root is writable: then no record is deleted",
                )


def _lease_of(entries: Iterable[Entry], namespace: str) -> LeaseHandle:
    return next(entry.lease for entry in entries if entry.namespace == namespace)


def exchange(context: RepairContext, journal: Journal) -> None:
    """Delete, collect, commit, restore, verify; steps that an interrupted run completed are skipped.

    The leases stay where the commit fails, so that a later run continues.

    Raises:
        StillDamaged: The store has the damaged file still.
        NoRecord: The staged bytes are gone.
        StoreError: The store failed.

    """
    for entry in journal.entries:
        with suppress(NoRecord):
            context.store.delete_record(entry.namespace, journal.digest)
    uncollected = _collect(context, journal.home)
    _commit(context, journal)
    restore(context, journal)
    _release(context, journal.entries)
    context.drop(journal.home, ref(journal.digest))
    try:
        context.verify(journal.home, _as_need(journal))
    except StillDamaged as error:
        raise StillDamaged(uncollected or error.message, hint=error.hint) from None


def _collect(context: RepairContext, namespace: str) -> str:
    """Run a garbage collection; return a sentence where it fails, because the blob must be committed all the same."""
    try:
        context.store.collect_garbage(namespace, labels={LEASE_LABEL: RUN})
    except AuditorError as error:
        return f"its damaged file could not be collected: {error.message}"
    return ""


def _commit(context: RepairContext, journal: Journal) -> None:
    entry = next(entry for entry in journal.entries if entry.namespace == journal.home)
    for left in reversed(range(TRIES)):
        try:
            context.store.commit(
                entry.lease, ref(journal.digest), size=journal.size, expected=journal.digest, labels=entry.labels
            )
        except AlreadyThere:
            context.store.label(journal.home, journal.digest, entry.labels)
            return
        except NoRecord:
            raise
        except AuditorError as error:
            if not left:
                raise StoreError(
                    f"the record of {journal.digest.short} is deleted, its bytes are staged: {error.message}",
                    hint="run auditor repair again: it continues from here and needs no source",
                ) from error
        else:
            return


def restore(context: RepairContext, journal: Journal) -> None:
    """Create the records of the other namespaces again, from the committed one."""
    need = _as_need(journal)
    for entry in journal.entries:
        if entry.namespace != journal.home:
            add_record(context, need, Place(entry.namespace), entry.labels)


def _release(context: RepairContext, entries: Iterable[Entry]) -> None:
    for entry in entries:
        context.store.release(entry.lease)


def _as_need(journal: Journal) -> Need:
    return Need(digest=journal.digest, size=journal.size, media_type="", role="blob", codes=(), damaged=True)


def journals(inventories: Sequence[Inventory]) -> tuple[Journal, ...]:
    """Return the unfinished replacements that the leases record."""
    found: dict[Digest, list[tuple[Entry, Labels]]] = {}
    for inventory in inventories:
        for lease in inventory.leases:
            try:
                digest = Digest.parse(lease.labels.get(LEASE_LABEL, RUN))
            except InvalidDigest:
                continue
            labels = {k.removeprefix(_KEPT): v for k, v in lease.labels.items() if k.startswith(_KEPT)}
            entry = Entry(inventory.namespace, labels, LeaseHandle(inventory.namespace, lease.id))
            found.setdefault(digest, []).append((entry, lease.labels))
    return tuple(_journal(digest, parts) for digest, parts in found.items())


def _journal(digest: Digest, parts: Sequence[tuple[Entry, Labels]]) -> Journal:
    markers = parts[0][1]
    entries = tuple(entry for entry, _ in parts)
    whole = markers.get(_COUNT, "") == str(len(entries)) and markers.get(_HOME, "") in {e.namespace for e in entries}
    return Journal(digest, int(markers.get(_SIZE, "0")), markers.get(_HOME, ""), entries, whole=whole)


def resume(context: RepairContext, journal: Journal) -> bool:
    """Continue a replacement in which an earlier run was killed.

    Returns:
        Whether there was anything to do.

    Raises:
        StillDamaged: The store has the damaged file still; the leases stay.
        StoreError: The store failed; the leases stay.

    """
    holders = context.holders(_as_need(journal))
    if not journal.whole or all(entry.namespace in holders for entry in journal.entries):
        context.drop(journal.home, ref(journal.digest))
        _release(context, journal.entries)
        return False
    if _is_intact(context, journal, holders):
        restore(context, msgspec.structs.replace(journal, home=next(iter(holders))))
        _release(context, journal.entries)
    else:
        exchange(context, journal)
    return True


def _is_intact(context: RepairContext, journal: Journal, holders: Iterable[str]) -> bool:
    """Whether a namespace has the blob with the right content."""
    for namespace in holders:
        try:
            context.verify(namespace, _as_need(journal))
        except (StillDamaged, RecordGone):
            continue
        return True
    return False
