"""Indexes, manifests and configs: missing or malformed ones, and names that lead to other content."""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet

from auditor.checks.absent_layers import PULL_IN_PROGRESS
from auditor.checks.evidence import Evidence, NamespaceView, image_ref
from auditor.checks.pull_activity import in_progress
from auditor.checks.pulled_platforms import pulled_instead
from auditor.checks.rule import Hit, Rule, blob_subject
from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.findings import Fact, ImageRef, Severity, Subject
from auditor.model.image_graph import Broken, Content, Family, Flaw, ImageGraph, ManifestNode, family, key, key_of_root
from auditor.model.oci import Descriptor, Index, Manifest
from auditor.model.store import Image

MISSING_MANIFEST = Rule(
    code="missing-manifest",
    severity=Severity.CRITICAL,
    means="The root of an image, or the manifest of a wanted platform, has no record.",
    impact="The image cannot be run, and its config and layers are not known.",
    remedy="`auditor repair`, or pull the image again.",
)
MISSING_CONFIG = Rule(
    code="missing-config",
    severity=Severity.CRITICAL,
    means="An image's config has no record.",
    impact="The image cannot be run or unpacked.",
    remedy="`auditor repair`, or pull the image again.",
)
MALFORMED_MANIFEST = Rule(
    code="malformed-manifest",
    severity=Severity.CRITICAL,
    means="An index, manifest or config matches its digest, and is not JSON, has the wrong structure, a negative size, "
    "a malformed digest, or exceeds a limit of size or depth.",
    impact="The image cannot be used anywhere: it was published with this fault.",
    remedy="Ask the image's publisher; fetching it again brings the same bytes.",
)
MEDIA_TYPE_MISMATCH = Rule(
    code="media-type-mismatch",
    severity=Severity.WARNING,
    means="A document states another media type than the descriptor that references it, or a layer is compressed "
    "otherwise than its media type says.",
    impact="Some tools refuse such images; containerd runs them.",
    remedy="Ask the image's publisher.",
)
IMAGE_TYPE_UNKNOWN = Rule(
    code="image-type-unknown",
    severity=Severity.ERROR,
    means="An image's name leads to an index or a manifest, and its record, or the index that lists it, gives another "
    "type: none, a general one, one with parameters, or one with a changed letter; or content of another type is the "
    "first in its index that fits the node's platform.",
    # images.Manifest of containerd ends for a target, and for the best child of an index, of another type.
    impact="The image cannot be unpacked or run: `unexpected media type`.",
    remedy="Check which Content-Type the registry or its mirror in hosts.toml sends for the manifest, then pull the "
    "image again.",
)
LAYER_COUNT_MISMATCH = Rule(
    code="layer-count-mismatch",
    severity=Severity.ERROR,
    means="The manifest has more or fewer layers than the config has diff_ids.",
    impact="The image cannot be unpacked: `number of layers and diffIDs don't match`.",
    remedy="Ask the image's publisher; fetching it again brings the same bytes.",
)
UNKNOWN_MEDIA_TYPE = Rule(
    code="unknown-media-type",
    severity=Severity.INFO,
    means="An image references content whose type is neither index nor manifest; its references are not followed.",
    impact="Content below it is not checked. Runtimes do not use such content.",
    remedy="Nothing, unless the program that created it reports missing content.",
)
NOT_AN_IMAGE = Rule(
    code="not-an-image",
    severity=Severity.CRITICAL,
    means="An image's name leads to content that is neither an index nor a manifest, and its type is that of a web "
    "page or a plain file: a mirror or a proxy answered the pull with a page of its own.",
    impact="The image cannot be run, exported or pushed: there is no image.",
    remedy="Check the registry mirror or proxy in hosts.toml, then pull the image again.",
)
NAME_MISMATCH = Rule(
    code="name-mismatch",
    severity=Severity.ERROR,
    means="An image is named by a digest or an image id, and leads to other content.",
    impact="Clients that ask for that digest or id run something else.",
    remedy="Pull the image again by the digest in the name; find out which client wrote the record.",
)
RULES = (
    NOT_AN_IMAGE,
    NAME_MISMATCH,
    UNKNOWN_MEDIA_TYPE,
    MISSING_MANIFEST,
    MISSING_CONFIG,
    MALFORMED_MANIFEST,
    MEDIA_TYPE_MISMATCH,
    IMAGE_TYPE_UNKNOWN,
    LAYER_COUNT_MISMATCH,
)


