"""Turn findings into needs, one for each blob to restore, and skips, one for each finding without an action; pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from auditor.checks.evidence import Evidence
from auditor.model.blob_source import Hints
from auditor.model.digest import Digest
from auditor.model.findings import Finding, Severity
from auditor.model.gc_reachability import references
from auditor.model.store import Inventory, Labels, Resource
from auditor.repair.gc_labels import BlobRelations, Parent

ABSENT = frozenset(
    "snapshot-without-blob incomplete-image missing-manifest missing-config shared-config-layers".split()
)
DAMAGED = frozenset("blob-file-missing size-mismatch digest-mismatch".split())
DISCARDED = "blob-discarded"

_PUBLISHED = "published with this fault: fetching it again brings the same bytes"
_NOT_BYTES = "no blob is damaged"
_FILES = "unpacked files are rebuilt with --snapshots"
#: Reason why a finding leads to no action, by code.
_SKIP_REASONS: Mapping[str, str] = {
    DISCARDED: "the node discards layers by policy; --include-discarded fetches them against it",
    "blob-lazy": "its snapshotter reads it from the registry when it is needed",
    "platform-not-pulled": "its platform is not wanted; --platform or --all-platforms wants it",
    "attestation-not-pulled": "pulls leave attestations behind",
    "layers-not-fetched": "only its documents were fetched; --include-discarded fetches its layers",
    "layer-type-unsupported": "no differ of this containerd unpacks layers of this type",
    "foreign-layer": "registries do not carry layers of this type",
    "pull-in-progress": "a pull is in progress; check again when it has ended",
    "blob-unreadable": "it could not be read, so its content is unknown: check the disk first",
    "read-unsteady": "its content on the disk is right: check the memory",
    "malformed-manifest": _PUBLISHED,
    "malformed-descriptor": _PUBLISHED,
    "no-matching-platform": "it was not published for the node's platform, or was pulled for another",
    "diffid-mismatch": _PUBLISHED,
    "layer-undecodable": _PUBLISHED,
    "layer-count-mismatch": _PUBLISHED,
    "media-type-mismatch": _PUBLISHED,
    "image-type-unknown": "the type is wrong in the image's record, and only a pull writes that: pull the image again",
    "broken-snapshot-chain": "snapshots are not blobs: remove the image and pull it again on a drained node",
    "snapshot-missing": "snapshots are not blobs: unpack the image again",
    "snapshot-directory-missing": _FILES,
    "snapshot-empty": _FILES,
    "snapshot-damaged": _FILES,
    "snapshot-whiteouts-lost": _FILES,
    "snapshot-attributes": _FILES,
    "snapshot-extra-files": _FILES,
    "gc-unprotected": _NOT_BYTES,
    "stale-ingest": _NOT_BYTES,
    "suspect-storage": "check the disk and the memory before writing to them",
}
_RECORDS_DISAGREE = "record and descriptor name different sizes, so no content can match both"


#: Label with a layer's diffID; the same in every namespace.
_DIFF_ID = "containerd.io/uncompressed"


class Place(msgspec.Struct, frozen=True):
    """A namespace that lacks a record.

    Attributes:
        labels: Labels of the new record, besides those that follow from its content.
        gc_parent: The parent that must get a label; None where the blob is protected without it.

    """

    namespace: str
    labels: Labels = {}
    gc_parent: Parent | None = None


class Held(msgspec.Struct, frozen=True):
    """A namespace that has a record.

    Attributes:
        size: Recorded size in bytes.
        labels: Labels of the record.
        keeps: Children and snapshots that the labels protect from garbage collection.

    """

    namespace: str
    size: int
    labels: Labels = {}
    keeps: tuple[Resource, ...] = ()


def held(inventory: Inventory, digest: Digest) -> Held:
    """Return the record of a blob in a namespace that has one."""
    blob = inventory.blobs[digest]
    return Held(inventory.namespace, blob.size, blob.labels, keeps(blob.labels))


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """A blob to restore.

    Attributes:
        size: Size in bytes by its descriptor.
        role: index, manifest, config, layer or blob.
        codes: Codes of its findings.
        damaged: There is a record, and its file is damaged or absent.
        places: Namespaces that lack a record.
        holders: Namespaces that have a record.
        images: Names of the images that use it.
        hints: Where it can be fetched.

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
        """Whether a record has another size than the descriptor, so that no file can match both."""
        return any(holder.size != self.size for holder in self.holders)

    @property
    def discarded(self) -> bool:
        """Whether the node's policy discarded the blob."""
        return DISCARDED in self.codes


class Skip(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A finding without an action, and the reason."""

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
    """Sort the findings of an audit into needs and skips.

    Args:
        evidence: The evidence of the audit.
        findings: Its findings.
        elsewhere: The namespaces that were not audited; they share the blobs' files with the audited ones.
        include_discarded: Restore layers that the node discarded by policy, too.

    Returns:
        The needs, one for each blob, sorted by digest; and the skips, sorted.

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
    builder = _NeedBuilder(evidence, elsewhere)
    wanted = sorted({*absent, *damaged})
    needs = [builder.need(Digest(digest), absent.get(digest, []), damaged.get(digest, [])) for digest in wanted]
    return tuple(need for need in needs if need is not None), tuple(sorted(skips))


def skip(finding: Finding, reason: str) -> Skip:
    """Return the skip of a finding."""
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
    return _SKIP_REASONS.get(finding.code)


def keeps(labels: Labels) -> tuple[Resource, ...]:
    """Return what the labels of a record protect from garbage collection: content, and snapshots with their parents."""
    return tuple(
        Resource(type=f"snapshots/{snapshotter}" if snapshotter else "content", id=name)
        for snapshotter, name in sorted(set(references(labels)))
    )


class _NeedBuilder:
    def __init__(self, evidence: Evidence, elsewhere: Sequence[Inventory]) -> None:
        self._relations = BlobRelations(evidence)
        self._inventories = [*(view.inventory for view in evidence.views), *elsewhere]

    def need(self, digest: Digest, absent: list[Finding], damaged: list[Finding]) -> Need | None:
        holders = tuple(self._holders(digest))
        size = self._size(digest, holders)
        if size is None:
            return None
        found = [*absent, *damaged]
        descriptor = self._relations.descriptors.get(digest)
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
            hints=self._relations.hints(digest),
        )

    def _place(self, namespace: str, digest: Digest, holders: Sequence[Held]) -> Place:
        copied = {key: holder.labels[key] for holder in holders for key in (_DIFF_ID,) if key in holder.labels}
        labels = {**copied, **self._relations.source_labels(namespace, digest)}
        return Place(namespace, labels, self._relations.gc_parent(namespace, digest))

    def _holders(self, digest: Digest) -> Iterable[Held]:
        for inventory in self._inventories:
            if digest in inventory.blobs:
                yield held(inventory, digest)

    def _size(self, digest: Digest, holders: Sequence[Held]) -> int | None:
        descriptor = self._relations.descriptors.get(digest)
        if descriptor is not None:
            return descriptor.size
        return holders[0].size if holders else None
