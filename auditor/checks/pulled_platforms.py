"""Which platforms of an image were pulled; content of the others is absent by design."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.checks.evidence import UNPACKED_LABEL, Evidence, NamespaceView
from auditor.model.blob_source import SOURCE_LABEL
from auditor.model.image_graph import Content, ImageGraph, ManifestNode
from auditor.model.store import Labels


def unpacked(view: NamespaceView, inside: Content) -> bool:
    """Whether an image is unpacked: its top snapshot exists, and its config's labels name that snapshot.

    The label is needed because platforms with the same layers share their chainIDs, hence their snapshots.
    core/unpack/unpacker.go sets it on the config of the image that is unpacked.
    """
    return any(name in inside.chain[-1:] for name in view.claims(inside.manifest.config.digest).values()) and bool(
        view.unpacked_on(inside.chain[-1])
    )


def pulled_instead(evidence: Evidence, view: NamespaceView, graph: ImageGraph, node: ManifestNode) -> bool:
    """Whether other platforms were pulled and this one was not, although it is the node's own.

    `ctr images pull --platform` does that; from 2.1 on it fetches the manifests and configs of all platforms. All of
    these must hold: another platform is complete; no platform was named by the user; this manifest is not unpacked and
    has no layer of its own; there is no unpacked config of this repository that has lost its manifest.

    Args:
        evidence: The evidence that `view` belongs to.
        view: The image's namespace.
        graph: The image.
        node: A wanted manifest of the image.

    """
    if evidence.platforms_asked_for or not node.path:
        return False
    others = [n for n in graph.manifests if not n.attestation and n.digest != node.digest and not n.alike]
    here = [inside for n in others if view.whole(inside := view.content(n.digest)) and inside is not None]
    here = [inside for inside in here if inside.container and inside.layers]
    if not here or (len(here) == len(others) > 1):  # all but one are complete: all were pulled, and one was lost
        return False
    ids = {name.removeprefix("sha256:") for name in graph.group.names if name.startswith("sha256:")}
    if ids:  # CRI also names an image by its config's digest, which identifies the pulled platform
        return any(inside.manifest.config.digest.hex in ids for inside in here)
    return not (_has_own_content(view, node, here) or _orphaned_config(view, graph))


def _has_own_content(view: NamespaceView, node: ManifestNode, others: Sequence[Content]) -> bool:
    """Whether a manifest is unpacked, or a layer is present that none of the others has: then it was pulled."""
    inside = view.content(node.digest)
    if inside is None:
        return False
    elsewhere = {layer.descriptor.digest for other in others for layer in other.layers}
    own = {layer.descriptor.digest for layer in inside.layers} - elsewhere
    return unpacked(view, inside) or any(view.has(digest) for digest in own)


def _orphaned_config(view: NamespaceView, graph: ImageGraph) -> bool:
    """Whether there is an unpacked config from this image's repository that no manifest protects any more."""
    origins = _origins(view.labels(graph.group.target.digest))
    return any(
        any(label.startswith(UNPACKED_LABEL) for label in blob.labels)
        and not view.reach.blob(digest)
        and not origins.isdisjoint(_origins(blob.labels))
        for digest, blob in view.inventory.blobs.items()
    )


def _origins(labels: Labels) -> set[tuple[str, str]]:
    """Return the hosts and repositories that a blob was pulled from."""
    return {
        (label, repository)
        for label, repositories in labels.items()
        if label.startswith(SOURCE_LABEL)
        for repository in repositories.split(",")
    }


def only_choice(view: NamespaceView, graph: ImageGraph, inside: Content) -> bool:
    """Whether a manifest with some layers must be the pulled one: none is wanted, and none is complete."""
    if not any(view.has(layer.descriptor.digest) for layer in inside.layers):
        return False
    real = [node for node in graph.manifests if not node.attestation]
    return not any(node.wanted or view.whole(view.content(node.digest)) for node in real)
