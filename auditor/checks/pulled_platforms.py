"""Which platforms of an image somebody pulled: what is absent of the others is absent by design."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.checks.evidence import UNPACKED_LABEL, Evidence, NamespaceView
from auditor.model.blob_source import SOURCE_LABEL
from auditor.model.image_graph import Content, ImageGraph, ManifestNode
from auditor.model.store import Labels


def unpacked(view: NamespaceView, inside: Content) -> bool:
    """Whether an image was unpacked somewhere: its top snapshot exists, and its config says that it is its own.

    Platforms of one image may have the same layers: then the snapshots of the one that was pulled have the chainIDs of
    all the others. core/unpack/unpacker.go sets the label on the config of what it unpacks.
    """
    return any(name in inside.chain[-1:] for name in view.claims(inside.manifest.config.digest).values()) and bool(
        view.unpacked_on(inside.chain[-1])
    )


def whole(view: NamespaceView, inside: Content | None) -> bool:
    """Whether a manifest's config and layers all have records."""
    if inside is None or not view.has(inside.manifest.config.digest):
        return False
    return all(view.has(layer.descriptor.digest) for layer in inside.layers)


def pulled_instead(evidence: Evidence, view: NamespaceView, graph: ImageGraph, node: ManifestNode) -> bool:
    """Whether somebody pulled other platforms and left this one out, though it is the node's own.

    `ctr images pull --platform` does that, and from 2.1 on leaves the manifests and configs of all platforms. Another
    platform has to be there whole, and nothing may speak for this one: neither the command line, nor its snapshots,
    nor a layer of its own, nor what a lost manifest leaves behind.
    """
    if evidence.platforms_asked_for or not node.path:
        return False
    others = [n for n in graph.manifests if not n.attestation and n.digest != node.digest and not n.alike]
    here = [inside for n in others if whole(view, inside := view.content(n.digest)) and inside is not None]
    here = [inside for inside in here if inside.container and inside.layers]
    if not here or (len(here) == len(others) > 1):  # all but one: all of them were pulled, and one was lost
        return False
    ids = {name.removeprefix("sha256:") for name in graph.group.names if name.startswith("sha256:")}
    if ids:  # CRI's third name of an image is its config's digest: it tells which platform the node took
        return any(inside.manifest.config.digest.hex in ids for inside in here)
    return not (_speaks(view, node, here) or _config_left_behind(view, graph))


def _speaks(view: NamespaceView, node: ManifestNode, others: Sequence[Content]) -> bool:
    """Whether a manifest's own content says that it was pulled: it was unpacked, or has a layer that no other has."""
    inside = view.content(node.digest)
    if inside is None:
        return False
    elsewhere = {layer.descriptor.digest for other in others for layer in other.layers}
    own = {layer.descriptor.digest for layer in inside.layers} - elsewhere
    return unpacked(view, inside) or any(view.has(digest) for digest in own)


def _config_left_behind(view: NamespaceView, graph: ImageGraph) -> bool:
    """Whether a config lies about that was unpacked, came from this image's repository and has lost its manifest."""
    origins = _origins(view.labels(graph.group.target.digest))
    return any(
        any(label.startswith(UNPACKED_LABEL) for label in blob.labels)
        and not view.reach.blob(digest)
        and not origins.isdisjoint(_origins(blob.labels))
        for digest, blob in view.inventory.blobs.items()
    )


def _origins(labels: Labels) -> set[tuple[str, str]]:
    """Hosts and repositories that a blob was pulled from."""
    return {
        (label, repository)
        for label, repositories in labels.items()
        if label.startswith(SOURCE_LABEL)
        for repository in repositories.split(",")
    }


def only_choice(view: NamespaceView, graph: ImageGraph, inside: Content) -> bool:
    """Whether a manifest must be what was pulled: nothing of the image is for the node, and no platform is whole."""
    if not any(view.has(layer.descriptor.digest) for layer in inside.layers):
        return False
    real = [node for node in graph.manifests if not node.attestation]
    return not any(node.wanted or whole(view, view.content(node.digest)) for node in real)
