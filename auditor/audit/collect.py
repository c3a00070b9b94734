"""Collect the evidence of an audit: records, documents and file sizes. The only step of an audit that does I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from types import MappingProxyType

import msgspec

from auditor.audit.document_loader import load_documents
from auditor.audit.leftovers import in_content_root, stray_names
from auditor.audit.selection import (
    choose_images,
    choose_namespaces,
    choose_snapshotters,
    require_content,
    require_platforms,
)
from auditor.checks.evidence import Evidence, NamespaceView
from auditor.concurrency import parallel
from auditor.errors import NoRecord, NothingExamined
from auditor.model import platforms
from auditor.model.digest import Digest
from auditor.model.findings import Verify
from auditor.model.gc_reachability import expired
from auditor.model.image_graph import Group, Key, Loaded, group
from auditor.model.image_walk import walk
from auditor.model.platforms import Matcher, Platform
from auditor.model.store import Blob, FileKind, FileState, Inventory, Leftovers, SourceKind, Store, StoreInfo

#: Threads for calls to the daemon; a call takes well under a millisecond, so more threads would only queue.
JOBS = 8
#: Why an audit of files without any image record is incomplete.
_EMPTY = ("no image record exists: only the files were counted",)

#: Progress callback: (activity, done, total).
Progress = Callable[[str, int, int], None]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a store to audit, and the verification level.

    Empty tuples mean all; no platform means the node's. `of_image` maps an image's target to the platforms that are
    wanted of this image instead; an empty tuple means all. `jobs` is a number of threads. `allow_empty`: a store
    that has nothing is no error, if no part of it is named. `sparse`: absent blobs of an archive are absent on purpose.
    `layers_wanted`: an image of which only the documents were fetched lacks its layers.
    """

    verify: Verify = Verify.PRESENCE
    namespaces: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    platforms: tuple[Platform, ...] = ()
    all_platforms: bool = False
    snapshotters: tuple[str, ...] = ()
    jobs: int = JOBS
    of_image: Mapping[Digest, tuple[Platform, ...]] = {}
    allow_empty: bool = False
    sparse: bool = False
    layers_wanted: bool = False

    @property
    def everything(self) -> bool:
        """Whether the whole store is to be audited, with all its namespaces."""
        return not (self.images or self.namespaces)


def no_progress(_what: str, _done: int, _total: int, /) -> None:
    """Default progress callback; does nothing."""


def collect(
    store: Store,
    request: Request,
    *,
    known: dict[Key, Loaded],
    now: datetime,
    leases: bool = False,
    before: Mapping[str, Inventory] = MappingProxyType({}),
    on_progress: Progress = no_progress,
) -> Evidence:
    """Read the records, documents and file sizes that a request selects.

    Args:
        store: The store to read.
        request: The part of the store to audit.
        known: Documents that were read before; new ones are added. Content does not change under its digest.
        now: The current time, in UTC.
        leases: Whether to list the resources of each lease, which takes one call per lease.
        before: The records at an earlier look, by namespace.
        on_progress: Progress callback.

    Raises:
        StoreError: The store cannot be read.
        NothingExamined: The request selects nothing.

    """
    info = store.info()
    matcher = matcher_for(request, info)
    # Files before records: a daemon may be listing those meanwhile.
    seen = store.files() or {}
    strays = stray_names(info.content_root) if info.content_root is not None else ()
    inventories = list(_inventories(store, request, info, on_progress))
    if leases:
        inventories = [_with_resources(store, inventory, now) for inventory in inventories]
    every = [g for i in inventories for g in group(i.images)]
    unnamed = not every and bool(_unrecorded(info, request, inventories, seen))
    lost = unnamed or (bool(info.gaps or info.damage) and not every)
    groups = () if lost else _chosen(every, request.images, info)
    if not lost and not (request.allow_empty and request.everything):
        require_content(inventories, groups, request.namespaces)
    read = load_documents(store, inventories, every, known=known, jobs=request.jobs, on_progress=on_progress)
    apart = {target: platforms.only(wanted) for target, wanted in request.of_image.items()}
    views = _views(inventories, groups, known, matcher, apart=apart, selected=bool(request.images), now=now)
    views = tuple(_in_context(view, every, before) for view in views)
    graphs = [graph for view in views for graph in view.graphs]
    require_platforms(graphs, request.platforms, legacy=info.containerd_1)
    files = _files(store, views, seen, request.jobs, on_progress)
    return Evidence(
        info=info,
        verify=request.verify,
        matcher=matcher,
        views=views,
        documents=dict(known),
        files=files,
        unrecorded=_unrecorded(info, request, inventories, seen),
        leftovers=_leftovers(info, request, inventories, strays, now),
        now=now,
        incomplete=(
            *info.gaps,
            *(gap for inventory in inventories for gap in inventory.gaps),
            *(_EMPTY if unnamed else ()),
        ),
        bytes_read=read,
        sparse=request.sparse,
        layers_wanted=request.layers_wanted,
        platforms_asked_for=bool(request.platforms or request.of_image) or request.all_platforms,
    )


