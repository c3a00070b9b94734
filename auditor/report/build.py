"""Build the report from evidence and findings: the verdict on each image, and the counts. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType

from auditor.checks.evidence import Evidence, NamespaceView
from auditor.checks.snapshot_files import DAMAGED_FILES
from auditor.model.digest import Digest
from auditor.model.findings import (
    BlobCounts,
    ByteCounts,
    Fact,
    Finding,
    ImageCounts,
    ImageState,
    PlatformState,
    Report,
    Severity,
    SnapshotCounts,
    Source,
    Status,
    Summary,
    Tool,
    count,
)
from auditor.model.image_graph import Broken, ImageGraph, ManifestNode
from auditor.model.platforms import Platform
from auditor.model.store import ENCRYPTED, FileKind, VerificationKind
from auditor.version import __version__

TOOL = Tool(name="auditor", version=__version__)

#: An image: its namespace and its target.
_Key = tuple[str, str]


def report(
    evidence: Evidence,
    findings: Sequence[Finding],
    *,
    host: str,
    started: datetime,
    finished: datetime,
    seconds: float,
    facts: Mapping[str, Fact] = MappingProxyType({}),
) -> Report:
    """Build the report.

    Args:
        evidence: The evidence of the audit.
        findings: Its findings, sorted.
        host: The node's name.
        started: The start of the run, in UTC.
        finished: The end of the run, in UTC.
        seconds: The duration of the run by a monotonic clock.
        facts: Facts of the host.

    """
    images = image_states(evidence, findings)
    present = _present(evidence)
    incomplete = tuple(sorted({*evidence.incomplete, *_unread(findings)}))
    return Report(
        tool=TOOL,
        host=host,
        source=Source(kind=evidence.info.kind.value, address=evidence.info.address, version=evidence.info.version),
        started_at=started,
        finished_at=finished,
        duration_seconds=round(seconds, 3),
        verify=evidence.verify,
        complete=not incomplete,
        incomplete=incomplete,
        summary=Summary(
            images=_count_images(images),
            blobs=_count_blobs(evidence, present, findings),
            bytes=_count_bytes(evidence, present),
            snapshots=_count_snapshots(evidence, findings),
            findings=count(findings),
        ),
        findings=tuple(findings),
        images=images,
        facts=dict(facts),
    )


def _unread(findings: Iterable[Finding]) -> Iterable[str]:
    """Return the messages about blobs whose content was to be verified and was not; encrypted layers cannot be."""
    return (
        finding.message
        for finding in findings
        if finding.code == "blob-unreadable"
        or (finding.code == "layer-unverifiable" and finding.facts.get("detail") != ENCRYPTED)
    )


def image_states(evidence: Evidence, findings: Sequence[Finding]) -> tuple[ImageState, ...]:
    """Return the verdict on each audited image, sorted by namespace and name."""
    damage = _damage(findings)
    found = [_image_state(view, graph, damage) for view in evidence.views for graph in view.graphs]
    return tuple(sorted(found, key=lambda state: (state.namespace, state.names, state.target)))


#: Findings that leave an image neither intact nor damaged: it was not read, or there is nothing to read.
_UNKNOWN = frozenset({"blob-unreadable", "layers-not-fetched"})


def _damage(findings: Sequence[Finding]) -> Mapping[_Key, list[tuple[str, Status]]]:
    """Return, by image, the manifests that findings affect (empty for the whole image) and their status."""
    damage: dict[_Key, list[tuple[str, Status]]] = {}
    for finding in findings:
        if finding.severity.rank > Severity.ERROR.rank and finding.code not in _UNKNOWN:
            continue
        status = Status.UNKNOWN if finding.code in _UNKNOWN else Status.DAMAGED
        for image in finding.images:
            damage.setdefault((image.namespace, image.target), []).append((image.manifest, status))
    return damage


#: The text of a platform; a node has a handful, in thousands of images.
_words = lru_cache(maxsize=256)(Platform.__str__)


def _image_state(view: NamespaceView, graph: ImageGraph, damage: Mapping[_Key, list[tuple[str, Status]]]) -> ImageState:
    states = damage.get((view.name, graph.group.target.digest), [])
    shown = [node for node in graph.manifests if not node.attestation and (node.wanted or _pulled(view, node))]
    # As a pull for a platform that the index lacks leaves an image.
    nothing_here = graph.indexes and not graph.others and not shown
    platforms = [
        PlatformState(
            platform=_words(node.platform) if node.platform is not None else "",
            manifest=str(node.digest),
            status=Status.worst([status for manifest, status in states if manifest in ("", node.digest)]),
            unpacked=_unpacked(view, node),
        )
        for node in shown
    ]
    return ImageState(
        namespace=view.name,
        names=graph.group.names,
        target=str(graph.group.target.digest),
        status=Status.worst([*[status for _, status in states], *([Status.UNKNOWN] if nothing_here else [])]),
        platforms=tuple(sorted(platforms)) if len(platforms) > 1 else tuple(platforms),
    )


def _pulled(view: NamespaceView, node: ManifestNode) -> bool:
    inside = view.content(node.digest)
    if inside is None or not inside.layers:
        return False
    return all(view.has(layer.descriptor.digest) for layer in inside.layers) or any(_unpacked(view, node).values())


def _unpacked(view: NamespaceView, node: ManifestNode) -> dict[str, bool]:
    """Return, for each snapshotter with snapshots, whether it has the image's top snapshot."""
    inside = view.content(node.digest)
    if inside is None or not inside.chain:
        return {}
    return {name: inside.chain[-1] in held for name, held in view.snapshotters}


