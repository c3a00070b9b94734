"""Absent layers: the missing-blobs bug, images that cannot run, and what is absent by design."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.checks.evidence import Evidence, NamespaceView, image_ref
from auditor.checks.layer_state import LayerState, State, absences
from auditor.checks.rule import IMAGES, Rule, blob_subject, command
from auditor.model.findings import Fact, Finding, Severity
from auditor.model.image_graph import ImageGraph, ManifestNode

SNAPSHOT_WITHOUT_BLOB = Rule(
    code="snapshot-without-blob",
    severity=Severity.ERROR,
    means="A layer's snapshot exists, its blob has no record, and the manifest still references it: the missing-blobs "
    "bug, or a record that somebody deleted.",
    matters="The image runs. Exporting, pushing, converting it, or unpacking it for another snapshotter fails with "
    "`content digest …: not found`.",
    do="auditor repair fetches the layer by its digest; pulling the image again does not.",
)
INCOMPLETE_IMAGE = Rule(
    code="incomplete-image",
    severity=Severity.CRITICAL,
    means="A layer has neither a blob nor a snapshot here.",
    matters="The image cannot be run or unpacked.",
    do="auditor repair, or remove the image and pull it again.",
)
SHARED_CONFIG_LAYERS = Rule(
    code="shared-config-layers",
    severity=Severity.ERROR,
    means="The index has two manifests with one config, and the layers of one of them were not fetched: containerd "
    "keeps the layers to unpack by config, so the second manifest overwrites the first.",
    matters="The image runs from the other manifest. Exporting, pushing or converting all of it fails.",
    do="auditor repair fetches the layers; containerd 2.4 and later do not lose them (containerd#14000).",
)
BLOB_DISCARDED = Rule(
    code="blob-discarded",
    severity=Severity.INFO,
    means="A layer's blob is absent, its snapshot exists, and the manifest no longer references it: the node discards "
    "layers after unpacking them (discard_unpacked_layers), or the content was pruned.",
    matters="Nothing is wrong. The image runs; it cannot be exported from this node or served to peers.",
    do="Nothing. auditor repair --include-discarded fetches such layers, against the node's policy.",
)
BLOB_LAZY = Rule(
    code="blob-lazy",
    severity=Severity.INFO,
    means="A layer's blob is absent because its snapshotter reads it from the registry when it is needed.",
    matters="Nothing is wrong. The image runs while the registry answers.",
    do="Nothing.",
)
PULL_IN_PROGRESS = Rule(
    code="pull-in-progress",
    severity=Severity.INFO,
    means="A blob is absent, and an ingest or a young lease is working on it.",
    matters="Nothing is wrong yet.",
    do="Check again when the pull has ended.",
)
FOREIGN_LAYER = Rule(
    code="foreign-layer",
    severity=Severity.INFO,
    means="A layer is of a type that registries do not carry (nondistributable or foreign), and it is absent.",
    matters="Nothing is wrong: the layer is fetched from its own address where the image runs.",
    do="Nothing.",
)
RULES = (
    SNAPSHOT_WITHOUT_BLOB,
    INCOMPLETE_IMAGE,
    SHARED_CONFIG_LAYERS,
    BLOB_DISCARDED,
    BLOB_LAZY,
    PULL_IN_PROGRESS,
    FOREIGN_LAYER,
)

_BY_STATE = {
    State.SKIPPED: SNAPSHOT_WITHOUT_BLOB,
    State.INCOMPLETE: INCOMPLETE_IMAGE,
    State.SHARED_CONFIG: SHARED_CONFIG_LAYERS,
    State.DISCARDED: BLOB_DISCARDED,
    State.LAZY: BLOB_LAZY,
    State.IN_PROGRESS: PULL_IN_PROGRESS,
    State.FOREIGN: FOREIGN_LAYER,
}


def check(evidence: Evidence) -> Iterator[Finding]:
    """Report each absent layer that is not merely of a platform nobody pulled."""
    for view in evidence.views:
        for graph, node in view.manifests():
            if node.attestation:
                continue
            for state in absences(evidence, view, graph, node):
                rule = _BY_STATE.get(state.state)
                if rule is not None:
                    yield _hit(rule, view, graph, node, state)


def _hit(rule: Rule, view: NamespaceView, graph: ImageGraph, node: ManifestNode, state: LayerState) -> Finding:
    layer = state.layer
    digest = layer.descriptor.digest
    subject = blob_subject("layer", digest)
    images = (image_ref(graph.group, "layer", node=node, layer=layer.index),)
    number = f"layer {layer.index + 1}"
    message = f"{number} of {IMAGES} has no blob: {_why(state)}"
    hint = None
    if rule in (SNAPSHOT_WITHOUT_BLOB, INCOMPLETE_IMAGE, SHARED_CONFIG_LAYERS):
        hint = command("auditor", "repair", "-n", view.name, graph.group.name)
    return rule.hit(view.name, subject, message, cause=cause(state), images=images, facts=facts(state), hint=hint)


def cause(state: LayerState) -> str | None:
    """The cause in a word, where it is known."""
    if state.state is State.SKIPPED:
        return _skipped(state)[0]
    return _CAUSES.get(state.state)


_CAUSES = {
    State.SHARED_CONFIG: "shared-config-bug",
    State.DISCARDED: "discarded-or-pruned",
    State.LAZY: "remote-snapshotter",
}


def _skipped(state: LayerState) -> tuple[str, str]:
    """Why a layer has a snapshot and no blob, in a word and in a clause: what proves the bug, and what rules it out.

    CRI may have written down which blob the snapshot was made from. Else a twin proves that the pull could skip the
    layer; but layers are skipped from the bottom up, so that one which was fetched below tells of a deleted record.
    """
    if state.built_from == state.layer.descriptor.digest:
        return "record-deleted", "its snapshot was made from it, so it was here: the record was deleted"
    if state.built_from:
        made = state.built_from[:19]
        return "missing-blobs-bug", f"its snapshot was made from {made}, and the pull skipped it"
    if not state.prefix:
        return (
            "record-deleted",
            "a layer below it was fetched, so the pull did not skip this one: the record was deleted",
        )
    if state.twins:
        other = state.twins[0].short
        text = f"the same layer is here compressed otherwise ({other}), so the pull found its snapshot and skipped it"
        return "missing-blobs-bug", text
    if state.labelled:
        return (
            "missing-blobs-bug-likely",
            "its snapshot was there already, so the pull skipped it (the blob that made it is gone)",
        )
    return "record-deleted", "its snapshot exists, and the manifest has lost the label that would keep the blob"


_WHY = {
    State.INCOMPLETE: "there is no snapshot of it either, so the image cannot run",
    State.SHARED_CONFIG: "another manifest of the index has the same config, and only its layers were fetched",
    State.DISCARDED: "its snapshot exists and the manifest does not reference it any more",
    State.LAZY: "its snapshotter reads it from the registry when needed",
    State.IN_PROGRESS: "a pull is working on it",
    State.FOREIGN: "registries do not carry layers of this type",
}


def _why(state: LayerState) -> str:
    return _skipped(state)[1] if state.state is State.SKIPPED else _WHY[state.state]


def facts(state: LayerState) -> dict[str, Fact]:
    """What is known of the layer, flat."""
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
