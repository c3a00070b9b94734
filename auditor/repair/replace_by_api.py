"""A bad file that only the API reaches: the records are deleted, the file collected, and all made again.

Between the two the blob is away. So all that is needed to go on is in the store before the first record goes: the right
bytes as an unfinished write, and on a lease in each namespace the record's labels and all that only they protected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from auditor.errors import AlreadyThere, AuditorError, Conflict, InvalidDigest, NoRecord, ObjectError, StoreError
from auditor.model.blob_source import Offer
from auditor.model.digest import Digest
from auditor.model.store import Inventory, Labels, Resource
from auditor.model.writable_store import LeaseHandle
from auditor.repair.context import Gone, NotRight, Workbench
from auditor.repair.needs import Need, Place, keeps
from auditor.repair.own_state import LEASE_LABEL, RUN, ref
from auditor.repair.write_blob import document, give

#: Seconds that the lease of a swap holds what the record protected: a week to run repair again after a power cut.
SWAP_SECONDS = 7 * 24 * 3600
#: How often the last step is tried: the bytes are in the store, and going back is not possible.
TRIES = 3
_SIZE = f"{LEASE_LABEL}.size"
_HOME = f"{LEASE_LABEL}.home"
_COUNT = f"{LEASE_LABEL}.leases"
#: In front of the name of each label to restore; containerd takes 4,096 bytes for name and value together.
_KEPT = "auditor:"
_LABEL_LIMIT = 4096
_BACK = "containerd.io/gc.bref.content"


class Entry(msgspec.Struct, frozen=True):
    """One namespace of a swap: the labels that its record will have, and the lease that remembers them."""

    namespace: str
    labels: Labels
    lease: LeaseHandle


class Journal(msgspec.Struct, frozen=True):
    """A swap as the store remembers it; `home` is the namespace that has the right bytes as an unfinished write.

    Not `whole`: leases of it are absent, so it had not begun, or was about to end.
    """

    digest: Digest
    size: int
    home: str
    entries: tuple[Entry, ...]
    whole: bool = True


def swap(bench: Workbench, need: Need, offer: Offer) -> tuple[Path | None, list[str]]:
    """Stage the right bytes, then exchange.

    Gives where the bad copy is kept, if it was asked for, and what is to be said besides.

    Raises SourceError, Gone, NotRight, StoreError. One swap at a time: each runs a collection, and holds for its length
    what only the record protected.
    """
    bench.guard()
    home = need.holders[0].namespace
    reference = ref(need.digest)
    with bench.bytes_of(need, offer) as chunks:
        raw, data = document(need, chunks)
        bench.store.fill(bench.leases.get(home), reference, data, size=need.size)
    aside = _save(bench, need, home)
    with bench.records:
        try:
            journal = _write_down(bench, need, home, raw)
        except BaseException:
            bench.drop(home, reference)
            raise
        exchange(bench, journal)
    return aside, [said for place in need.places if (said := bench.bind(need, place))]


def _save(bench: Workbench, need: Need, namespace: str) -> Path | None:
    """Copy the bad bytes to where they were asked for; what cannot be read is not kept."""
    if bench.keep is None:
        return None
    path = bench.keep / need.digest.replace(":", "-")
    with suppress(ObjectError, OSError), bench.store.stream(namespace, need.digest) as chunks:
        with path.open("wb") as file:
            file.writelines(chunks)
        return path
    path.unlink(missing_ok=True)
    return None


def _write_down(bench: Workbench, need: Need, home: str, raw: bytes | None) -> Journal:
    """Make the leases that remember; nothing is deleted yet, and what fails leaves none of them."""
    holders = bench.holders(need)
    wanted = {name: inventory.blobs[need.digest].labels for name, inventory in holders.items()}
    if not wanted:
        raise Gone(f"nobody has a record of {need.digest.short} any more: its image was removed meanwhile")
    if home not in wanted:
        raise Conflict(
            f"the record of {need.digest.short} in {home} went while this was prepared", hint="run auditor repair again"
        )
    leaning = {name: tuple(_leaning(inventory, need.digest)) for name, inventory in holders.items()}
    wanted |= {place.namespace: bench.labels(need, place, raw) for place in need.places}
    _refuse_long(need, wanted)
    entries: list[Entry] = []
    try:
        for namespace, labels in wanted.items():
            told = {
                LEASE_LABEL: str(need.digest),
                _SIZE: str(need.size),
                _HOME: home,
                _COUNT: str(len(wanted)),
            }
            kept = (*keeps(labels), *leaning.get(namespace, ()))
            entries.append(_entry(bench, need, Entry(namespace, labels, LeaseHandle(namespace, "")), told, kept))
        bench.store.hold(_lease_of(entries, home), Resource("ingests", ref(need.digest)))
    except BaseException:
        _release(bench, entries)
        raise
    return Journal(need.digest, need.size, home, tuple(entries))


def _leaning(inventory: Inventory, digest: Digest) -> Iterator[Resource]:
    """The blobs that are kept because this one is, by their own labels (since containerd 1.7)."""
    for blob in inventory.blobs.values():
        if any(key.startswith(_BACK) and value == digest for key, value in blob.labels.items()):
            yield Resource("content", str(blob.digest))


def _entry(bench: Workbench, need: Need, plain: Entry, told: Labels, kept: Iterable[Resource]) -> Entry:
    labels = {**told, **{f"{_KEPT}{key}": value for key, value in plain.labels.items()}}
    lease = bench.store.grant(plain.namespace, seconds=SWAP_SECONDS, labels=labels)
    entry = msgspec.structs.replace(plain, lease=lease)
    try:
        for resource in (Resource("content", str(need.digest)), *kept):
            bench.store.hold(lease, resource)
    except BaseException:
        _release(bench, [entry])
        raise
    return entry


def _refuse_long(need: Need, wanted: Mapping[str, Labels]) -> None:
    for labels in wanted.values():
        for key, value in labels.items():
            if len(_KEPT) + len(key) + len(value) > _LABEL_LIMIT:
                raise StoreError(
                    f"a label of {need.digest.short} is too long to be kept safe while its record is away",
                    hint="run repair where the content root is visible: then no record is touched",
                )


def _lease_of(entries: Iterable[Entry], namespace: str) -> LeaseHandle:
    return next(entry.lease for entry in entries if entry.namespace == namespace)


def exchange(bench: Workbench, journal: Journal) -> None:
    """Delete, collect, commit, restore, prove; what was done before is passed over, so an interrupted one goes on.

    The leases stay where the blob could not be brought back: a later run goes on from them. Raises NotRight where the
    file that the store has under this name is still the bad one, StoreError, NoRecord where the staged bytes are gone.
    """
    for entry in journal.entries:
        _quietly(lambda entry=entry: bench.store.delete_record(entry.namespace, journal.digest))  # type: ignore[misc]
    uncollected = _collect(bench, journal.home)
    _bring_back(bench, journal)
    restore(bench, journal)
    _release(bench, journal.entries)
    bench.drop(journal.home, ref(journal.digest))
    try:
        bench.prove(journal.home, _as_need(journal))
    except NotRight as error:
        raise NotRight(uncollected or error.message, hint=error.hint) from None


def _quietly(act: Callable[[], None]) -> None:
    try:
        act()
    except NoRecord:
        return


def _collect(bench: Workbench, namespace: str) -> str:
    """Run a collection; one that fails is no reason to leave the blob away."""
    try:
        bench.store.collect_garbage(namespace, labels={LEASE_LABEL: RUN})
    except AuditorError as error:
        return f"its bad file could not be collected: {error.message}"
    return ""


def _bring_back(bench: Workbench, journal: Journal) -> None:
    entry = next(entry for entry in journal.entries if entry.namespace == journal.home)
    for left in reversed(range(TRIES)):
        try:
            bench.store.commit(
                entry.lease, ref(journal.digest), size=journal.size, expected=journal.digest, labels=entry.labels
            )
        except AlreadyThere:
            bench.store.label(journal.home, journal.digest, entry.labels)
            return
        except NoRecord:
            raise
        except AuditorError as error:
            if not left:
                raise StoreError(
                    f"the record of {journal.digest.short} is away, and its bytes wait in the store: {error.message}",
                    hint="run auditor repair again: it goes on from here, without any source",
                ) from error
        else:
            return


def restore(bench: Workbench, journal: Journal) -> None:
    """Make the records of the other namespaces again, from the one that is back."""
    need = _as_need(journal)
    for entry in journal.entries:
        if entry.namespace != journal.home:
            give(bench, need, Place(entry.namespace), entry.labels)


def _release(bench: Workbench, entries: Iterable[Entry]) -> None:
    for entry in entries:
        bench.store.release(entry.lease)


def _as_need(journal: Journal) -> Need:
    return Need(digest=journal.digest, size=journal.size, media_type="", role="blob", codes=(), damaged=True)


def journals(inventories: Sequence[Inventory]) -> tuple[Journal, ...]:
    """The swaps that leases remember."""
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
    told = parts[0][1]
    entries = tuple(entry for entry, _ in parts)
    whole = told.get(_COUNT, "") == str(len(entries)) and told.get(_HOME, "") in {e.namespace for e in entries}
    return Journal(digest, int(told.get(_SIZE, "0")), told.get(_HOME, ""), entries, whole=whole)


def resume(bench: Workbench, journal: Journal) -> bool:
    """Go on with what an earlier run was killed in; whether there was anything to do.

    Raises NotRight, StoreError; then the leases stay, and the blob is as it was or away.
    """
    holders = bench.holders(_as_need(journal))
    if not journal.whole or all(entry.namespace in holders for entry in journal.entries):
        bench.drop(journal.home, ref(journal.digest))
        _release(bench, journal.entries)
        return False
    if _right(bench, journal, holders):
        restore(bench, msgspec.structs.replace(journal, home=next(iter(holders))))
        _release(bench, journal.entries)
    else:
        exchange(bench, journal)
    return True


def _right(bench: Workbench, journal: Journal, holders: Iterable[str]) -> bool:
    """Whether somebody has the blob, and right: then there is nothing to exchange any more."""
    for namespace in holders:
        try:
            bench.prove(namespace, _as_need(journal))
        except (NotRight, Gone):
            continue
        return True
    return False
