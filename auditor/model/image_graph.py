"""The descriptor graph of images: indexes, manifests, configs and layers; no I/O.

Documents are keyed by digest and family. Content is the same in every namespace; a namespace's records tell which of
it the namespace has. The family is that of the descriptor's media type, so that a digest with two media types is
parsed as each of them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import msgspec

from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor, ImageConfig, Index, MalformedChild, Manifest
from auditor.model.platforms import Platform
from auditor.model.store import Image


class Family(enum.StrEnum):
    """The kind of a document, which decides how it is parsed."""

    INDEX = "index"
    MANIFEST = "manifest"
    CONFIG = "config"
    #: The target of an image whose type is unknown.
    UNTYPED = "untyped"

    #: Enum's own is written in Python, and every look-up of a document hashes a family.
    __hash__ = str.__hash__


_FAMILIES: Final = {
    **dict.fromkeys(oci.INDEX_TYPES, Family.INDEX),
    **dict.fromkeys(oci.MANIFEST_TYPES | oci.SCHEMA1_TYPES, Family.MANIFEST),
    **dict.fromkeys(oci.CONFIG_TYPES, Family.CONFIG),
}


def family(media_type: str) -> Family | None:
    """Return the family of a media type; None for layers, artifacts and unknown types."""
    return _FAMILIES.get(media_type)


class Flaw(enum.StrEnum):
    """Why a document with a record cannot be parsed."""

    NO_FILE = "no file"
    SIZE = "wrong size"
    CORRUPT = "wrong digest"
    MALFORMED = "malformed"
    UNREADABLE = "unreadable"
    TOO_LARGE = "too large"
    UNTYPED = "neither an index nor a manifest"


class Broken(msgspec.Struct, frozen=True):
    """A document that has a record and cannot be parsed; `size` in bytes and `actual` digest as read."""

    flaw: Flaw
    detail: str = ""
    size: int | None = None
    actual: Digest | None = None


Loaded = Index | Manifest | ImageConfig | Broken
Key = tuple[Digest, Family]
Documents = Mapping[Key, Loaded]


def key(descriptor: Descriptor) -> Key | None:
    """Return the key of a descriptor's document; None for types that are not documents."""
    kind = family(descriptor.media_type)
    return None if kind is None else (descriptor.digest, kind)


def key_of_root(target: Descriptor, documents: Documents) -> Key:
    """Return the key of an image's target; one of unknown type is what its content parses as."""
    typed = key(target)
    if typed is not None:
        return typed
    loaded = documents.get((target.digest, Family.UNTYPED))
    return target.digest, Family.UNTYPED if loaded is None else _parsed_as(loaded)


def _parsed_as(loaded: Loaded) -> Family:
    match loaded:
        case Index():
            return Family.INDEX
        case Manifest():
            return Family.MANIFEST
        case _:
            return Family.UNTYPED


def children(document: Loaded) -> Iterator[Descriptor]:
    """Yield the descriptors in a document, in its order; a config has none."""
    match document:
        case Index():
            yield from document.manifests
        case Manifest():
            yield document.config
            yield from document.layers
        case _:
            return


class Group(msgspec.Struct, frozen=True):
    """An image: one target in one namespace, with all its names, the best name first.

    Records of one target may give it different types; that of a document is taken, which the others may not be.
    """

    namespace: str
    names: tuple[str, ...]
    target: Descriptor
    records: tuple[Image, ...] = ()

    @property
    def name(self) -> str:
        """The best name: a tag before a digest, a digest before CRI's image id."""
        return self.names[0]


def group(images: Iterable[Image]) -> tuple[Group, ...]:
    """Group image records by namespace and target; CRI writes three records for each image that it pulls."""
    by: dict[tuple[str, Digest], list[Image]] = {}
    for image in images:
        by.setdefault((image.namespace, image.target.digest), []).append(image)
    groups = (_grouped(namespace, records) for (namespace, _), records in by.items())
    return tuple(sorted(groups, key=lambda g: (g.namespace, g.name)))


def _grouped(namespace: str, records: list[Image]) -> Group:
    if len(records) > 1:
        records.sort(key=_record_order)
    names = tuple(image.name for image in records)
    typed = (record.target for record in records if family(record.target.media_type) is not None)
    target = next(typed, records[0].target)
    return Group(namespace=namespace, names=names, target=target, records=tuple(records))


def _record_order(record: Image) -> tuple[bool, bool, str]:
    name = record.name
    return (name.startswith("sha256:"), "@" in name, name)


