"""Layers of types that no differ of the daemon unpacks."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from auditor.checks.evidence import Evidence, NamespaceView, image_ref
from auditor.checks.rule import Hit, Rule, blob_subject
from auditor.model import oci
from auditor.model.findings import Severity
from auditor.model.image_graph import ImageGraph, Layer, ManifestNode

LAYER_TYPE_UNSUPPORTED = Rule(
    code="layer-type-unsupported",
    severity=Severity.WARNING,
    means="A layer's media type is none that containerd reads by itself: it is no tar, for example erofs, or has a "
    "compression, such as xz, or parameters that containerd does not know. The image is not unpacked.",
    impact="Unpacking the image fails: `no processor for media-type`, or `invalid tar header` where the content is "
    "compressed, unless a stream processor for the type is configured. Its content is verified by its digest alone.",
    remedy="Use an image with layers of tar, tar+gzip or tar+zstd, or a containerd with a differ for the type (erofs: "
    "2.1 and later, with erofs-utils).",
)
RULES = (LAYER_TYPE_UNSUPPORTED,)


def check(evidence: Evidence) -> Iterator[Hit]:
    """Check the present layers of wanted images that are not unpacked; where the differs are unknown, nothing."""
    for view in evidence.views if evidence.info.differs else ():
        for graph, node, inside in view.readable:
            unpacked = inside.chain and inside.chain[-1] in view.snapshot_names
            if unpacked or not (node.wanted and inside.container):
                continue
            for layer in inside.layers:
                if view.has(layer.descriptor.digest) and not _supported(layer, evidence.info.differs):
                    yield _hit(view, graph, node, layer, evidence.info.differs)


def _hit(view: NamespaceView, graph: ImageGraph, node: ManifestNode, layer: Layer, differs: Collection[str]) -> Hit:
    kind, names = layer.descriptor.media_type, ", ".join(differs)
    return LAYER_TYPE_UNSUPPORTED.hit(
        view.name,
        blob_subject("layer", layer.descriptor.digest),
        f"no differ of this containerd ({names}) unpacks its type {kind}",
        part=f"layer {layer.index + 1}",
        images=(image_ref(graph.group, "layer", node=node, layer=layer.index),),
        facts={"media_type": kind, "differs": names},
    )


def _supported(layer: Layer, differs: Collection[str]) -> bool:
    """Whether a differ is for the layer's type: the erofs differ is named like the end of its type."""
    media_type = layer.descriptor.media_type
    return not oci.needs_processor(media_type) or media_type.partition("+")[0].rpartition(".")[2] in differs
