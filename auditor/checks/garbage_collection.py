"""Garbage collection: unprotected blobs, orphaned blobs, stale ingests and expired leases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

from auditor.checks.evidence import Evidence, NamespaceView, image_ref
from auditor.checks.rule import Hit, Rule, blob_subject, command
from auditor.model.digest import Digest
from auditor.model.findings import Fact, ImageRef, Severity, Subject
from auditor.model.gc_reachability import expired
from auditor.model.image_graph import Content, ImageGraph, ManifestNode
from auditor.model.store import Ingest, Resource

STALE = timedelta(days=1)
_CONFIG_LABEL = "containerd.io/gc.ref.content.config"

GC_UNPROTECTED = Rule(
    code="gc-unprotected",
    severity=Severity.WARNING,
    means="A document's gc labels do not name a child that is present, and nothing else protects it: no lease, no "
    "other label.",
    impact="The image works until the next garbage collection, which deletes the blob and all content below it.",
    remedy="Pull the image again, which sets the labels, before any image or content of this namespace is deleted.",
)
STALE_INGEST = Rule(
    code="stale-ingest",
    severity=Severity.WARNING,
    means="An ingest (unfinished download) has received no data for a day, and no lease holds it.",
    impact="It takes disk space, and a later pull may resume from its content: `unexpected commit digest`.",
    remedy="`ctr content abort` deletes it.",
)
ORPHAN_BLOB = Rule(
    code="orphan-blob",
    severity=Severity.INFO,
    means="No image, lease or label references the blob.",
    impact="No fault: the next garbage collection deletes it.",
    remedy="Nothing.",
)
EXPIRED_LEASE = Rule(
    code="expired-lease",
    severity=Severity.INFO,
    means="The expiry time of a lease has passed.",
    impact="No fault: the next garbage collection deletes it and the content that only it held.",
    remedy="Nothing.",
)
RULES = (GC_UNPROTECTED, STALE_INGEST, ORPHAN_BLOB, EXPIRED_LEASE)


def check(evidence: Evidence) -> Iterator[Hit]:
    """Check the protection of the audited images; the other rules only where the whole namespace is audited."""
    for view in evidence.views:
        if view.inventory.gaps:  # an object that could not be listed may protect any blob
            continue
        for graph in view.graphs:
            yield from _unprotected(view, graph)
        if not view.selected:
            yield from _orphans(view)
            yield from _leases(view)
            yield from _ingests(view)


def _unprotected(view: NamespaceView, graph: ImageGraph) -> Iterator[Hit]:
    for node in graph.manifests:
        if not node.wanted or node.attestation or not view.has(node.digest):
            continue
        if not view.reach.blob(node.digest):
            yield from _unreachable_below(view, graph, node)
            continue
        inside = view.content(node.digest)
        lost = [] if inside is None else _unprotected_children(view, node, inside)
        if lost:
            yield _lost_labels(view, image_ref(graph.group, "manifest", node=node), node.digest, lost)


def _unreachable_below(view: NamespaceView, graph: ImageGraph, node: ManifestNode) -> Iterator[Hit]:
    """Report the reachable index above a manifest whose labels do not protect its child, at any depth."""
    for parent, child in pairwise((*node.path, node.digest)):
        if view.reach.blob(parent) and not view.reach.blob(child) and view.has(child):
            yield _lost_labels(view, image_ref(graph.group, "index"), parent, [child])


def _unprotected_children(view: NamespaceView, node: ManifestNode, inside: Content) -> list[Digest]:
    config = inside.manifest.config.digest
    layers = [layer for layer in inside.layers if not view.reach.blob(layer.descriptor.digest)]
    if layers and _discarding(view, node, inside):
        layers = [layer for layer in layers if not view.unpacked_on(layer.chain_id)]
    lost = [layer.descriptor.digest for layer in layers]
    if not view.reach.blob(config):
        lost.insert(0, config)
    return [digest for digest in dict.fromkeys(lost) if view.has(digest)]


def _discarding(view: NamespaceView, node: ManifestNode, inside: Content) -> bool:
    """Whether layers are discarded by policy: the manifest's labels name the config and no layer.

    CRI drops the layers' labels for discard_unpacked_layers; core/images/mediatypes.go `ChildGCLabelsFilterLayers`.
    """
    labels = view.labels(node.digest)
    named = set(labels.values())
    return _CONFIG_LABEL in labels and not any(layer.descriptor.digest in named for layer in inside.layers)


def _lost_labels(view: NamespaceView, ref: ImageRef, parent: Digest, lost: list[Digest]) -> Hit:
    count = f"{len(lost)} blob{'s' if len(lost) > 1 else ''}"
    text = f"gc labels missing: the next garbage collection deletes {count}"
    facts: dict[str, Fact] = {
        "blobs": len(lost),
        "bytes": sum(view.inventory.blobs[digest].size for digest in lost),
        "first": str(lost[0]),
    }
    subject = blob_subject(ref.role, parent)
    return GC_UNPROTECTED.hit(
        view.name, subject, text, part=ref.role, cause="labels-missing", images=(ref,), facts=facts
    )


def _orphans(view: NamespaceView) -> Iterator[Hit]:
    for digest, blob in view.inventory.blobs.items():
        if digest not in view.named and not view.reach.blob(digest):
            text = f"blob {digest.short} ({blob.size} bytes): no reference in namespace {view.name}"
            yield ORPHAN_BLOB.hit(view.name, blob_subject("blob", digest), text, facts={"size": blob.size})


def _leases(view: NamespaceView) -> Iterator[Hit]:
    for lease in view.inventory.leases:
        if expired(lease, view.now):
            when = lease.labels.get("containerd.io/gc.expire", "")
            text = f"lease {lease.id}: expired at {when}"
            subject = Subject(kind="lease", name=lease.id)
            yield EXPIRED_LEASE.hit(view.name, subject, text, facts={"expired_at": when})


def _ingests(view: NamespaceView) -> Iterator[Hit]:
    for ingest in view.inventory.ingests:
        if ingest.updated_at is None or view.now - ingest.updated_at < STALE or _leased(view, ingest):
            continue
        text = f"ingest {ingest.ref}: {ingest.offset} bytes, no progress since {ingest.updated_at:%Y-%m-%d}"
        facts: dict[str, Fact] = {
            "offset": ingest.offset,
            "total": ingest.total or None,
            "updated_at": ingest.updated_at.isoformat(),
        }
        subject = Subject(kind="ingest", name=ingest.ref)
        hint = command("ctr", "-n", view.name, "content", "abort", ingest.ref)
        yield STALE_INGEST.hit(view.name, subject, text, facts=facts, hint=hint)


def _leased(view: NamespaceView, ingest: Ingest) -> bool:
    held = Resource(type="ingests", id=ingest.ref)
    return any(not expired(lease, view.now) and held in (lease.resources or ()) for lease in view.inventory.leases)
