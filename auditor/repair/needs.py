"""From findings to what is needed: for each damaged or absent blob one need, for all that is left alone the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from auditor.checks.evidence import Evidence
from auditor.model.blob_source import Hints
from auditor.model.digest import Digest
from auditor.model.findings import Finding, Severity
from auditor.model.gc_reachability import references
from auditor.model.store import Inventory, Labels, Resource
from auditor.repair.gc_labels import Kin, Parent

ABSENT = frozenset(
    "snapshot-without-blob incomplete-image missing-manifest missing-config shared-config-layers".split()
)
DAMAGED = frozenset("blob-file-missing size-mismatch digest-mismatch".split())
DISCARDED = "blob-discarded"

_PUBLISHED = "it was published like this: fetching it again brings the same bytes"
_NOT_BYTES = "it is not a blob that is damaged"
#: Why findings of other codes lead to no action.
_LEFT: Mapping[str, str] = {
    DISCARDED: "the node discards layers by policy; --include-discarded fetches them against it",
    "blob-lazy": "its snapshotter reads it from the registry when it is needed",
    "platform-not-pulled": "its platform is not wanted; --platform or --all-platforms wants it",
    "attestation-not-pulled": "pulls leave attestations behind",
    "foreign-layer": "registries do not carry layers of this type",
    "pull-in-progress": "a pull is working on it; check again when it has ended",
    "blob-unreadable": "it could not be read, so nothing is known of its bytes: look at the disk first",
    "read-unsteady": "its bytes on the disk are right: look at the memory",
    "malformed-manifest": _PUBLISHED,
    "diffid-mismatch": _PUBLISHED,
    "layer-undecodable": _PUBLISHED,
    "layer-count-mismatch": _PUBLISHED,
    "media-type-mismatch": _PUBLISHED,
    "broken-snapshot-chain": "snapshots are not blobs: remove the image and pull it again on a drained node",
    "snapshot-missing": "snapshots are not blobs: unpack the image again",
    "gc-unprotected": _NOT_BYTES,
    "stale-ingest": _NOT_BYTES,
    "suspect-storage": "look at the disk and the memory before anything is written to them",
}
_RECORDS_DISAGREE = "record and descriptor disagree on the size, and no bytes could suit both"


#: What a layer decompresses to: as true in one namespace as in another.
_DIFF_ID = "containerd.io/uncompressed"


class Place(msgspec.Struct, frozen=True):
    """A namespace that should have a record and has none.

    `labels` are what the record gets besides what its own content tells; `tie` is the label to add to a parent, where
    nothing else would keep the blob.
    """

    namespace: str
    labels: Labels = {}
    tie: Parent | None = None


class Held(msgspec.Struct, frozen=True):
    """A namespace that has a record; `keeps` are the children and snapshots that only the record's labels protect.

    `size` is the recorded one, in bytes.
    """

    namespace: str
    size: int
    labels: Labels = {}
    keeps: tuple[Resource, ...] = ()


def held(inventory: Inventory, digest: Digest) -> Held:
    """What a namespace has of a blob; it must have a record."""
    blob = inventory.blobs[digest]
    return Held(inventory.namespace, blob.size, blob.labels, keeps(blob.labels))


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """A blob whose right bytes are wanted; `size` in bytes is what descriptors say.

    `damaged` says that there are records, and the file is bad or absent. `places` lack a record.
    """

    digest: Digest
    size: int
    media_type: str
    role: str
    codes: tuple[str, ...]
    damaged: bool
    places: tuple[Place, ...] = ()
    holders: tuple[Held, ...] = ()
    images: tuple[str, ...] = ()
    hints: Hints = Hints()

    @property
    def misrecorded(self) -> bool:
        """Whether a record has another size than the blob, so that no file could suit it."""
        return any(holder.size != self.size for holder in self.holders)

    @property
    def discarded(self) -> bool:
        """Whether the blob is absent by the node's policy."""
        return DISCARDED in self.codes


