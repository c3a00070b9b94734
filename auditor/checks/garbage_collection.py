"""What garbage collection will take, and what lies about: unprotected blobs, orphans, stale ingests, old leases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

from auditor.checks.evidence import Evidence, NamespaceView, image_ref
from auditor.checks.rule import IMAGES, Rule, blob_subject, command
from auditor.model.digest import Digest
from auditor.model.findings import Fact, Finding, ImageRef, Severity, Subject
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
    matters="Everything works until the next garbage collection, which takes the blob and what lies below it.",
    do="Pull the image again, which sets the labels, before anything deletes content in this namespace.",
)
STALE_INGEST = Rule(
    code="stale-ingest",
    severity=Severity.WARNING,
    means="A download that was begun and not finished has not moved for a day, and no lease holds it.",
    matters="It takes space, and its first bytes may be what a later pull resumes from: `unexpected commit digest`.",
    do="ctr content abort drops it.",
)
ORPHAN_BLOB = Rule(
    code="orphan-blob",
    severity=Severity.INFO,
    means="No image, lease or label references the blob.",
    matters="Nothing is wrong: the next garbage collection takes it.",
    do="Nothing.",
)
EXPIRED_LEASE = Rule(
    code="expired-lease",
    severity=Severity.INFO,
    means="A lease is past its expiry.",
    matters="Nothing is wrong: the next garbage collection drops it and what only it held.",
    do="Nothing.",
)
RULES = (GC_UNPROTECTED, STALE_INGEST, ORPHAN_BLOB, EXPIRED_LEASE)


def check(evidence: Evidence) -> Iterator[Finding]:
    """Judge protection for the images audited; the rest only where the whole namespace is audited."""
    for view in evidence.views:
        if view.inventory.gaps:  # what could not be listed may protect anything
            continue
        for graph in view.graphs:
            yield from _unprotected(view, graph)
        if not view.selected:
            yield from _orphans(view)
            yield from _leases(view)
            yield from _ingests(view)


def _unprotected(view: NamespaceView, graph: ImageGraph) -> Iterator[Finding]:
    for node in graph.manifests:
        if not node.wanted or node.attestation or not view.has(node.digest):
            continue
        if not view.reach.blob(node.digest):
            yield from _cut_off(view, graph, node)
            continue
        inside = view.content(node.digest)
        lost = [] if inside is None else _exposed_children(view, node, inside)
        if lost:
            yield _exposed(view, image_ref(graph.group, "manifest", node=node), node.digest, lost)


def _cut_off(view: NamespaceView, graph: ImageGraph, node: ManifestNode) -> Iterator[Finding]:
    """The index above a manifest, at whatever depth, whose labels stopped naming what leads to it."""
    for parent, child in pairwise((*node.path, node.digest)):
        if view.reach.blob(parent) and not view.reach.blob(child) and view.has(child):
            yield _exposed(view, image_ref(graph.group, "index"), parent, [child])


def _exposed_children(view: NamespaceView, node: ManifestNode, inside: Content) -> list[Digest]:
    config = inside.manifest.config.digest
    layers = [layer for layer in inside.layers if not view.reach.blob(layer.descriptor.digest)]
    if layers and _discarding(view, node, inside):
        layers = [layer for layer in layers if not view.unpacked_on(layer.chain_id)]
    lost = [layer.descriptor.digest for layer in layers]
    if not view.reach.blob(config):
        lost.insert(0, config)
    return [digest for digest in dict.fromkeys(lost) if view.has(digest)]


def _discarding(view: NamespaceView, node: ManifestNode, inside: Content) -> bool:
    """Whether the layers are about to be discarded by policy: the config is labelled, and not one layer is."""
    labels = view.labels(node.digest)
    named = set(labels.values())
    return _CONFIG_LABEL in labels and not any(layer.descriptor.digest in named for layer in inside.layers)


def _exposed(view: NamespaceView, ref: ImageRef, parent: Digest, lost: list[Digest]) -> Finding:
    role = ref.role
    count = f"{len(lost)} blob{'s' if len(lost) > 1 else ''}"
    text = f"the {role} of {IMAGES} has lost gc labels: the next garbage collection takes {count} of it"
    facts: dict[str, Fact] = {
        "blobs": len(lost),
        "bytes": sum(view.inventory.blobs[digest].size for digest in lost),
        "first": str(lost[0]),
    }
    return GC_UNPROTECTED.hit(
        view.name, blob_subject(role, parent), text, cause="labels-missing", images=(ref,), facts=facts
    )


def _orphans(view: NamespaceView) -> Iterator[Finding]:
    for digest, blob in view.inventory.blobs.items():
        if digest not in view.named and not view.reach.blob(digest):
            text = f"{digest.short} ({blob.size} bytes) is referenced by nothing in namespace {view.name}"
            yield ORPHAN_BLOB.hit(view.name, blob_subject("blob", digest), text, facts={"size": blob.size})


def _leases(view: NamespaceView) -> Iterator[Finding]:
    for lease in view.inventory.leases:
        if expired(lease, view.now):
            when = lease.labels.get("containerd.io/gc.expire", "")
            text = f"lease {lease.id} expired at {when}"
            subject = Subject(kind="lease", name=lease.id)
            yield EXPIRED_LEASE.hit(view.name, subject, text, facts={"expired_at": when})


def _ingests(view: NamespaceView) -> Iterator[Finding]:
    for ingest in view.inventory.ingests:
        if ingest.updated_at is None or view.now - ingest.updated_at < STALE or _leased(view, ingest):
            continue
        text = f"the ingest {ingest.ref} has {ingest.offset} bytes and has not moved since {ingest.updated_at:%Y-%m-%d}"
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