def _chosen(every: Sequence[Group], wanted: Sequence[str], info: StoreInfo) -> Sequence[Group]:
    try:
        return choose_images(every, wanted)
    except NothingExamined as error:
        if not info.gaps:
            raise
        hint = "the database was read in part, and its record may be lost: auditor recover lists what can be found"
        raise NothingExamined(error.message, hint=hint) from None


def matcher_for(request: Request, info: StoreInfo) -> Matcher:
    """Return the matcher of the requested platforms, else of the node's, else of this machine's."""
    if request.all_platforms:
        return platforms.EVERYTHING
    return platforms.only(request.platforms or (info.platform or platforms.host(),), legacy=info.containerd_1)


def _inventories(store: Store, request: Request, info: StoreInfo, on_progress: Progress) -> Iterator[Inventory]:
    present = store.namespaces()
    names = choose_namespaces(present, request.namespaces) if present or not info.gaps else ()
    snapshotters = choose_snapshotters(info.snapshotters, request.snapshotters)
    for done, name in enumerate(names):
        on_progress("listing namespaces", done, len(names))
        yield store.inventory(name, snapshotters=snapshotters or None)


def _with_resources(store: Store, inventory: Inventory, now: datetime) -> Inventory:
    """List the resources of the leases, except expired ones, which protect nothing."""
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


def _in_context(view: NamespaceView, every: Sequence[Group], before: Mapping[str, Inventory]) -> NamespaceView:
    """Add the images that are not audited, as evidence of causes, and the records of the earlier look."""
    audited = {graph.group.target.digest for graph in view.graphs}
    others = [g for g in every if g.namespace == view.name and g.target.digest not in audited]
    graphs = tuple(walk(each, view.documents, platforms.EVERYTHING) for each in others)
    return msgspec.structs.replace(view, others=graphs, before=before.get(view.name))


def _unrecorded(
    info: StoreInfo, request: Request, inventories: Sequence[Inventory], seen: Mapping[Digest, FileState]
) -> Mapping[Digest, FileState]:
    """Return the files of a live store that no record names; none where some records were not listed."""
    whole = request.everything and not any(inventory.gaps for inventory in inventories)
    if info.kind is not SourceKind.CONTAINERD or not whole:
        return {}
    spare = seen.keys() - set().union(*(inventory.blobs for inventory in inventories))
    return {digest: seen[digest] for digest in sorted(spare)}


def _leftovers(
    info: StoreInfo, request: Request, inventories: Sequence[Inventory], strays: Sequence[str], now: datetime
) -> tuple[Leftovers, ...]:
    """Return the files of the content store that no record leads to; none where some records were not listed."""
    partial = info.gaps or info.partial or any(inventory.gaps for inventory in inventories)
    if info.content_root is None or partial or not request.everything:
        return ()
    return in_content_root(info.content_root, inventories, now, strays=strays)


def _files(
    store: Store,
    views: Sequence[NamespaceView],
    seen: Mapping[Digest, FileState],
    jobs: int,
    on_progress: Progress,
) -> Mapping[Digest, FileState]:
    """Return the file states of the recorded blobs, from the listing `seen` or one by one from the daemon.

    A file that is missing or has an unexpected size in the content root is also read through the daemon, because the
    visible folder may not be the daemon's own. A blob whose records disappear meanwhile is left out: it was removed.
    """
    held = [_audited(view) for view in views]
    first: dict[Digest, Blob] = {}
    for blobs in reversed(held):
        first.update(blobs)
    found = {digest: seen[digest] for digest in first if digest in seen}
    expected = {
        digest
        for digest, state in found.items()
        if state.size == first[digest].size or state.kind is not FileKind.REGULAR
    }
    odd = {digest: [blobs[digest] for blobs in held if digest in blobs] for digest in first.keys() - expected}
    probed = parallel(lambda records: _probe(store, records), odd.values(), jobs=jobs, name="probe")
    for done, (digest, state) in enumerate(zip(odd, probed, strict=True), 1):
        on_progress("checking blob files", done, len(odd))
        on_disk = found.pop(digest, None)
        if state is not None:
            found[digest] = _reconciled(on_disk, state)
    return found


def _audited(view: NamespaceView) -> Mapping[Digest, Blob]:
    """Return the records of the audited blobs: those of the selected images, else all of the namespace."""
    blobs = view.inventory.blobs
    return {digest: blobs[digest] for digest in view.named & blobs.keys()} if view.selected else blobs


def _probe(store: Store, records: Sequence[Blob]) -> FileState | None:
    """Return a blob's state through the first of its records that still exists; None where none does."""
    for record in records:
        with suppress(NoRecord):
            return store.probe(record.namespace, record.digest, record.size)
    return None


def _reconciled(on_disk: FileState | None, through_api: FileState) -> FileState:
    """Return the reliable one of two states: the content root's where the API clamps the size, else the API's."""
    if on_disk is None or not through_api.at_least:
        return through_api
    longer = (on_disk.size or 0) > (through_api.size or 0)
    return on_disk if longer else through_api
