"""Load the documents of a store: each digest once, level by level from the images' targets down."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice

import msgspec

from auditor.concurrency import parallel, times_blocked
from auditor.errors import DocumentTooLarge, MalformedDocument, NoFile, NoRecord, ReadFailed
from auditor.model.digest import Digest
from auditor.model.image_graph import Broken, Family, Flaw, Group, Key, Loaded, children, family, key_of_root
from auditor.model.oci import Descriptor, largest, parse, parse_untyped
from auditor.model.store import Inventory, Store

#: Documents per task: a file of a few hundred bytes is read faster than a thread is woken.
_BATCH = 64
#: Names of their own: Python 3.11 takes a microsecond to find a member of an enumeration.
_CONFIG, _UNTYPED = Family.CONFIG, Family.UNTYPED
#: The part of the reads of a batch that may block before reads run in parallel.
_BLOCKING = 0.25


#: For each document: its key, the document (None where its record disappeared), and the bytes read.
_Batch = list[tuple[Key, Loaded | None, int]]


class _Job(msgspec.Struct, frozen=True):
    #: The namespaces that have a record; content is the same in all of them.
    namespaces: tuple[str, ...]
    descriptor: Descriptor
    key: Key


def load_documents(
    store: Store,
    inventories: Sequence[Inventory],
    groups: Iterable[Group],
    *,
    known: dict[Key, Loaded],
    jobs: int,
    on_progress: Callable[[str, int, int], None],
) -> int:
    """Add every document that the images reference to `known`.

    Documents that were broken before are read again. A document that cannot be read becomes Broken.

    Args:
        store: The store to read.
        inventories: The records of the namespaces.
        groups: The images.
        known: Documents by key; changed in place.
        jobs: Number of threads for reads that may block.
        on_progress: Progress callback.

    Returns:
        The number of bytes read.

    Raises:
        StoreError: The store as a whole cannot be read.

    """
    holders = _holders(inventories)
    near = store.info().content_root is not None
    for stale in [where for where, loaded in known.items() if isinstance(loaded, Broken)]:
        del known[stale]
    seen: set[Key] = set()
    read = 0
    roots = [g.target for g in groups]
    level = [*_jobs(roots, holders, seen), *_untyped_jobs(roots, holders, seen)]
    while level:
        fresh = [job for job in level if job.key not in known]
        for batch in _spread(lambda some: _load_batch(store, some), _batches(fresh), near=near, jobs=jobs):
            for where, loaded, size in batch:
                read += size
                if loaded is not None:
                    known[where] = loaded
                    if where[1] is _UNTYPED:
                        known[where[0], _parsed_as(where, loaded)] = loaded
            on_progress("reading manifests", len(known), len(known))
        parents = [known[job.key] for job in level if job.key[1] is not _CONFIG and job.key in known]
        level = list(_jobs(chain.from_iterable(map(children, parents)), holders, seen))
    return read


_Holders = Mapping[Digest, tuple[str, ...]]


def _holders(inventories: Sequence[Inventory]) -> _Holders:
    """Return, by digest, the namespaces that have a record of it."""
    found: dict[Digest, tuple[str, ...]] = {}
    for inventory in inventories:
        name = (inventory.namespace,)
        for digest in inventory.blobs:
            found[digest] = found[digest] + name if digest in found else name
    return found


def _jobs(descriptors: Iterable[Descriptor], holders: _Holders, seen: set[Key]) -> Iterator[_Job]:
    for descriptor in descriptors:
        kind = family(descriptor.media_type)
        if kind is None:
            continue
        where = (descriptor.digest, kind)
        if where not in seen and descriptor.digest in holders:
            seen.add(where)
            yield _Job(holders[descriptor.digest], descriptor, where)


def _untyped_jobs(roots: Iterable[Descriptor], holders: _Holders, seen: set[Key]) -> Iterator[_Job]:
    """Yield the targets of images whose type is unknown and that may be documents by their size."""
    for descriptor in roots:
        where = (descriptor.digest, Family.UNTYPED)
        if family(descriptor.media_type) is None and where not in seen and descriptor.digest in holders:
            seen.add(where)
            yield _Job(holders[descriptor.digest], descriptor, where)


def _parsed_as(untyped: Key, loaded: Loaded) -> Family:
    """Return the family that an untyped document is also known by: what it was parsed as."""
    return key_of_root(Descriptor("", untyped[0], 0), {untyped: loaded})[1]


def _spread(
    load: Callable[[list[_Job]], _Batch], batches: Iterator[list[_Job]], *, near: bool, jobs: int
) -> Iterator[_Batch]:
    """Load files (`near`) in this thread as long as reads do not block; the rest in a pool.

    A cached file is read faster than a thread is woken. Reads from a disk or a daemon run in parallel, and in a pool
    they do not delay an interrupt of the main thread. The kernel counts how often this thread blocked; time on the
    clock also passes while other programs have the processor.
    """
    for batch in batches if near else ():
        before = times_blocked()
        yield load(batch)
        if times_blocked() - before > len(batch) * _BLOCKING:
            break
    yield from parallel(load, batches, jobs=jobs, name="look")


def _batches(jobs: Sequence[_Job]) -> Iterator[list[_Job]]:
    rest = iter(jobs)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _load_batch(store: Store, jobs: Sequence[_Job]) -> _Batch:
    return [(job.key, *_load(store, job)) for job in jobs]


def _load(store: Store, job: _Job) -> tuple[Loaded | None, int]:
    """Read, verify and parse a document; None where its record disappeared. A second read confirms a wrong digest."""
    digest = job.descriptor.digest
    try:
        raw = _read(store, job)
        intact = digest.is_of(raw)
        if not intact:
            raw = _read(store, job)
            intact = digest.is_of(raw)
    except NoRecord:
        return None, 0
    except NoFile:
        return Broken(Flaw.NO_FILE), 0
    except ReadFailed as error:
        return Broken(Flaw.UNREADABLE, error.message), 0
    except DocumentTooLarge as error:
        return Broken(Flaw.TOO_LARGE, error.message), 0
    if not intact:
        actual = Digest.of(raw, algorithm=digest.algorithm)
        return Broken(Flaw.CORRUPT, size=len(raw), actual=actual), len(raw)
    if job.key[1] is _UNTYPED:
        untyped = parse_untyped(raw)
        return untyped if untyped is not None else Broken(Flaw.UNTYPED, size=len(raw)), len(raw)
    try:
        return parse(raw, job.descriptor.media_type, malformed_children=True), len(raw)
    except MalformedDocument as error:
        flaw = Flaw.TOO_LARGE if isinstance(error, DocumentTooLarge) else Flaw.MALFORMED
        return Broken(flaw, error.message, size=len(raw)), len(raw)


def _read(store: Store, job: _Job) -> bytes:
    digest = job.descriptor.digest
    limit = largest(job.descriptor.media_type)
    for namespace in job.namespaces[:-1]:
        with suppress(NoRecord):
            return store.read(namespace, digest, limit=limit)
    return store.read(job.namespaces[-1], digest, limit=limit)
