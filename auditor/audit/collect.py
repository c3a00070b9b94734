"""An audit: collect the evidence (the only step that does I/O), judge it, and look again before anything is said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from datetime import datetime

import msgspec

from auditor.audit.document_loader import load_documents
from auditor.audit.selection import (
    choose_images,
    choose_namespaces,
    choose_snapshotters,
    refuse_nothing,
    refuse_platforms,
)
from auditor.checks.evidence import Evidence, NamespaceView
from auditor.concurrency import workers
from auditor.errors import NoRecord
from auditor.model import platforms
from auditor.model.digest import Digest
from auditor.model.findings import Verify
from auditor.model.gc_reachability import expired
from auditor.model.image_graph import Group, Key, Loaded, group, walk
from auditor.model.platforms import Matcher, Platform
from auditor.model.store import Blob, FileKind, FileState, Inventory, Store, StoreInfo

#: Threads for calls to the daemon; it answers a call in well under a millisecond, so more would only queue.
JOBS = 8

#: Hears what is being done, how many of how many.
Progress = Callable[[str, int, int], None]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to audit and how hard to look; empty tuples mean all, no platform means the node's.

    `of_image` has, by target, the platforms that are wanted of single images instead; none there means all.
    """

    verify: Verify = Verify.PRESENCE
    namespaces: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    platforms: tuple[Platform, ...] = ()
    all_platforms: bool = False
    snapshotters: tuple[str, ...] = ()
    jobs: int = JOBS
    of_image: Mapping[Digest, tuple[Platform, ...]] = {}


def no_progress(_what: str, _done: int, _total: int, /) -> None:
    """Tell nobody."""


def collect(
    store: Store,
    request: Request,
    *,
    known: dict[Key, Loaded],
    now: datetime,
    leases: bool = False,
    on_progress: Progress = no_progress,
) -> Evidence:
    """Read all records, documents and file sizes that the request wants judged.

    `known` keeps the documents that were read before: content does not change under its digest. With `leases`, what
    each lease holds is listed too, which takes a call a lease.
    """
    info = store.info()
    matcher = matcher_for(request, info)
    inventories = list(_inventories(store, request, info, on_progress))
    if leases:
        inventories = [_with_resources(store, inventory, now) for inventory in inventories]
    groups = choose_images([g for i in inventories for g in group(i.images)], request.images)
    refuse_nothing(inventories, groups, request.namespaces)
    with workers(request.jobs, name="look") as pool:
        read = load_documents(store, inventories, groups, known=known, pool=pool, on_progress=on_progress)
        apart = {target: platforms.only(wanted) for target, wanted in request.of_image.items()}
        views = _views(inventories, groups, known, matcher, apart=apart, selected=bool(request.images), now=now)
        refuse_platforms([graph for view in views for graph in view.graphs], request.platforms)
        files = _files(store, views, pool, on_progress)
    return Evidence(
        info=info,
        verify=request.verify,
        matcher=matcher,
        views=views,
        documents=dict(known),
        files=files,
        now=now,
        incomplete=tuple(gap for inventory in inventories for gap in inventory.gaps),
        bytes_read=read,
        platforms_asked_for=bool(request.platforms or request.of_image) or request.all_platforms,
    )


def matcher_for(request: Request, info: StoreInfo) -> Matcher:
    """The wanted platforms: those asked for, else the node's, else this machine's."""
    if request.all_platforms:
        return platforms.EVERYTHING
    return platforms.only(request.platforms or (info.platform or platforms.host(),))


def _inventories(store: Store, request: Request, info: StoreInfo, on_progress: Progress) -> Iterator[Inventory]:
    names = choose_namespaces(store.namespaces(), request.namespaces)
    snapshotters = choose_snapshotters(info.snapshotters, request.snapshotters)
    for done, name in enumerate(names):
        on_progress("listing namespaces", done, len(names))
        yield store.inventory(name, snapshotters=snapshotters or None)


def _with_resources(store: Store, inventory: Inventory, now: datetime) -> Inventory:
    """List what the leases hold; an expired one holds nothing that a collection would honour."""
    held = [
        lease
        if expired(lease, now)
        else msgspec.structs.replace(lease, resources=store.resources(inventory.namespace, lease.id))
        for lease in inventory.leases
    ]
    return msgspec.structs.replace(inventory, leases=tuple(held))


def _views(
    inventories: Sequence[Inventory],
    groups: Sequence[Group],
    known: Mapping[Key, Loaded],
    matcher: Matcher,
    *,
    apart: Mapping[Digest, Matcher],
    selected: bool,
    now: datetime,
) -> tuple[NamespaceView, ...]:
    documents = dict(known)
    by: dict[str, list[Group]] = {}
    for each in groups:
        by.setdefault(each.namespace, []).append(each)
    return tuple(
        NamespaceView(
            inventory,
            tuple(
                walk(each, documents, apart.get(each.target.digest, matcher))
                for each in by.get(inventory.namespace, ())
            ),
            documents,
            selected=selected,
            now=now,
        )
        for inventory in inventories
    )


def _files(
    store: Store, views: Sequence[NamespaceView], pool: Executor, on_progress: Progress
) -> Mapping[Digest, FileState]:
    """Look at the file of each blob recorded: all at once on the disk, one by one through the daemon.

    What the disk lacks is asked of the daemon before it is believed: the folder that we see might not be its own.
    A blob whose records went meanwhile is left out: it was removed, which is no fault.
    """
    wanted: dict[Digest, list[Blob]] = {}
    for view in views:
        for digest in view.named & view.inventory.blobs.keys() if view.selected else view.inventory.blobs:
            wanted.setdefault(digest, []).append(view.inventory.blobs[digest])
    seen = store.files() or {}
    found = {digest: seen[digest] for digest in wanted if digest in seen}
    odd = {
        digest: records
        for digest, records in wanted.items()
        if digest not in found or (found[digest].kind is FileKind.REGULAR and found[digest].size != records[0].size)
    }
    probed = pool.map(lambda records: _probe(store, records), odd.values())
    for done, (digest, state) in enumerate(zip(odd, probed, strict=True), 1):
        on_progress("looking at blobs", done, len(odd))
        on_disk = found.pop(digest, None)
        if state is not None:
            found[digest] = _agreed(on_disk, state)
    return found


def _probe(store: Store, records: Sequence[Blob]) -> FileState | None:
    """Look at a blob through the first of its records that is still there; None where none is."""
    for record in records:
        with suppress(NoRecord):
            return store.probe(record.namespace, record.digest, record.size)
    return None


def _agreed(on_disk: FileState | None, through_api: FileState) -> FileState:
    """What to believe of a file that looked wrong: the disk on a size the API is bound to clamp, else the API."""
    if on_disk is None or not through_api.at_least:
        return through_api
    longer = (on_disk.size or 0) > (through_api.size or 0)
    return on_disk if longer else through_api
