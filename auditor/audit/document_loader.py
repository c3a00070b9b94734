"""Reading the documents of a store: each digest once, level by level from the images' targets down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from itertools import islice

import msgspec

from auditor.errors import MalformedDocument, NoFile, NoRecord, ReadFailed
from auditor.model.digest import Digest
from auditor.model.image_graph import Broken, Flaw, Group, Key, Loaded, children, key
from auditor.model.oci import MAX_DOCUMENT, Descriptor, parse
from auditor.model.store import Inventory, Store

#: Documents that a thread takes at a time: a file of a few hundred bytes is read faster than a thread is woken.
_BATCH = 64


#: Of each document where it is kept, what it is if its record is still there, and the bytes read.
_Batch = list[tuple[Key, Loaded | None, int]]


class _Job(msgspec.Struct, frozen=True):
    #: Those that have a record; content is the same in all of them.
    namespaces: tuple[str, ...]
    descriptor: Descriptor
    key: Key


def load_documents(
    store: Store,
    inventories: Sequence[Inventory],
    groups: Iterable[Group],
    *,
    known: dict[Key, Loaded],
    pool: Executor,
    on_progress: Callable[[str, int, int], None],
) -> int:
    """Add to `known` every document that the images lead to and a namespace has; return the bytes read.

    What was broken before is read again. An object that cannot be read becomes Broken; only a fault of the store as a
    whole is raised.
    """
    holders = _holders(inventories)
    near = store.info().content_root is not None
    for stale in [where for where, loaded in known.items() if isinstance(loaded, Broken)]:
        del known[stale]
    seen: set[Key] = set()
    read = 0
    level = list(_jobs((g.target for g in groups), holders, seen))
    while level:
        fresh = [job for job in level if job.key not in known]
        for batch in _spread(pool, lambda jobs: _load_batch(store, jobs), _batches(fresh), near=near):
            for where, loaded, size in batch:
                read += size
                if loaded is not None:
                    known[where] = loaded
            on_progress("reading manifests", len(known), len(known))
        below = (child for job in level if job.key in known for child in children(known[job.key]))
        level = list(_jobs(below, holders, seen))
    return read


_Holders = Mapping[Digest, tuple[str, ...]]


def _holders(inventories: Sequence[Inventory]) -> _Holders:
    """By digest, the namespaces that have a record of it."""
    found: dict[Digest, tuple[str, ...]] = {}
    for inventory in inventories:
        mine = (inventory.namespace,)
        for digest in inventory.blobs:
            found[digest] = found[digest] + mine if digest in found else mine
    return found


def _jobs(descriptors: Iterable[Descriptor], holders: _Holders, seen: set[Key]) -> Iterator[_Job]:
    for descriptor in descriptors:
        where = key(descriptor)
        if where is None or where in seen or descriptor.digest not in holders:
            continue
        seen.add(where)
        yield _Job(holders[descriptor.digest], descriptor, where)


def _spread(
    pool: Executor, load: Callable[[list[_Job]], _Batch], batches: Iterator[list[_Job]], *, near: bool
) -> Iterator[_Batch]:
    """Load `near` files here while that does not mean to wait; the rest in threads.

    A file whose pages are in memory is read faster than a thread is woken. A disk that has to turn, or a daemon, is
    asked for many at once, and whoever interrupts us does not wait for a daemon.
    """
    for jobs in batches if near else ():
        begun, worked = time.perf_counter(), time.thread_time()
        yield load(jobs)
        if time.perf_counter() - begun > 2 * (time.thread_time() - worked):
            break
    yield from pool.map(load, batches)


def _batches(jobs: Sequence[_Job]) -> Iterator[list[_Job]]:
    rest = iter(jobs)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _load_batch(store: Store, jobs: Sequence[_Job]) -> _Batch:
    return [(job.key, *_load(store, job)) for job in jobs]


def _load(store: Store, job: _Job) -> tuple[Loaded | None, int]:
    """Read, prove, parse; None where the record went meanwhile. Wrong bytes are read twice before it is said."""
    try:
        raw, actual = _read(store, job)
        if actual != job.descriptor.digest:
            raw, actual = _read(store, job)
    except NoRecord:
        return None, 0
    except NoFile:
        return Broken(Flaw.NO_FILE), 0
    except ReadFailed as error:
        return Broken(Flaw.UNREADABLE, error.message), 0
    except MalformedDocument as error:
        return Broken(Flaw.MALFORMED, error.message), 0
    if actual != job.descriptor.digest:
        return Broken(Flaw.CORRUPT, size=len(raw), actual=actual), len(raw)
    try:
        return parse(raw, job.descriptor.media_type), len(raw)
    except MalformedDocument as error:
        return Broken(Flaw.MALFORMED, error.message, size=len(raw)), len(raw)


def _read(store: Store, job: _Job) -> tuple[bytes, Digest]:
    digest = job.descriptor.digest
    *others, last = job.namespaces
    for namespace in others:
        with suppress(NoRecord):
            return _measured(digest, store.read(namespace, digest, limit=MAX_DOCUMENT))
    return _measured(digest, store.read(last, digest, limit=MAX_DOCUMENT))


def _measured(digest: Digest, raw: bytes) -> tuple[bytes, Digest]:
    return raw, Digest.of(raw, algorithm=digest.algorithm)