class ManifestNode(msgspec.Struct, frozen=True):
    """A manifest in the graph of one image.

    `wanted`: a pull for the wanted platforms selects it. `alike`: its platform matches a wanted one, whether or not it
    is the best match. `path`: the indexes above it, outermost first.
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
        """Whether it is an attestation of another manifest."""
        return self.descriptor.attestation


class MalformedNode(msgspec.Struct, frozen=True):
    """A malformed child, the index that lists it, and whether a pull for the wanted platforms takes it."""

    index: Descriptor
    child: MalformedChild
    taken: bool


class ImageGraph(msgspec.Struct, frozen=True):
    """The documents of one image; `others` have types that are not followed, `too_deep` exceed `oci.MAX_DEPTH`.

    `unusable`: the others that containerd takes for the image of a wanted platform, and then cannot use. `passed_over`:
    the indexes that lead to no wanted platform. `unmatched`: the wanted platforms for which containerd takes nothing,
    or a manifest that its config makes one of another platform. `malformed`: the malformed children of indexes, each
    with whether containerd takes it.
    """

    group: Group
    indexes: tuple[Descriptor, ...] = ()
    manifests: tuple[ManifestNode, ...] = ()
    others: tuple[Descriptor, ...] = ()
    too_deep: tuple[Descriptor, ...] = ()
    unusable: tuple[Descriptor, ...] = ()
    passed_over: tuple[Descriptor, ...] = ()
    unmatched: tuple[Platform, ...] = ()
    malformed: tuple[MalformedNode, ...] = ()


class Layer(msgspec.Struct, frozen=True):
    """A layer of a manifest; diffID and chainID are None unless the config has one diffID for each layer."""

    index: int
    descriptor: Descriptor
    diff_id: Digest | None = None
    chain_id: Digest | None = None


class Content(msgspec.Struct, frozen=True):
    """The config and layers of a manifest, as far as its documents can be parsed.

    `container`: it is a container image, not an artifact. `counts_differ`: layers and diff_ids differ in number.
    `chain` has the chainIDs, lowest first; empty where they are unknown.
    """

    manifest: Manifest
    config: ImageConfig | None
    layers: tuple[Layer, ...]
    chain: tuple[Digest, ...]
    container: bool
    counts_differ: bool = False


#: The diffID and the chainID of a layer that is not unpacked, or whose config does not tell them.
_NO_IDS: tuple[Digest | None, Digest | None] = (None, None)


def content(digest: Digest, documents: Documents) -> Content | None:
    """Return the config and layers of the manifest `digest`; None where it cannot be parsed."""
    manifest = documents.get((digest, Family.MANIFEST))
    if not isinstance(manifest, Manifest):
        return None
    loaded = documents.get((manifest.config.digest, Family.CONFIG)) if manifest.names_image else None
    config = loaded if isinstance(loaded, ImageConfig) else None
    taken = {kind for kind in {layer.media_type for layer in manifest.layers} if oci.is_layer(kind)}
    unpackable = [layer for layer in manifest.layers if layer.media_type in taken]
    container = manifest.names_image and not _artifact(manifest, config, unpackable)
    counted = len(unpackable) or _passed_over(manifest)
    differ = container and config is not None and counted != len(config.diff_ids)
    diff_ids = config.diff_ids if config is not None and container and unpackable and not differ else ()
    chain = oci.chain_ids(diff_ids)
    ids = iter(zip(diff_ids, chain, strict=True))
    return Content(
        manifest=manifest,
        config=config,
        layers=tuple(
            [
                Layer(i, layer, *(next(ids, _NO_IDS) if layer.media_type in taken else _NO_IDS))
                for i, layer in enumerate(manifest.layers)
            ]
        ),
        chain=chain,
        container=container,
        counts_differ=differ,
    )


def _artifact(manifest: Manifest, config: ImageConfig | None, unpackable: list[Descriptor]) -> bool:
    """Whether a manifest with an image config is an artifact: BuildKit caches, attestations, `{}` of old ORAS."""
    if not unpackable and not manifest.artifact_type and _passed_over(manifest):
        return config is not None and not config.diff_ids
    if not unpackable and not manifest.artifact_type and config is not None and _built_as_image(manifest, config):
        return False
    if manifest.artifact_type or len(unpackable) < len(manifest.layers):
        return not unpackable or (config is not None and not config.diff_ids)
    return config is not None and not config.diff_ids and not config.platform.os


def _built_as_image(manifest: Manifest, config: ImageConfig) -> bool:
    """Whether a config is one to run, and has a diffID for each layer, of which none has the type of its content."""
    untyped = all(oci.is_untyped_layer(layer.media_type) for layer in manifest.layers)
    named = config.platform.os not in ("", "unknown")
    return untyped and named and len(manifest.layers) == len(config.diff_ids)


def _passed_over(manifest: Manifest) -> int:
    """Return the number of layers, of which containerd takes none for one, where each is an image's by its type."""
    passed = all(oci.is_image_layer(layer.media_type) for layer in manifest.layers)
    return len(manifest.layers) if passed else 0
