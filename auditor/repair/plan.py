"""The plan of a repair: a pure function of what is needed and what sources offer; nothing is done here."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from auditor.model.blob_source import Offer
from auditor.model.digest import Digest
from auditor.model.findings import Severity
from auditor.model.oci import INDEX_TYPES, MANIFEST_TYPES
from auditor.repair.needs import Need, Skip

#: How the sources that are this store itself are named; see `auditor.sources`.
NAMESPACE = "namespace:"
TWIN = "twin"


class Kind(enum.StrEnum):
    """What is done for a blob."""

    #: Its bytes come from outside, and it gets a record.
    FETCH = "fetch"
    #: Another namespace has it: this one gets a record of the same file.
    ADOPT = "adopt"
    #: Its bytes come from outside and take the place of the bad ones.
    REPLACE = "replace"
    #: Its bytes are made from another blob that is the same layer, compressed.
    REBUILD = "rebuild"


class Way(enum.StrEnum):
    """How the bytes get into the store."""

    #: A write that containerd commits, for what has no record.
    COMMIT = "commit"
    #: The file is put in the bad one's place in one step.
    FILE = "file"
    #: Through the API alone: the records are deleted, the file collected, and all made again.
    API = "api"


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """What will be done for one blob; `offers` are tried in order, `touches` says what changes besides the bytes."""

    kind: Kind
    way: Way
    need: Need
    offers: tuple[Offer, ...]
    touches: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def digest(self) -> Digest:
        """The blob."""
        return self.need.digest


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All that a repair will do, documents first, and what it leaves alone."""

    actions: tuple[Action, ...] = ()
    skips: tuple[Skip, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The bytes that the actions bring, in bytes."""
        return sum(action.need.size for action in self.actions)


class Means(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair can do here: `files` is whether it may write to the content root."""

    files: bool


def plan(
    needs: Sequence[Need],
    skips: Sequence[Skip],
    offers: Mapping[Digest, Sequence[Offer]],
    means: Means,
    *,
    failed: Mapping[Digest, str] | None = None,
) -> Plan:
    """Choose an action for each need that a source has an offer for; `failed` is what was tried before, and why not."""
    before = failed or {}
    actions, left = [], list(skips)
    for need in needs:
        usable = tuple(_usable(need, offers.get(need.digest, ())))
        if need.digest in before:
            left.append(_left(need, before[need.digest]))
        elif usable:
            actions.append(_action(need, usable, means))
        else:
            left.append(_left(need, "no source offers it"))
    actions.sort(key=lambda action: (_rank(action.need), -action.need.size, action.digest))
    return Plan(actions=tuple(actions), skips=tuple(sorted(left)), notes=tuple(_notes(actions, skips)))


def _usable(need: Need, offers: Sequence[Offer]) -> Iterator[Offer]:
    """All namespaces share one file: where it is damaged, another namespace has nothing better."""
    return (offer for offer in offers if not (need.damaged and offer.source.startswith(NAMESPACE)))


def _action(need: Need, offers: tuple[Offer, ...], means: Means) -> Action:
    way = Way.COMMIT if not need.damaged else Way.FILE if means.files and not need.misrecorded else Way.API
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
        yield "the file, in one step; no record, label or lease"
    if way is Way.API:
        names = ", ".join(held.namespace for held in need.holders)
        kept = sum(len(held.keeps) for held in need.holders)
        yield f"the record in {names}: deleted, collected, and made again with its labels"
        if kept:
            yield f"a lease holds {kept} of its children and snapshots meanwhile"
    for place in need.places:
        yield f"a new record in {place.namespace}"
        if place.tie is not None:
            yield f"a label on {place.tie.digest.short} in {place.namespace}, to keep it: {place.tie.label}"


def _warnings(need: Need) -> Iterator[str]:
    if need.damaged and need.misrecorded:
        yield "its record has a wrong size too, so it is made again"
    if need.discarded:
        yield "the label that keeps it undoes the node's policy of discarding layers, for this layer"


def _rank(need: Need) -> int:
    return 0 if need.media_type in INDEX_TYPES else 1 if need.media_type in MANIFEST_TYPES else 2


def _left(need: Need, reason: str) -> Skip:
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
        yield "what lies below a document that is fetched is looked at then, and fetched as far as it is wanted"
    if any(skip.code == "suspect-storage" for skip in skips):
        yield "several blobs that share no image are damaged: look at the disk first, for this writes to it"
