"""Garbage collection: unprotected blobs, orphaned blobs, stale ingests and expired leases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

import msgspec

from auditor.checks.evidence import Evidence, NamespaceView, image_ref
from auditor.checks.rule import Hit, Rule, blob_subject
from auditor.model.command_line import command
from auditor.model.digest import Digest
from auditor.model.findings import Fact, ImageRef, Severity, Subject
from auditor.model.gc_reachability import expired, reachable
from auditor.model.image_graph import Content, ImageGraph, ManifestNode
from auditor.model.plural import plural
from auditor.model.store import Ingest, Resource

STALE = timedelta(days=1)
_CONFIG_LABEL = "containerd.io/gc.ref.content.config"

GC_UNPROTECTED = Rule(
    code="gc-unprotected",
    severity=Severity.WARNING,
    means="A document's gc labels do not name a child that is present, or the snapshot of layers whose blobs are "
    "absent, and nothing else protects it: no lease, no other label.",
    impact="The image works until the next garbage collection, which deletes the blob or snapshot and all below it.",
    remedy="Pull the image again, which sets the labels, before any image or content of this namespace is deleted.",
)
STALE_INGEST = Rule(
    code="stale-ingest",
    severity=Severity.WARNING,
    means="An ingest (unfinished download) has received no data for a day, and no lease holds it.",
    impact="It takes disk space, and a later pull may resume from its content: `unexpected commit digest`.",
    remedy="Nothing: containerd deletes it at the first garbage collection after a day; ctr has no command for it.",
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
LEASE_PINS_CONTENT = Rule(
    code="lease-pins-content",
    severity=Severity.INFO,
    means="A lease without expiry time alone protects a gigabyte or more of content.",
    impact="The disk space is not freed until the lease is deleted.",
    remedy="Find out which client made the lease; `ctr leases rm` deletes it, then its content is collected.",
)
RULES = (GC_UNPROTECTED, STALE_INGEST, ORPHAN_BLOB, EXPIRED_LEASE, LEASE_PINS_CONTENT)
#: Bytes that a lease alone protects and that are reported.
PINNED = 1 << 30
_EXPIRE = "containerd.io/gc.expire"
#: Flat leases are BuildKit's: one for each record of its build cache, which has limits of its own.
_FLAT = "containerd.io/gc.flat"


def check(evidence: Evidence) -> Iterator[Hit]:
    """Check the protection of the audited images; the other rules only where the whole namespace is audited."""
    for view in evidence.views:
        if view.inventory.gaps:  # an object that could not be listed may protect any blob
            continue
        yield from _unprotected(view)
        if not view.selected:
            yield from _orphans(view)
            yield from _leases(view)
            yield from _pins(view)
            yield from _ingests(view)


def _unprotected(view: NamespaceView) -> Iterator[Hit]:
    """Look at the manifests that have a blob which is to be deleted, or an absent one: no other can lose anything."""
    for graph, node in view.naming((view.inventory.blobs.keys() - view.reach.blobs) | view.absent):
        if not node.wanted or node.attestation or not view.has(node.digest):
            continue
        if not view.reach.blob(node.digest):
            yield from _unreachable_below(view, graph, node)
            continue
        inside = view.content(node.digest)
        if inside is None:
            continue
        if lost := _unprotected_children(view, node, inside):
            yield _lost_labels(view, image_ref(graph.group, "manifest", node=node), node.digest, lost)
        yield from _unprotected_snapshots(view, graph, node, inside)


def _unprotected_snapshots(
    view: NamespaceView, graph: ImageGraph, node: ManifestNode, inside: Content
) -> Iterator[Hit]:
    """Report the snapshots of discarded layers that no label protects: they are the layers' only copy."""
    config = inside.manifest.config.digest
    absent = sum(not view.has(layer.descriptor.digest) for layer in inside.layers)
    if not (absent and inside.chain and view.has(config) and _discarding(view, node, inside)):
        return
    top = inside.chain[-1]
    holding = view.unpacked_on(top)
    if not holding or any(view.reach.snapshot(snapshotter, top) for snapshotter in holding):
        return
    layers = plural(absent, "layer")
    text = f"gc label missing: the next garbage collection deletes the snapshots, the only copy of {layers}"
    facts: dict[str, Fact] = {"layers": absent, "snapshotter": holding[0], "chain_id": str(top)}
    ref = image_ref(graph.group, "config", node=node)
    subject = blob_subject("config", config)
    yield GC_UNPROTECTED.hit(
        view.name, subject, text, part="config", cause="labels-missing", images=(ref,), facts=facts
    )


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
    count = plural(len(lost), "blob")
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
    for digest in sorted(view.inventory.blobs.keys() - view.named - view.reach.blobs):
        size = view.inventory.blobs[digest].size
        text = f"blob {digest.short} ({size} bytes): no reference in namespace {view.name}"
        yield ORPHAN_BLOB.hit(view.name, blob_subject("blob", digest), text, facts={"size": size})


def _leases(view: NamespaceView) -> Iterator[Hit]:
    for lease in view.inventory.leases:
        if expired(lease, view.now):
            when = lease.labels.get("containerd.io/gc.expire", "")
            text = f"lease {lease.id}: expired at {when}"
            subject = Subject(kind="lease", name=lease.id)
            yield EXPIRED_LEASE.hit(view.name, subject, text, facts={"expired_at": when})


def _pins(view: NamespaceView) -> Iterator[Hit]:
    """Report leases that alone protect much content; their resources are listed at a second look only."""
    for lease in view.inventory.leases:
        if not lease.resources or _EXPIRE in lease.labels or _FLAT in lease.labels:
            continue
        others = tuple(other for other in view.inventory.leases if other.id != lease.id)
        kept = reachable(msgspec.structs.replace(view.inventory, leases=others), now=view.now)
        alone = [b for d, b in view.inventory.blobs.items() if view.reach.blob(d) and not kept.blob(d)]
        size = sum(blob.size for blob in alone)
        if size >= PINNED:
            text = f"lease {lease.id}: no expiry time, alone protects {len(alone)} blobs ({size} bytes)"
            facts: dict[str, Fact] = {"blobs": len(alone), "bytes": size}
            hint = command("ctr", "-n", view.name, "leases", "rm", names=[lease.id])
            yield LEASE_PINS_CONTENT.hit(view.name, Subject(kind="lease", name=lease.id), text, facts=facts, hint=hint)


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
        yield STALE_INGEST.hit(view.name, subject, text, facts=facts)


def _leased(view: NamespaceView, ingest: Ingest) -> bool:
    held = Resource(type="ingests", id=ingest.ref)
    return any(not expired(lease, view.now) and held in (lease.resources or ()) for lease in view.inventory.leases)
