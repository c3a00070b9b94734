"""Rows of tables of cases: steps that put a store into a state, and what is looked at when they are done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from auditor import checks
from auditor.audit.collect import Request, collect
from auditor.checks.evidence import Evidence, NamespaceView
from auditor.checks.layer_state import LayerState, State, states
from auditor.checks.rule import Hit, merge
from auditor.model import image_graph, oci
from auditor.model.digest import Digest
from auditor.model.findings import Finding, ImageRef, Severity, Subject
from auditor.model.image_graph import ImageGraph, ManifestNode
from auditor.model.platforms import parse
from tests.unit.build import APP, NOW, OVERLAY, Document, Layer, World

NAME = "docker.io/library/app:1"

Step = Callable[[World], object]


def do(method: Callable[..., object], *args: Any, **kwargs: Any) -> Step:
    """A call of a method of World, to be made later."""
    return lambda world: method(world, *args, **kwargs)


def pull(target: Document, *platforms: str, name: str = NAME) -> Step:
    """Pull an image without unpacking it, for linux/amd64 by default."""
    return do(World.pull, target, name, platforms=platforms or ("linux/amd64",), unpack=False)


def retarget(**fields: Any) -> Step:
    """Change the descriptor in the record of the only image."""

    def step(world: World) -> None:
        (record,) = world.inventory.images
        changed = msgspec.structs.replace(record.target, **fields)
        world.change(images=(msgspec.structs.replace(record, target=changed),))

    return step


def add_labels(digest: Digest, **labels: str) -> Step:
    """Add labels to a blob."""
    return lambda world: world.relabel(digest, lambda old: {**old, **labels})


def lose(*absent: Layer | Document) -> Step:
    """Delete the records of layers and documents."""
    return do(World.drop, *(each.digest for each in absent))


def change_info(**fields: Any) -> Step:
    """Change what the store says of itself."""

    def step(world: World) -> None:
        world.store.description = msgspec.structs.replace(world.store.info(), **fields)

    return step


def build(steps: Iterable[Step], **fields: Any) -> World:
    """A world after these steps."""
    world = World(**fields)
    for step in steps:
        step(world)
    return world


def collected(world: World, **request: Any) -> Evidence:
    """The evidence of an audit, with what leases hold."""
    request["platforms"] = tuple(parse(text) for text in request.get("platforms", ()))
    return collect(world.store, Request(**request), known={}, now=NOW, leases=True)


def find(
    evidence: Evidence, manifest: Document, *, target: Document | None = None
) -> tuple[NamespaceView, ImageGraph, ManifestNode]:
    """A manifest in the graph of the first image that leads to it, or of the one with this target."""
    return next(
        (view, found, node)
        for view in evidence.views
        for found, node in view.manifests()
        if node.digest == manifest.digest and (target is None or found.group.target.digest == target.digest)
    )


def describe(layer: Layer, **changes: Any) -> oci.Descriptor:
    """The descriptor of a layer as a manifest has it."""
    made = oci.Descriptor(layer.media_type, layer.digest, len(layer.data))
    return msgspec.structs.replace(made, **changes)


def layers(manifest: Document) -> tuple[image_graph.Layer, ...]:
    """The layers of a manifest whose config is known."""
    rows = enumerate(zip(manifest.layers, manifest.chain, strict=True))
    return tuple(image_graph.Layer(i, describe(layer), layer.diff_id, chain_id) for i, (layer, chain_id) in rows)


class LayerRow(NamedTuple):
    """Steps, and by layer how its record differs from that of a layer that is present, labelled and unpacked."""

    steps: tuple[Step, ...]
    layers: Mapping[int, Mapping[str, Any]]
    manifest: Document = APP
    #: The image that the manifest is looked at in.
    target: Document | None = None
    #: How all records differ.
    every: Mapping[str, Any] = {}
    request: Mapping[str, Any] = {}

    def expected(self) -> tuple[LayerState, ...]:
        """The records of all layers."""
        plain = [LayerState(each, State.PRESENT, (OVERLAY,), labelled=True) for each in layers(self.manifest)]
        changes = [{**self.every, **self.layers.get(each.layer.index, {})} for each in plain]
        return tuple(msgspec.structs.replace(each, **change) for each, change in zip(plain, changes, strict=True))

    def judged(self) -> tuple[LayerState, ...]:
        """What the classifier says of all layers."""
        evidence = collected(build(self.steps), **self.request)
        return states(evidence, *find(evidence, self.manifest, target=self.target))


def first(state: State, **fields: Any) -> Mapping[int, Mapping[str, Any]]:
    """Only the lowest layer is absent."""
    return {0: {"state": state, "prefix": True, **fields}}


def all_three(state: State, **fields: Any) -> Mapping[int, Mapping[str, Any]]:
    """All layers of APP are absent."""
    return {i: {"state": state, "prefix": True, **fields} for i in range(3)}


def ref(role: str, manifest: Document | None, *, target: Document | None = None, **changes: Any) -> ImageRef:
    """How the image that most rows pull uses something."""
    whole = target or manifest
    assert whole is not None
    made = ImageRef(
        namespace="k8s.io",
        name=NAME,
        names=(NAME,),
        target=str(whole.digest),
        platform=manifest.platform if manifest else "",
        manifest=str(manifest.digest) if manifest else "",
        role=role,
    )
    if changes.get("layer") is not None:
        changes["layer_number"] = changes["layer"] + 1
    return msgspec.structs.replace(made, **changes)


#: The severity of each code.
SEVERITY = {
    **dict.fromkeys(
        (
            "missing-manifest",
            "missing-config",
            "malformed-manifest",
            "incomplete-image",
            "blob-file-missing",
            "size-mismatch",
            "digest-mismatch",
            "diffid-mismatch",
            "layer-undecodable",
            "broken-snapshot-chain",
            "snapshot-directory-missing",
            "snapshot-empty",
            "snapshot-damaged",
            "suspect-storage",
            "metadata-damaged",
            "metadata-lost",
            "snapshot-without-backend",
            "not-an-image",
        ),
        Severity.CRITICAL,
    ),
    **dict.fromkeys(
        (
            "image-type-unknown",
            "layer-count-mismatch",
            "snapshot-without-blob",
            "shared-config-layers",
            "blob-unreadable",
            "snapshot-whiteouts-lost",
            "name-mismatch",
        ),
        Severity.ERROR,
    ),
    **dict.fromkeys(
        (
            "malformed-descriptor",
            "media-type-mismatch",
            "read-unsteady",
            "snapshot-missing",
            "gc-unprotected",
            "stale-ingest",
            "snapshot-attributes",
            "snapshot-extra-files",
            "snapshot-usage-differs",
            "file-without-record",
            "layer-type-unsupported",
            "layers-not-fetched",
            "undeletable-files",
            "container-orphaned",
        ),
        Severity.WARNING,
    ),
    **dict.fromkeys(
        (
            "platform-not-pulled",
            "no-matching-platform",
            "attestation-not-pulled",
            "unknown-media-type",
            "blob-discarded",
            "blob-lazy",
            "pull-in-progress",
            "foreign-layer",
            "layer-unverifiable",
            "snapshot-unverifiable",
            "not-unpacked",
            "orphan-blob",
            "expired-lease",
            "lease-pins-content",
            "leftover-files",
        ),
        Severity.INFO,
    ),
}
_ADVICE = {rule.code: rule.remedy for rule in checks.RULES}


def finding(code: str, kind: str, of: str, *images: ImageRef, **fields: Any) -> Finding:
    """A finding of a code about a digest or a name; what is not given is as the code's rule has it."""
    named = {"digest": str(of)} if ":" in of and "/" not in of else {"name": str(of)}
    made = Finding(
        code=code,
        severity=SEVERITY[code],
        namespace="k8s.io",
        subject=Subject(kind=kind, **named),
        message="",
        images=images,
        hint=_ADVICE[code],
    )
    return msgspec.structs.replace(made, **fields)


def worded(hits: Iterable[Hit]) -> list[Finding]:
    """Each hit as a finding of its own."""
    return [found for hit in hits for found in merge([hit])]


def unworded(findings: Iterable[Finding]) -> list[Finding]:
    """Findings without their sentences, which a table of their own compares."""
    return [msgspec.structs.replace(finding, message="") for finding in findings]
