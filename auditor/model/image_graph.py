"""The descriptor graph of a namespace: which image leads to which index, manifest, config and layer; no I/O.

Content is the same in every namespace, so documents are keyed by digest; which of them a namespace *has* is a question
for its records. A document is kept under the family that its descriptor claims, so that one digest described twice
cannot be read as two things.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping

import msgspec

from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor, ImageConfig, Index, Manifest
from auditor.model.platforms import Matcher, Platform
from auditor.model.store import Image


class Family(enum.StrEnum):
    """How a document is to be parsed."""

    INDEX = "index"
    MANIFEST = "manifest"
    CONFIG = "config"


def family(media_type: str) -> Family | None:
    """The family of a media type; None for layers, artifacts and what nobody knows."""
    if media_type in oci.INDEX_TYPES:
        return Family.INDEX
    if media_type in oci.MANIFEST_TYPES or media_type in oci.SCHEMA1_TYPES:
        return Family.MANIFEST
    return Family.CONFIG if media_type in oci.CONFIG_TYPES else None


class Flaw(enum.StrEnum):
    """Why a document cannot be walked though its record is there."""

    NO_FILE = "no file"
    SIZE = "wrong size"
    CORRUPT = "wrong digest"
    MALFORMED = "malformed"
    UNREADABLE = "unreadable"


class Broken(msgspec.Struct, frozen=True):
    """A document that is present and cannot be walked; `size` in bytes and `actual` as read."""

    flaw: Flaw
    detail: str = ""
    size: int | None = None
    actual: Digest | None = None


Loaded = Index | Manifest | ImageConfig | Broken
Key = tuple[Digest, Family]
Documents = Mapping[Key, Loaded]


def key(descriptor: Descriptor) -> Key | None:
    """Where a descriptor's document is kept; None for what has no document."""
    kind = family(descriptor.media_type)
    return None if kind is None else (descriptor.digest, kind)


def children(document: Loaded) -> Iterator[Descriptor]:
    """The descriptors that a document names, in its order; a config names none."""
    match document:
        case Index():
            yield from document.manifests
        case Manifest():
            yield document.config
            yield from document.layers
        case _:
            return


class Group(msgspec.Struct, frozen=True):
    """An image: one target in one namespace, with all its names, the one that people use first."""

    namespace: str
    names: tuple[str, ...]
    target: Descriptor
    records: tuple[Image, ...] = ()

    @property
    def name(self) -> str:
        """The name that people use: a tag rather than a digest, a digest rather than CRI's image id."""
        return self.names[0]


def group(images: Iterable[Image]) -> tuple[Group, ...]:
    """Put the records of one target together; CRI writes three for each image that it pulls."""
    by: dict[tuple[str, Digest], list[Image]] = {}
    for image in images:
        by.setdefault((image.namespace, image.target.digest), []).append(image)
    groups = (_grouped(namespace, records) for (namespace, _), records in by.items())
    return tuple(sorted(groups, key=lambda g: (g.namespace, g.name)))


def _grouped(namespace: str, records: list[Image]) -> Group:
    records.sort(key=lambda image: _name_order(image.name))
    names = tuple(image.name for image in records)
    return Group(namespace=namespace, names=names, target=records[0].target, records=tuple(records))


def _name_order(name: str) -> tuple[bool, bool, str]:
    return (name.startswith("sha256:"), "@" in name, name)


class ManifestNode(msgspec.Struct, frozen=True):
    """A manifest in the graph of one image.

    `wanted`: a pull for the wanted platforms takes it. `alike`: it would run there too, but another is the better
    match or comes first. `path`: the indexes above it, outermost first.
    """

    descriptor: Descriptor
    platform: Platform | None
    wanted: bool
    alike: bool
    path: tuple[Digest, ...] = ()

    @property
    def digest(self) -> Digest:
        """The manifest's digest."""
        return self.descriptor.digest

    @property
    def attestation(self) -> bool:
        """Whether it attests another manifest rather than being an image."""
        return self.descriptor.attestation


class ImageGraph(msgspec.Struct, frozen=True):
    """What one image leads to; `others` are children of types that nobody walks, `too_deep` those beyond the limit."""

    group: Group
    indexes: tuple[Descriptor, ...] = ()
    manifests: tuple[ManifestNode, ...] = ()
    others: tuple[Descriptor, ...] = ()
    too_deep: tuple[Descriptor, ...] = ()


class _Walk(msgspec.Struct):
    indexes: list[Descriptor] = []
    manifests: list[tuple[Descriptor, tuple[Digest, ...]]] = []
    others: list[Descriptor] = []
    too_deep: list[Descriptor] = []
    seen: set[tuple[Digest, Platform | None]] = set()

    def visit(self, descriptor: Descriptor, path: tuple[Digest, ...], documents: Documents) -> None:
        kind = family(descriptor.media_type)
        # Images of mere data list one manifest for several platforms; each of them may be the one that is wanted.
        once = (descriptor.digest, descriptor.platform if kind is Family.MANIFEST else None)
        if once in self.seen:
            return
        self.seen.add(once)
        match kind:
            case Family.MANIFEST:
                self.manifests.append((descriptor, path))
            case Family.INDEX if len(path) >= oci.MAX_DEPTH:
                self.too_deep.append(descriptor)
            case Family.INDEX:
                self.indexes.append(descriptor)
                document = documents.get((descriptor.digest, Family.INDEX))
                for child in document.manifests if isinstance(document, Index) else ():
                    self.visit(child, (*path, descriptor.digest), documents)
            case _:
                self.others.append(descriptor)