def _count_images(images: Sequence[ImageState]) -> ImageCounts:
    return ImageCounts(
        total=len(images),
        sound=sum(image.status is Status.SOUND for image in images),
        damaged=sum(image.status is Status.DAMAGED for image in images),
    )


def _count_blobs(evidence: Evidence, present: Mapping[Digest, int], findings: Sequence[Finding]) -> BlobCounts:
    absent = set[Digest]().union(*(view.named for view in evidence.views), _without_file(evidence))
    absent -= present.keys()
    by_code = {code: set[str]() for code in ("digest-mismatch", "size-mismatch", "blob-unreadable")}
    for finding in findings:
        if finding.code in by_code and (finding.severity is Severity.CRITICAL or finding.code == "blob-unreadable"):
            by_code[finding.code].add(finding.subject.digest)
    return BlobCounts(
        total=len(present) + len(absent),
        present=len(present),
        absent=len(absent),
        verified=len(_verified(evidence) & present.keys()),
        corrupt=len(by_code["digest-mismatch"] | by_code["size-mismatch"]),
        unreadable=len(by_code["blob-unreadable"]),
    )


def _verified(evidence: Evidence) -> set[Digest]:
    """Return the blobs verified in this run: documents always, others with --verify digests or layers."""
    documents = {digest for (digest, _), loaded in evidence.documents.items() if not isinstance(loaded, Broken)}
    return documents | {
        p.digest for p in evidence.verifications.values() if p.fresh and p.kind is VerificationKind.SOUND
    }


def _present(evidence: Evidence) -> dict[Digest, int]:
    """Return the sizes of the audited blobs with a record and a file: of the selected images, else of all."""
    found: dict[Digest, int] = {}
    lost = _without_file(evidence)
    for view in evidence.views:
        held = view.inventory.blobs
        audited = view.named & held.keys() if view.selected else held.keys()
        found.update({digest: held[digest].size for digest in (audited - lost if lost else audited)})
    return found


def _without_file(evidence: Evidence) -> set[Digest]:
    """Return the blobs that have a record, and something else than a file or nothing at its path."""
    here = (FileKind.REGULAR, FileKind.UNREADABLE)
    return {digest for digest, state in evidence.files.items() if state.kind not in here}


def _count_bytes(evidence: Evidence, present: Mapping[Digest, int]) -> ByteCounts:
    read = sum(verification.size for verification in evidence.verifications.values() if verification.fresh)
    return ByteCounts(present=sum(present.values()), read=evidence.bytes_read + read)


def _count_snapshots(evidence: Evidence, findings: Sequence[Finding]) -> SnapshotCounts:
    return SnapshotCounts(
        total=sum(len(held) for view in evidence.views for held in view.inventory.snapshots.values()),
        compared=sum(files.differences is not None for files in evidence.snapshot_files.values()),
        damaged=len({(each.namespace, each.subject.name) for each in findings if each.code in DAMAGED_FILES}),
    )