LACKS = "not in the archive"
#: The documents that state their type.
_TYPED = (Index, Manifest)
_SHA256 = re.compile(r"sha256:[0-9a-f]{64}")


def check(evidence: Evidence) -> Iterator[Hit]:
    """Check the documents of each audited image."""
    for view in evidence.views:
        doubtful = _doubtful(view)
        for graph in view.graphs:
            for descriptor in graph.indexes:
                if descriptor.digest in doubtful:
                    yield from _index(view, graph, descriptor)
            for descriptor in graph.too_deep:
                yield _too_deep(view, graph, descriptor)
            if graph.others:
                yield from _target(view, graph)
        yield from _names(view)
        yield from _record_types(view)
        for graph, node in view.naming(doubtful):
            if not node.attestation:
                yield from _manifest(evidence, view, graph, node)


def _doubtful(view: NamespaceView) -> AbstractSet[Digest]:
    """Return all absent content, and the documents that may have a fault; on most nodes these are few.

    Of a document that is read as what its descriptor says, and that states the same type, `_flaws` finds nothing, nor
    of a config that is read.
    """
    typed = {
        (digest, loaded.media_type)
        for (digest, kind), loaded in view.documents.items()
        if isinstance(loaded, _TYPED) and family(loaded.media_type) is kind
    }
    stated = {(node.digest, node.descriptor.media_type) for _, node in view.manifests()}
    stated.update([(index.digest, index.media_type) for graph in view.graphs for index in graph.indexes])
    unread = {inside.manifest.config.digest for _, _, inside in view.readable if inside.config is None}
    miscounted = {node.digest for _, node, inside in view.readable if inside.counts_differ}
    return view.absent | unread | miscounted | {digest for digest, _ in stated - typed}


def _index(view: NamespaceView, graph: ImageGraph, descriptor: Descriptor) -> Iterator[Hit]:
    if not view.has(descriptor.digest) and descriptor not in graph.passed_over:
        yield from _missing(view, descriptor, "index", image_ref(graph.group, "index"))
    yield from _flaws(view, graph, descriptor, "index")


def _too_deep(view: NamespaceView, graph: ImageGraph, descriptor: Descriptor) -> Hit:
    text = f"nested more than {oci.MAX_DEPTH} indexes deep"
    ref = image_ref(graph.group, "index")
    subject = blob_subject("index", descriptor.digest)
    return MALFORMED_MANIFEST.hit(view.name, subject, text, part="index", images=(ref,))


def _target(view: NamespaceView, graph: ImageGraph) -> Iterator[Hit]:
    """Check a target that is neither index nor manifest."""
    for descriptor in graph.others:
        if descriptor.digest != graph.group.target.digest:
            continue
        ref = image_ref(graph.group, "content")
        if _not_an_image(view, descriptor):
            yield _no_image(view, descriptor, ref)
            continue
        yield unknown_type(view, graph, descriptor)
        if not view.has(descriptor.digest):
            yield from _missing(view, descriptor, "content", ref)


def unknown_type(view: NamespaceView, graph: ImageGraph, descriptor: Descriptor) -> Hit:
    """Return the hit about content of which no references are followed."""
    text = f"references content of type {descriptor.media_type or 'none'}, which is not followed"
    facts: dict[str, Fact] = {"media_type": descriptor.media_type, "present": view.has(descriptor.digest)}
    subject, ref = blob_subject("content", descriptor.digest), image_ref(graph.group, "content")
    return UNKNOWN_MEDIA_TYPE.hit(view.name, subject, text, part="", images=(ref,), facts=facts)