def walk(image: Group, documents: Documents, matcher: Matcher) -> ImageGraph:
    """Walk from an image's target as far as its documents are known; each digest once."""
    found = _Walk(indexes=[], manifests=[], others=[], too_deep=[], seen=set())
    found.visit(image.target, (), documents)
    return ImageGraph(
        group=image,
        indexes=tuple(found.indexes),
        manifests=_judged(found.manifests, documents, matcher),
        others=tuple(found.others),
        too_deep=tuple(found.too_deep),
    )


def _judged(
    found: list[tuple[Descriptor, tuple[Digest, ...]]], documents: Documents, matcher: Matcher
) -> tuple[ManifestNode, ...]:
    if len(found) == 1 and not found[0][1]:  # the target itself: containerd never filters it
        descriptor, path = found[0]
        return (ManifestNode(descriptor, platform_of(descriptor, documents), wanted=True, alike=True, path=path),)
    platforms = [None if d.attestation else platform_of(d, documents) for d, _ in found]
    chosen = _chosen([d for d, _ in found], platforms, matcher)
    return _each_once(
        ManifestNode(d, platform, wanted=i in chosen, alike=_matches(platform, matcher), path=path)
        for i, ((d, path), platform) in enumerate(zip(found, platforms, strict=True))
    )


def _each_once(nodes: Iterable[ManifestNode]) -> tuple[ManifestNode, ...]:
    """Each manifest once, for the platform that is wanted where it is listed for several."""
    best: dict[Digest, ManifestNode] = {}
    for node in nodes:
        held = best.get(node.digest)
        if held is None or (node.wanted, node.alike) > (held.wanted, held.alike):
            best[node.digest] = node
    return tuple(best.values())


def _matches(platform: Platform | None, matcher: Matcher) -> bool:
    return platform is not None and matcher.rank(platform) is not None


def _chosen(descriptors: list[Descriptor], platforms: list[Platform | None], matcher: Matcher) -> set[int]:
    """The manifests that the wanted platforms take; one without any platform only where nothing else matches.

    core/images/image.go `Manifest`: descriptors without a platform are sorted behind those that match.
    """
    known = [i for i, platform in enumerate(platforms) if platform is not None]
    chosen = {known[i] for i in matcher.choose([p for p in platforms if p is not None])}
    if matcher.everything or not chosen:
        chosen |= {i for i, d in enumerate(descriptors) if platforms[i] is None and not d.attestation}
    return chosen


def platform_of(descriptor: Descriptor, documents: Documents) -> Platform | None:
    """The platform of a manifest: its descriptor's, else its config's; None where neither says."""
    if descriptor.platform is not None:
        return descriptor.platform
    manifest = documents.get((descriptor.digest, Family.MANIFEST))
    if not isinstance(manifest, Manifest):
        return None
    config = documents.get((manifest.config.digest, Family.CONFIG))
    return config.platform if isinstance(config, ImageConfig) and config.platform.os else None


class Layer(msgspec.Struct, frozen=True):
    """A layer of a manifest; diffID and chainID where the config is known and has as many as there are layers."""

    index: int
    descriptor: Descriptor
    diff_id: Digest | None = None
    chain_id: Digest | None = None


class Content(msgspec.Struct, frozen=True):
    """What a manifest names, as far as its documents can be read.

    `container`: it is an image to be unpacked, not an artifact. `counts_differ`: layers and diff_ids differ in number.
    `chain` has the chainIDs, lowest first; empty where they are not known.
    """

    manifest: Manifest
    config: ImageConfig | None
    layers: tuple[Layer, ...]
    chain: tuple[Digest, ...]
    container: bool
    counts_differ: bool = False


def content(digest: Digest, documents: Documents) -> Content | None:
    """What the manifest `digest` names; None where it cannot be read."""
    manifest = documents.get((digest, Family.MANIFEST))
    if not isinstance(manifest, Manifest):
        return None
    loaded = documents.get((manifest.config.digest, Family.CONFIG)) if manifest.names_image else None
    config = loaded if isinstance(loaded, ImageConfig) else None
    unpackable = [layer for layer in manifest.layers if oci.is_layer(layer.media_type)]
    container = manifest.names_image and not _artifact(manifest, config, unpackable)
    differ = container and config is not None and len(unpackable) != len(config.diff_ids)
    diff_ids = config.diff_ids if config is not None and container and not differ else ()
    layers = _layers(manifest.layers, diff_ids)
    return Content(
        manifest=manifest,
        config=config,
        layers=layers,
        chain=tuple(layer.chain_id for layer in layers if layer.chain_id is not None),
        container=container,
        counts_differ=differ,
    )


def _artifact(manifest: Manifest, config: ImageConfig | None, unpackable: list[Descriptor]) -> bool:
    """Artifacts borrow the image config's type: BuildKit caches, attestations, what old ORAS pushed with `{}`."""
    if manifest.artifact_type or len(unpackable) < len(manifest.layers):
        return not unpackable or (config is not None and not config.diff_ids)
    return config is not None and not config.diff_ids and not config.platform.os


def _layers(descriptors: tuple[Descriptor, ...], diff_ids: tuple[Digest, ...]) -> tuple[Layer, ...]:
    chain = oci.chain_ids(diff_ids)
    ids = iter(zip(diff_ids, chain, strict=True))
    layers = []
    for i, descriptor in enumerate(descriptors):
        diff_id, chain_id = next(ids, (None, None)) if oci.is_layer(descriptor.media_type) else (None, None)
        layers.append(Layer(i, descriptor, diff_id, chain_id))
    return tuple(layers)
