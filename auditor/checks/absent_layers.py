"""Absent layers: the missing-blobs bug, images that cannot run, and layers that are absent by design."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.checks.evidence import Evidence, NamespaceView, image_ref
from auditor.checks.layer_state import LayerState, State, absences
from auditor.checks.rule import Hit, Rule, blob_subject
from auditor.model.findings import Fact, Severity
from auditor.model.image_graph import ImageGraph, ManifestNode

SNAPSHOT_WITHOUT_BLOB = Rule(
    code="snapshot-without-blob",
    severity=Severity.ERROR,
    means="A layer's snapshot exists, its blob has no record, and the manifest still references it: the missing-blobs "
    "bug, or a deleted record.",
    impact="The image runs. Exporting, pushing, converting it, or unpacking it for another snapshotter fails with "
    "`content digest …: not found`.",
    remedy="`auditor repair` fetches the layer by its digest; pulling the image again does not.",
)
INCOMPLETE_IMAGE = Rule(
    code="incomplete-image",
    severity=Severity.CRITICAL,
    means="A layer has neither a blob nor a snapshot in the namespace.",
    impact="The image cannot be run or unpacked.",
    remedy="`auditor repair`, or remove the image and pull it again.",
)
SHARED_CONFIG_LAYERS = Rule(
    code="shared-config-layers",
    severity=Severity.ERROR,
    means="The index has two manifests with the same config, and the layers of one of them were not fetched: "
    "containerd keys the layers to unpack by config, so the second manifest overwrites the first.",
    impact="The image runs from the other manifest. Exporting, pushing or converting all of it fails.",
    remedy="`auditor repair` fetches the layers; containerd 2.4 and later do not skip them (containerd#14000).",
)
BLOB_DISCARDED = Rule(
    code="blob-discarded",
    severity=Severity.INFO,
    means="A layer's blob is absent, its snapshot exists, and the manifest no longer references it: the node discards "
    "layers after unpacking them (discard_unpacked_layers), or the content was pruned.",
    impact="No fault. The image runs; it cannot be exported from this node or served to peers.",
    remedy="Nothing. `auditor repair --include-discarded` fetches such layers, against the node's policy.",
)
BLOB_LAZY = Rule(
    code="blob-lazy",
    severity=Severity.INFO,
    means="A layer's blob is absent because its snapshotter reads it from the registry on demand, or fetched it by "
    "itself.",
    impact="No fault. The image runs; layers that are read on demand need the registry.",
    remedy="Nothing.",
)
PULL_IN_PROGRESS = Rule(
    code="pull-in-progress",
    severity=Severity.INFO,
    means="A blob is absent, and an ingest or lease that changed between two looks shows that a pull is fetching it.",
    impact="No fault yet.",
    remedy="Check again after the pull.",
)
LAYERS_NOT_FETCHED = Rule(
    code="layers-not-fetched",
    severity=Severity.WARNING,
    means="An image has the documents of its platforms, and neither a layer, a snapshot nor a container: only the "
    "documents were fetched, as by `ctr content fetch --metadata-only`, or all layers were deleted before use.",
    impact="The image cannot be run, exported or served as it is.",
    remedy="Nothing, if only the documents were wanted; else pull the image, or `auditor repair --include-discarded`.",
)
FOREIGN_LAYER = Rule(
    code="foreign-layer",
    severity=Severity.INFO,
    means="An absent layer has a type that registries do not carry (nondistributable or foreign).",
    impact="No fault: the layer is fetched from its own URL where the image runs.",
    remedy="Nothing.",
)
RULES = (
    SNAPSHOT_WITHOUT_BLOB,
    INCOMPLETE_IMAGE,
    SHARED_CONFIG_LAYERS,
    BLOB_DISCARDED,
    BLOB_LAZY,
    PULL_IN_PROGRESS,
    LAYERS_NOT_FETCHED,
    FOREIGN_LAYER,
)

_ONLY_SHA256 = "Use an image with sha256 digests."

_BY_STATE = {
    State.SKIPPED: SNAPSHOT_WITHOUT_BLOB,
    State.INCOMPLETE: INCOMPLETE_IMAGE,
    State.SHARED_CONFIG: SHARED_CONFIG_LAYERS,
    State.DISCARDED: BLOB_DISCARDED,
    State.LAZY: BLOB_LAZY,
    State.UNTOLD: BLOB_LAZY,
    State.IN_PROGRESS: PULL_IN_PROGRESS,
    State.FOREIGN: FOREIGN_LAYER,
}


def check(evidence: Evidence) -> Iterator[Hit]:
    """Report each absent layer, except those of platforms that were not pulled."""
    for view in evidence.views:
        for graph, node in view.not_whole:
            if node.attestation:
                continue
            found = absences(evidence, view, graph, node)
            if any(state.state is State.NOT_FETCHED for state in found):
                yield _not_fetched(view, graph, node, len(found))
            for state in found:
                rule = _BY_STATE.get(state.state)
                if rule is not None:
                    yield _hit(rule, view, graph, node, state, archive=evidence.archive)


def _not_fetched(view: NamespaceView, graph: ImageGraph, node: ManifestNode, layers: int) -> Hit:
    ref = image_ref(graph.group, "manifest", node=node)
    text = f"none of its {layers} layers is here, and nothing tells that they ever were: only documents were fetched"
    subject = blob_subject("manifest", node.digest)
    return LAYERS_NOT_FETCHED.hit(view.name, subject, text, part="", images=(ref,), facts={"layers": layers})


def _hit(
    rule: Rule, view: NamespaceView, graph: ImageGraph, node: ManifestNode, state: LayerState, *, archive: bool
) -> Hit:
    layer = state.layer
    fetchable = archive or _storable(state)
    return rule.hit(
        view.name,
        blob_subject("layer", layer.descriptor.digest),
        "not in the archive" if archive and state.state is State.INCOMPLETE else f"blob missing: {_reason(state)}",
        part=f"layer {layer.index + 1}",
        cause=cause(state),
        images=(image_ref(graph.group, "layer", node=node, layer=layer.index),),
        facts=facts(state),
        hint=_ONLY_SHA256 if state.state.fault and not fetchable else "",
        repairable=state.state.fault and fetchable,
    )


def cause(state: LayerState) -> str | None:
    """Return the cause code of an absent layer; None where it is not known."""
    if state.state is State.SKIPPED:
        return _skipped(state)[0]
    return _CAUSES.get(state.state)


_CAUSES = {
    State.SHARED_CONFIG: "shared-config-bug",
    State.DISCARDED: "discarded-or-pruned",
    State.LAZY: "remote-snapshotter",
    State.UNTOLD: "unknown",
}


_SKIPPED = "containerd skipped its download because an identical layer (other compression, {}) was already unpacked"
_LIKELY_SKIPPED = (
    "either containerd skipped its download because the layer was already unpacked, or its record was deleted later; "
    "nothing in the store tells which"
)


def _skipped(state: LayerState) -> tuple[str, str]:
    """Return the cause code and the reason why a layer has a snapshot and no blob.

    CRI may have recorded the blob that the snapshot was made from. Otherwise a twin proves that the pull could skip
    the layer. Layers are skipped from the lowest up, so a fetched layer below this one rules the bug out.
    """
    if state.built_from == state.layer.descriptor.digest:
        return "record-deleted", "its snapshot was built from this blob, so the record was deleted later"
    if state.built_from:
        return "missing-blobs-bug", _SKIPPED.format(state.built_from[:19]) + " (recorded by the snapshot's label)"
    if not state.prefix:
        return "record-deleted", "a layer below it was fetched, so the pull did not skip it: its record was deleted"
    if state.twins:
        return "missing-blobs-bug", _SKIPPED.format(state.twins[0].short)
    if state.labelled:
        return "missing-blobs-bug-likely", _LIKELY_SKIPPED
    return "record-deleted", "its snapshot exists, and the manifest lacks the gc label that would protect the blob"


_REASONS = {
    State.INCOMPLETE: "there is no snapshot of it either, so the image cannot run",
    State.SHARED_CONFIG: "another manifest of the index has the same config, and only its layers were fetched",
    State.DISCARDED: "its snapshot exists, and the manifest no longer references it",
    State.LAZY: "its snapshotter reads it from the registry on demand",
    State.UNTOLD: "its proxy snapshotter may have fetched it by itself; nothing records whether containerd ever had it",
    State.IN_PROGRESS: "a pull is in progress",
    State.FOREIGN: "registries do not carry layers of this type",
}


_UNSTORABLE = "its digest is {}, and containerd stores sha256 alone, so that no pull can fetch it"


def _storable(state: LayerState) -> bool:
    return state.layer.descriptor.digest.algorithm == "sha256"


def _reason(state: LayerState) -> str:
    if state.state is State.INCOMPLETE and not _storable(state):
        return _UNSTORABLE.format(state.layer.descriptor.digest.algorithm)
    return _skipped(state)[1] if state.state is State.SKIPPED else _REASONS[state.state]


def facts(state: LayerState) -> dict[str, Fact]:
    """Return what is known of the layer, as the finding's facts."""
    layer = state.layer
    return {
        "size": layer.descriptor.size,
        "media_type": layer.descriptor.media_type,
        "layer_index": layer.index,
        "diff_id": str(layer.diff_id) if layer.diff_id else None,
        "chain_id": str(layer.chain_id) if layer.chain_id else None,
        "snapshotters": ",".join(state.snapshotters) or None,
        "twin": str(state.twins[0]) if state.twins else None,
        "built_from": state.built_from or None,
        "sibling_manifest": str(state.sibling) if state.sibling else None,
    }