def _not_an_image(view: NamespaceView, descriptor: Descriptor) -> bool:
    loaded = view.documents.get((descriptor.digest, Family.UNTYPED))
    return (
        view.has(descriptor.digest)
        and oci.is_plain_type(descriptor.media_type)
        and isinstance(loaded, Broken)
        and loaded.flaw in (Flaw.UNTYPED, Flaw.MALFORMED, Flaw.TOO_LARGE)
    )


def _no_image(view: NamespaceView, descriptor: Descriptor, ref: ImageRef) -> Hit:
    text = f"its content is not an image (type {descriptor.media_type}, {descriptor.size} bytes)"
    facts: dict[str, Fact] = {"media_type": descriptor.media_type, "size": descriptor.size}
    subject = blob_subject("content", descriptor.digest)
    return NOT_AN_IMAGE.hit(view.name, subject, text, part="", images=(ref,), facts=facts)


def _names(view: NamespaceView) -> Iterator[Hit]:
    """Yield the names that state a digest or an image id other than the image's."""
    ids: set[tuple[str, str]] = {
        (graph.group.target.digest, inside.manifest.config.digest)
        for graph, node, inside in view.readable
        if not node.attestation
    }
    for graph in view.graphs:
        target = graph.group.target.digest
        for name in graph.group.names:
            if name.endswith(target) or (target, name) in ids:
                continue
            stated = name if name.startswith("sha256:") else name.rpartition("@")[2] if "@" in name else ""
            if _SHA256.fullmatch(stated) and target.algorithm == "sha256":
                yield from _name(view, graph, name, stated)


def _name(view: NamespaceView, graph: ImageGraph, name: str, stated: str) -> Iterator[Hit]:
    """Yield a name that states another digest than its target's, unless it may be the image's id."""
    target = graph.group.target.digest
    if name == stated and _may_be_id(view, graph, stated):
        return
    text = f"its name states {stated[:19]}, and leads to {target.short}"
    facts: dict[str, Fact] = {"stated": stated, "target": str(target)}
    ref = image_ref(graph.group, "image")
    yield NAME_MISMATCH.hit(view.name, Subject(kind="image", name=name), text, part="", images=(ref,), facts=facts)


def _record_types(view: NamespaceView) -> Iterator[Hit]:
    """Yield the records that give the target another type than the records by which it is an image."""
    for graph in view.graphs:
        target = graph.group.target
        for record in graph.group.records:
            given = record.target.media_type
            if given != target.media_type and family(target.media_type) not in (None, family(given)):
                yield _record_type(view, graph, record)


def _record_type(view: NamespaceView, graph: ImageGraph, record: Image) -> Hit:
    target, given = graph.group.target, record.target.media_type
    text = f"its record gives the media type {given or 'none'}, another record of the target {target.media_type}"
    facts: dict[str, Fact] = {"document": target.media_type, "descriptor": given, "target": str(target.digest)}
    subject, ref = Subject(kind="image", name=record.name), image_ref(graph.group, "image")
    message = f"{record.name}: {text}"
    return IMAGE_TYPE_UNKNOWN.hit(view.name, subject, message, images=(ref,), facts=facts)


def _may_be_id(view: NamespaceView, graph: ImageGraph, stated: str) -> bool:
    """Whether an id of no known config may be that of a config: manifests that cannot be read may name it."""
    nodes = [node for node in graph.manifests if not node.attestation]
    unread = [node for node in nodes if view.content(node.digest) is None]
    if len(unread) == len(nodes) or any(node.wanted for node in unread):
        return True
    return bool(unread) and view.has(Digest(stated))