class Skip(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A finding that leads to no action, and why."""

    code: str
    severity: Severity
    namespace: str
    kind: str
    id: str
    reason: str
    images: tuple[str, ...] = ()


def assess(
    evidence: Evidence, findings: Iterable[Finding], *, elsewhere: Sequence[Inventory], include_discarded: bool
) -> tuple[tuple[Need, ...], tuple[Skip, ...]]:
    """Sort the findings of an audit into needs, one for each blob, and what is left alone.

    `elsewhere` are the namespaces that were not audited: they share the files, so they hold damaged blobs too.
    """
    absent: dict[str, list[Finding]] = {}
    damaged: dict[str, list[Finding]] = {}
    skips = []
    for finding in findings:
        if finding.code in ABSENT or (finding.code == DISCARDED and include_discarded):
            absent.setdefault(finding.subject.digest, []).append(finding)
        elif finding.code in DAMAGED and finding.cause != "records-disagree":
            damaged.setdefault(finding.subject.digest, []).append(finding)
        elif (reason := _reason(finding)) is not None:
            skips.append(skip(finding, reason))
    maker = _Maker(evidence, elsewhere)
    wanted = sorted({*absent, *damaged})
    needs = [maker.need(Digest(digest), absent.get(digest, []), damaged.get(digest, [])) for digest in wanted]
    return tuple(need for need in needs if need is not None), tuple(sorted(skips))


def skip(finding: Finding, reason: str) -> Skip:
    """Leave a finding alone."""
    return Skip(
        code=finding.code,
        severity=finding.severity,
        namespace=finding.namespace,
        kind=finding.subject.kind,
        id=finding.subject.id,
        reason=reason,
        images=tuple(dict.fromkeys(image.name for image in finding.images)),
    )


def _reason(finding: Finding) -> str | None:
    if finding.cause == "records-disagree":
        return _RECORDS_DISAGREE
    return _LEFT.get(finding.code)


def keeps(labels: Labels) -> tuple[Resource, ...]:
    """What the labels of a record protect from collection: content, and snapshots with all below them."""
    return tuple(
        Resource(type=f"snapshots/{snapshotter}" if snapshotter else "content", id=name)
        for snapshotter, name in sorted(set(references(labels)))
    )


class _Maker:
    def __init__(self, evidence: Evidence, elsewhere: Sequence[Inventory]) -> None:
        self._kin = Kin(evidence)
        self._inventories = [*(view.inventory for view in evidence.views), *elsewhere]

    def need(self, digest: Digest, absent: list[Finding], damaged: list[Finding]) -> Need | None:
        holders = tuple(self._holders(digest))
        size = self._size(digest, holders)
        if size is None:
            return None
        found = [*absent, *damaged]
        descriptor = self._kin.descriptors.get(digest)
        lacking = sorted({f.namespace for f in absent} - {h.namespace for h in holders})
        return Need(
            digest=digest,
            size=size,
            media_type=descriptor.media_type if descriptor else "",
            role=found[0].subject.kind,
            codes=tuple(sorted({f.code for f in found})),
            damaged=bool(damaged),
            places=tuple(self._place(namespace, digest, holders) for namespace in lacking),
            holders=holders,
            images=tuple(dict.fromkeys(image.name for f in found for image in f.images)),
            hints=self._kin.hints(digest),
        )

    def _place(self, namespace: str, digest: Digest, holders: Sequence[Held]) -> Place:
        told = {key: holder.labels[key] for holder in holders for key in (_DIFF_ID,) if key in holder.labels}
        labels = {**told, **self._kin.source_labels(namespace, digest)}
        return Place(namespace, labels, self._kin.tie(namespace, digest))

    def _holders(self, digest: Digest) -> Iterable[Held]:
        for inventory in self._inventories:
            if digest in inventory.blobs:
                yield held(inventory, digest)

    def _size(self, digest: Digest, holders: Sequence[Held]) -> int | None:
        descriptor = self._kin.descriptors.get(digest)
        if descriptor is not None:
            return descriptor.size
        records = (i.blobs[digest].size for i in self._inventories if digest in i.blobs)
        return next(records, None) if holders else None
