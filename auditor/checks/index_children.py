"""The children of indexes: platforms that were not pulled, that no child is for, and what containerd cannot use."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.checks.documents import (
    IMAGE_TYPE_UNKNOWN,
    LACKS,
    MALFORMED_MANIFEST,
    unknown_type,
)
from auditor.checks.evidence import Evidence, NamespaceView, image_ref
from auditor.checks.pulled_platforms import pulled_instead
from auditor.checks.rule import Hit, Rule, blob_subject
from auditor.model import oci
from auditor.model.findings import Fact, ImageRef, Severity
from auditor.model.image_graph import ImageGraph, MalformedNode, ManifestNode
from auditor.model.oci import Descriptor
from auditor.model.platforms import Matcher

PLATFORM_NOT_PULLED = Rule(
    code="platform-not-pulled",
    severity=Severity.INFO,
    means="A platform of the index is absent, or only its manifest and config are present.",
    impact="No fault: a pull fetches the node's platform only.",
    remedy="Nothing. Export with --platform, or pull with --all-platforms if all platforms are needed.",
)
ATTESTATION_NOT_PULLED = Rule(
    code="attestation-not-pulled",
    severity=Severity.INFO,
    means="An attestation that the index lists is absent.",
    impact="No fault: pulls skip attestations.",
    remedy="Nothing.",
)
NO_MATCHING_PLATFORM = Rule(
    code="no-matching-platform",
    severity=Severity.INFO,
    means="No manifest of an image is for the node's platform: its index lists only others, or none; or the config of "
    "the manifest that is taken is for another platform.",
    # images.Manifest of containerd compares the platforms of children, and of their configs where they have none.
    impact="containerd neither runs nor mounts an image whose index has no such manifest (`no match for platform in "
    "manifest`), and CRI does not list it. Other images are unpacked, and their programs do not start (`exec format "
    "error`) unless the node emulates that platform.",
    remedy="Nothing if the image is kept for other nodes. Otherwise pull a tag that has the platform.",
)
MALFORMED_DESCRIPTOR = Rule(
    code="malformed-descriptor",
    severity=Severity.WARNING,
    means="An index lists a child whose digest is malformed or whose size is negative, and containerd takes another "
    "child on this node.",
    impact="The image runs. `ctr images pull` of containerd 2.x, a pull of all platforms, registries and other tools "
    "may refuse it.",
    remedy="Ask the image's publisher; fetching it again brings the same bytes.",
)
#: Maximum of platforms that a message names.
_LISTED = 5
RULES = (PLATFORM_NOT_PULLED, ATTESTATION_NOT_PULLED, NO_MATCHING_PLATFORM, MALFORMED_DESCRIPTOR)


def check(evidence: Evidence) -> Iterator[Hit]:
    """Check the children of the indexes of each audited image."""
    for view in evidence.views:
        for graph in view.graphs:
            if graph.others:
                yield from _content(view, graph)
            for descriptor in graph.passed_over:
                if not view.has(descriptor.digest):
                    yield _index_not_pulled(view, graph, descriptor)
            for child in graph.malformed:
                yield _malformed(view, graph, child)
            if graph.unmatched and not evidence.archive:
                yield from _without_match(view, graph)
        yield from _absent_by_design(evidence, view)
        if not evidence.archive:
            yield from _foreign_configs(evidence.matcher, view)


def _content(view: NamespaceView, graph: ImageGraph) -> Iterator[Hit]:
    """Check the children that are neither index nor manifest, which pulls skip."""
    for descriptor in graph.others:
        if descriptor.digest == graph.group.target.digest:
            continue
        if descriptor in graph.unusable and _instead_of_manifest(view, graph, descriptor):
            yield _unusable(view, descriptor, image_ref(graph.group, "content"))
        else:
            yield unknown_type(view, graph, descriptor)


def _instead_of_manifest(view: NamespaceView, graph: ImageGraph, descriptor: Descriptor) -> bool:
    """Whether a child of an index stands for an image, or before one, and the image was not pulled for others only."""
    nodes = [node for node in graph.manifests if not node.attestation]
    fits = any(node.alike or node.platform is None for node in nodes)
    here = view.has(descriptor.digest) or not any(view.whole(view.content(node.digest)) for node in nodes)
    return here and (fits or (descriptor.platform is not None and oci.is_misspelled_type(descriptor.media_type)))


def _unusable(view: NamespaceView, descriptor: Descriptor, ref: ImageRef) -> Hit:
    which = f"of {descriptor.platform}" if descriptor.platform is not None else "without a platform"
    text = (
        f"the first child {which} in its index has the media type {descriptor.media_type or 'none'}, of no manifest: "
        "containerd takes no other child"
    )
    hint = "Ask the image's publisher; fetching it again brings the same bytes."
    facts: dict[str, Fact] = {"descriptor": descriptor.media_type, "present": view.has(descriptor.digest)}
    subject = blob_subject("content", descriptor.digest)
    return IMAGE_TYPE_UNKNOWN.hit(
        view.name, subject, text, part="", cause="published-so", images=(ref,), facts=facts, hint=hint
    )


def _absent_by_design(evidence: Evidence, view: NamespaceView) -> Iterator[Hit]:
    for graph, node in view.not_whole:
        if node.attestation:
            yield _attestation(view, graph, node)
        elif _left_out(evidence, view, graph, node):
            yield _not_pulled(view, graph, node)


def _left_out(evidence: Evidence, view: NamespaceView, graph: ImageGraph, node: ManifestNode) -> bool:
    """Whether a pull left a platform out, as far as its manifest can be read."""
    readable = not view.has(node.digest) or view.content(node.digest) is not None
    return readable and (not node.wanted or pulled_instead(evidence, view, graph, node))


def _not_pulled(view: NamespaceView, graph: ImageGraph, node: ManifestNode) -> Hit:
    inside = view.content(node.digest)
    layers = inside.layers if inside is not None else ()
    held = sum(view.has(layer.descriptor.digest) for layer in layers)
    text = f"{node.platform or 'a manifest without a platform'} of {graph.group.name} {_absent(view)}"
    return PLATFORM_NOT_PULLED.hit(
        view.name,
        blob_subject("manifest", node.digest),
        text,
        images=(image_ref(graph.group, "manifest", node=node),),
        facts={"manifest_present": view.has(node.digest), "layers": len(layers), "layers_present": held},
    )


def _index_not_pulled(view: NamespaceView, graph: ImageGraph, descriptor: Descriptor) -> Hit:
    text = f"an index of other platforms of {graph.group.name} {_absent(view)}"
    facts: dict[str, Fact] = {"manifest_present": False}
    ref = image_ref(graph.group, "index")
    return PLATFORM_NOT_PULLED.hit(
        view.name, blob_subject("index", descriptor.digest), text, images=(ref,), facts=facts
    )


def _attestation(view: NamespaceView, graph: ImageGraph, node: ManifestNode) -> Hit:
    ref = image_ref(graph.group, "attestation", node=node)
    subject = blob_subject("attestation", node.digest)
    text = f"an attestation of {graph.group.name} {_absent(view)}"
    return ATTESTATION_NOT_PULLED.hit(view.name, subject, text, images=(ref,))


def _absent(view: NamespaceView) -> str:
    """Return the words for content that is absent by design; the only namespace of an archive has no name."""
    return "was not pulled" if view.name else f"is {LACKS}"


def _malformed(view: NamespaceView, graph: ImageGraph, node: MalformedNode) -> Hit:
    rule = MALFORMED_MANIFEST if node.taken else MALFORMED_DESCRIPTOR
    facts: dict[str, Fact] = {"platform": str(node.child.platform) if node.child.platform is not None else None}
    ref = image_ref(graph.group, "index")
    subject = blob_subject("index", node.index.digest)
    text = f"malformed: {node.child.detail}"
    return rule.hit(view.name, subject, text, part="index", cause="published-so", images=(ref,), facts=facts)


def _without_match(view: NamespaceView, graph: ImageGraph) -> Iterator[Hit]:
    for wanted in graph.unmatched:
        listed = sorted({str(node.platform) for node in graph.manifests if node.platform is not None})
        more = ", …" if len(listed) > _LISTED else ""
        images = any(not node.attestation for node in graph.manifests)
        nothing = "names no platform" if images else "lists no image"
        found = f"has {', '.join(listed[:_LISTED])}{more}" if listed else nothing
        facts: dict[str, Fact] = {"wanted": str(wanted), "found": ", ".join(listed)}
        yield NO_MATCHING_PLATFORM.hit(
            view.name,
            blob_subject("index", graph.group.target.digest),
            f"no manifest for {wanted}; its index {found}",
            part="",
            images=(image_ref(graph.group, "index"),),
            facts=facts,
        )


def _foreign_configs(matcher: Matcher, view: NamespaceView) -> Iterator[Hit]:
    """Yield the manifests that containerd takes for the node and that are for another system or architecture."""
    runs = {(platform.os, platform.architecture) for vector in matcher.wanted for platform in vector}
    wanted = ", ".join(str(vector[0]) for vector in matcher.wanted)
    for graph, node, inside in view.readable if runs else ():
        if inside.config is None or not (node.wanted and inside.container):
            continue
        own = inside.config.platform
        if not own.os or not own.architecture or (own.os, own.architecture) in runs:
            continue
        facts: dict[str, Fact] = {"wanted": wanted, "found": str(own)}
        yield NO_MATCHING_PLATFORM.hit(
            view.name,
            blob_subject("manifest", node.digest),
            f"its config is for {own}, not for {wanted}",
            part="",
            images=(image_ref(graph.group, "manifest", node=node),),
            facts=facts,
        )