def _missing(view: NamespaceView, descriptor: Descriptor, role: str, ref: ImageRef) -> Iterator[Hit]:
    if descriptor.embedded:
        return
    subject = blob_subject(role, descriptor.digest)
    facts: dict[str, Fact] = {"size": descriptor.size, "media_type": descriptor.media_type}
    if in_progress(view, descriptor.digest):
        text = "blob missing: a pull is in progress"
        yield PULL_IN_PROGRESS.hit(view.name, subject, text, part=role, images=(ref,), facts=facts)
        return
    rule = MISSING_CONFIG if role == "config" else MISSING_MANIFEST
    text = f"blob missing: namespace {view.name} has no record of {descriptor.digest.short}" if view.name else LACKS
    cause = "record-absent"
    yield rule.hit(view.name, subject, text, part=role, cause=cause, images=(ref,), facts=facts, repairable=True)


def _manifest(evidence: Evidence, view: NamespaceView, graph: ImageGraph, node: ManifestNode) -> Iterator[Hit]:
    wanted = node.wanted and not pulled_instead(evidence, view, graph, node)
    if not view.has(node.digest):
        if wanted:
            yield from _missing(view, node.descriptor, "manifest", image_ref(graph.group, "manifest", node=node))
        return
    yield from _flaws(view, graph, node.descriptor, "manifest", node)
    inside = view.content(node.digest)
    if inside is not None:
        yield from _inside(view, graph, node, inside, wanted=wanted)


def _inside(
    view: NamespaceView, graph: ImageGraph, node: ManifestNode, inside: Content, *, wanted: bool
) -> Iterator[Hit]:
    config = inside.manifest.config
    here = view.has(config.digest)
    if not here and wanted:
        yield from _missing(view, config, "config", image_ref(graph.group, "config", node=node))
    yield from _flaws(view, graph, config, "config", node)
    if not inside.counts_differ or inside.config is None:
        return
    if wanted or any(view.has(layer.descriptor.digest) for layer in inside.layers):
        yield _counts(view, graph, node, inside, len(inside.config.diff_ids))


def _counts(view: NamespaceView, graph: ImageGraph, node: ManifestNode, inside: Content, ids: int) -> Hit:
    layers = sum(oci.is_layer(layer.descriptor.media_type) for layer in inside.layers)
    text = f"the number of layers ({layers}) differs from the number of diff_ids in the config ({ids})"
    return LAYER_COUNT_MISMATCH.hit(
        view.name,
        blob_subject("manifest", node.digest),
        text,
        part="manifest",
        cause="published-so",
        images=(image_ref(graph.group, "manifest", node=node),),
        facts={"layers": layers, "diff_ids": ids, "config": str(inside.manifest.config.digest)},
    )


def _flaws(
    view: NamespaceView, graph: ImageGraph, descriptor: Descriptor, role: str, node: ManifestNode | None = None
) -> Iterator[Hit]:
    """Yield the faults of a present document; `blobs` checks its file and its content."""
    root = descriptor.digest == graph.group.target.digest
    where = key_of_root(descriptor, view.documents) if root else key(descriptor)
    loaded = view.documents.get(where) if where is not None and view.has(descriptor.digest) else None
    if isinstance(loaded, Broken) and loaded.flaw is Flaw.MALFORMED:
        rule, cause, facts = MALFORMED_MANIFEST, "published-so", dict[str, Fact]()
        text = f"malformed: {loaded.detail}"
    elif isinstance(loaded, Index | Manifest) and (
        loaded.media_type not in ("", descriptor.media_type) or key(descriptor) is None
    ):
        rule, cause = MEDIA_TYPE_MISMATCH if key(descriptor) else IMAGE_TYPE_UNKNOWN, None
        facts = {"document": loaded.media_type, "descriptor": descriptor.media_type}
        kind = loaded.media_type or ("an index" if isinstance(loaded, Index) else "a manifest")
        text = f"its media type is {kind}, in its descriptor {descriptor.media_type}"
    else:
        return
    ref = image_ref(graph.group, role, node=node)
    subject = blob_subject(role, descriptor.digest)
    yield rule.hit(view.name, subject, text, part=role, cause=cause, images=(ref,), facts=facts)
