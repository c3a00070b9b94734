"""Build the plan of a repair from needs and offers; pure."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from auditor.model.blob_source import Offer
from auditor.model.digest import Digest
from auditor.model.findings import Severity
from auditor.model.oci import INDEX_TYPES, MANIFEST_TYPES
from auditor.repair.needs import Need, Skip

#: Names of the sources that read from the same store; auditor/sources/store_source.py, twin_source.py.
NAMESPACE = "namespace:"
TWIN = "twin"


class Kind(enum.StrEnum):
    """What an action does for a blob."""

    #: Get the bytes from a source and create a record.
    FETCH = "fetch"
    #: Create a record for the file that another namespace has.
    ADOPT = "adopt"
    #: Get the bytes from a source and replace the damaged file.
    REPLACE = "replace"
    #: Decompress another blob of the store that is the same layer, compressed.
    REBUILD = "rebuild"


class Way(enum.StrEnum):
    """How the bytes are written to the store."""

    #: An ingest that containerd commits; for blobs without a record.
    COMMIT = "commit"
    #: Rename a new file over the damaged one.
    FILE = "file"
    #: Over the API alone: delete the records, collect the file, commit again.
    API = "api"


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """A planned action for one blob.

    Attributes:
        offers: Tried in order.
        touches: What changes besides the content, one sentence each.
        warnings: Risks, one sentence each.

    """

    kind: Kind
    way: Way
    need: Need
    offers: tuple[Offer, ...]
    touches: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def digest(self) -> Digest:
        """Digest of the blob."""
        return self.need.digest


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Actions of a repair, documents first, and what is skipped."""

    actions: tuple[Action, ...] = ()
    skips: tuple[Skip, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Sum of the blobs' sizes in bytes."""
        return sum(action.need.size for action in self.actions)


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What this process may do: `files` is whether the content root is writable."""

    files: bool


def plan(
    needs: Sequence[Need],
    skips: Sequence[Skip],
    offers: Mapping[Digest, Sequence[Offer]],
    capabilities: Capabilities,
    *,
    failed: Mapping[Digest, str] | None = None,
) -> Plan:
    """Choose an action for each need that has an offer.

    Args:
        needs: The blobs to restore.
        skips: The findings without an action.
        offers: What the sources offer, by digest.
        capabilities: What this process may do.
        failed: Reasons why blobs were not repaired earlier in this run, by digest; they are skipped.

    Returns:
        The plan.

    """
    before = failed or {}
    actions, skipped = [], list(skips)
    for need in needs:
        usable = tuple(_usable(need, offers.get(need.digest, ())))
        if need.digest in before:
            skipped.append(_skip(need, before[need.digest]))
        elif usable:
            actions.append(_action(need, usable, capabilities))
        else:
            skipped.append(_skip(need, "no source offers it"))
    actions.sort(key=lambda action: (_rank(action.need), -action.need.size, action.digest))
    return Plan(actions=tuple(actions), skips=tuple(sorted(skipped)), notes=tuple(_notes(actions, skips)))


def _usable(need: Need, offers: Sequence[Offer]) -> Iterator[Offer]:
    """Drop offers of namespaces for a damaged blob: all namespaces share one file."""
    return (offer for offer in offers if not (need.damaged and offer.source.startswith(NAMESPACE)))


def _action(need: Need, offers: tuple[Offer, ...], capabilities: Capabilities) -> Action:
    way = Way.COMMIT if not need.damaged else Way.FILE if capabilities.files and not need.misrecorded else Way.API
    return Action(
        kind=_kind(need, offers[0]),
        way=way,
        need=need,
        offers=offers,
        touches=tuple(_touches(need, way)),
        warnings=tuple(_warnings(need)),
    )


def _kind(need: Need, offer: Offer) -> Kind:
    if offer.source == TWIN:
        return Kind.REBUILD
    if need.damaged:
        return Kind.REPLACE
    return Kind.ADOPT if offer.source.startswith(NAMESPACE) else Kind.FETCH


def _touches(need: Need, way: Way) -> Iterator[str]:
    if way is Way.FILE:
        yield "the file, by an atomic rename; no record, label or lease"
    if way is Way.API:
        names = ", ".join(held.namespace for held in need.holders)
        kept = sum(len(held.keeps) for held in need.holders)
        yield f"the record in {names}: deleted, collected, and created again with its labels"
        if kept:
            yield f"a lease protects {kept} of its children and snapshots meanwhile"
    for place in need.places:
        yield f"a new record in {place.namespace}"
        if place.gc_parent is not None:
            parent = place.gc_parent
            yield f"a label on {parent.digest.short} in {place.namespace} that protects it: {parent.label}"


def _warnings(need: Need) -> Iterator[str]:
    if need.damaged and need.misrecorded:
        yield "its record has a wrong size too, so it is created again"
    if need.discarded:
        yield "its label exempts this layer from the node's policy of discarding layers"


def _rank(need: Need) -> int:
    return 0 if need.media_type in INDEX_TYPES else 1 if need.media_type in MANIFEST_TYPES else 2


def _skip(need: Need, reason: str) -> Skip:
    namespaces = [place.namespace for place in need.places] or [held.namespace for held in need.holders]
    return Skip(
        code=need.codes[0],
        severity=Severity.ERROR,
        namespace=namespaces[0] if namespaces else "",
        kind=need.role,
        id=str(need.digest),
        reason=reason,
        images=need.images,
    )


def _notes(actions: Sequence[Action], skips: Sequence[Skip]) -> Iterator[str]:
    if any(action.need.role in ("index", "manifest", "config") for action in actions):
        yield "after a document is fetched, its children are checked and fetched as needed"
    if any(skip.code == "suspect-storage" for skip in skips):
        yield "several blobs that share no image are damaged: check the disk first, because a repair writes to it"
