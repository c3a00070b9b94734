"""OCI and Docker documents: parsing with bounds, without I/O.

Manifests are untrusted input; a document that parses here is safe to walk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from typing import TypeVar

import msgspec

from auditor.errors import DocumentTooLarge, InvalidDigest, MalformedDocument
from auditor.model.digest import Digest
from auditor.model.oci_json import (
    NOTHING,
    DescriptorFields,
    IndexFields,
    LooseDescriptorFields,
    ManifestFields,
    PlatformFields,
    decode,
    decode_config,
    fold,
)
from auditor.model.ordinary_json import OrdinaryDescriptor, read_index, read_manifest
from auditor.model.platforms import Platform, is_usual, normalise

#: Largest index or manifest that is read, in bytes. Registries take manifests of 4 MiB (OCI distribution-spec, "Pushing
#: Manifests") and containerd's resolver the same; what was imported, containerd reads whatever its size.
MAX_DOCUMENT = 8 << 20
#: Largest config that is read, in bytes; containerd has no limit.
MAX_CONFIG = 32 << 20
#: Maximum nesting of indexes. Published images nest once; containerd has no limit.
MAX_DEPTH = 100
#: Maximum number of children of a document; the largest public indexes have some hundreds.
MAX_CHILDREN = 10_000
#: Maximum number of layers and diff_ids of an image; overlayfs mounts at most 500, image builders stop at 127.
MAX_LAYERS = 4_096

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar"
IN_TOTO = "application/vnd.in-toto+json"

INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
CONFIG_TYPES = frozenset({OCI_CONFIG, DOCKER_CONFIG})
SCHEMA1_TYPES = frozenset(
    {
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    }
)
_DOCKER_LAYERS = frozenset(
    {
        DOCKER_LAYER,
        f"{DOCKER_LAYER}.gzip",
        f"{DOCKER_LAYER}.zstd",
        DOCKER_FOREIGN_LAYER,
        f"{DOCKER_FOREIGN_LAYER}.gzip",
    }
)
#: Marks an attestation in an index; BuildKit docs/attestations/attestation-storage.md.
ATTESTATION_ANNOTATION = "vnd.docker.reference.type"


#: Types of web pages and of plain files: no registry gives an image or an artifact one of them.
_PLAIN_TYPES = frozenset({"application/json", "application/xml", "application/octet-stream", "application/xhtml+xml"})


def is_plain_type(media_type: str) -> bool:
    """Whether a media type belongs to a web page or a plain file, such as a mirror's login page."""
    kind = media_type.partition(";")[0].strip().lower()
    return kind.startswith("text/") or kind in _PLAIN_TYPES


def is_misspelled_type(media_type: str) -> bool:
    """Whether a type is that of an index or a manifest but for a parameter or a changed letter, or empty, or general.

    containerd compares types letter by letter; core/images/mediatypes.go `IsManifestType`.
    """
    kind = media_type.partition(";")[0].strip().lower()
    known = INDEX_TYPES | MANIFEST_TYPES
    return media_type not in known and (kind in known or not kind or is_plain_type(kind))


def parse_untyped(raw: bytes) -> Index | Manifest | None:
    """Parse an index or a manifest whose descriptor has another type; None where the content is neither.

    Args:
        raw: The content.

    """
    try:
        fields = {fold(key) for key in msgspec.json.decode(raw, type=dict[str, msgspec.Raw])}
        if "manifests" in fields:
            return _well_formed(_index(raw))
        return _manifest(raw) if {"config", "layers"} <= fields else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MalformedDocument):
        return None


def is_layer(media_type: str) -> bool:
    """Whether containerd unpacks this type; core/images/mediatypes.go `IsLayerType`."""
    return media_type.startswith("application/vnd.oci.image.layer.") or media_type.partition("+")[0] in _DOCKER_LAYERS


#: What types of image layers begin with, among them such as containerd passes over.
_LAYER_NAMES = (DOCKER_LAYER, DOCKER_FOREIGN_LAYER, "application/vnd.erofs.layer.")


def is_image_layer(media_type: str) -> bool:
    """Whether a type names a layer of an image, also one that containerd does not take for a layer.

    Such have a compression or a file system that it does not know: it fetches them and unpacks nothing.
    """
    return is_layer(media_type) or media_type.startswith(_LAYER_NAMES)


#: Types of archives and compressed files in general.
_ARCHIVES = frozenset(
    {
        "application/gzip",
        "application/x-gzip",
        "application/zstd",
        "application/tar",
        "application/tar+gzip",
        "application/x-tar",
        "application/x-tar+gzip",
    }
)


def is_untyped_layer(media_type: str) -> bool:
    """Whether a type tells nothing of the content, or is that of a layer but for letters or parameters.

    Artifacts name the kind of their content; layers of such types are an image's that was built wrongly.
    """
    kind = media_type.partition(";")[0].strip().lower()
    return not is_layer(media_type) and (not kind or is_layer(kind) or is_plain_type(kind) or kind in _ARCHIVES)


#: OCI's tar layers, up to the suffix of a compression.
_OCI_TARS = frozenset({OCI_LAYER, "application/vnd.oci.image.layer.nondistributable.v1.tar"})
_COMPRESSIONS = frozenset({"", "gzip", "zstd"})


def is_tar_layer(media_type: str) -> bool:
    """Whether containerd's own differ reads layers of this type; core/images/mediatypes.go `DiffCompression`.

    Another suffix, or a parameter, lets it take the content for an uncompressed tar.
    """
    base, _, compression = media_type.partition("+")
    return (base in _OCI_TARS and compression in _COMPRESSIONS) or media_type in _DOCKER_LAYERS


def needs_processor(media_type: str) -> bool:
    """Whether containerd unpacks a layer of this type only by another differ, such as erofs', or a stream processor.

    Encrypted layers are left out: nodes that have such images have their processor.
    """
    return is_image_layer(media_type) and not is_tar_layer(media_type) and not is_encrypted(media_type)


def is_foreign(media_type: str) -> bool:
    """Whether registries may refuse to carry this layer: OCI's nondistributable and Docker's foreign layers."""
    return ".nondistributable." in media_type or media_type.startswith(DOCKER_FOREIGN_LAYER)


def is_encrypted(media_type: str) -> bool:
    """Whether the layer's bytes are encrypted (ocicrypt's `+encrypted` suffix): its diffID cannot be checked."""
    return media_type.endswith("+encrypted")


class Descriptor(msgspec.Struct, frozen=True, gc=False):
    """A reference to content: media type, digest and size in bytes; OCI image-spec, descriptor.md."""

    media_type: str
    digest: Digest
    size: int
    platform: Platform | None = None
    annotations: dict[str, str] = {}
    urls: tuple[str, ...] = ()
    artifact_type: str = ""
    #: Whether the descriptor embeds the content (`data`), so that a store need not hold it. False for data that does
    #: not match the digest; containerd core/content/helpers.go `useDescriptorData`.
    embedded: bool = False
    #: `platform` as written, where it is not written as Go names it, such as `linux/x86_64`; else empty.
    written_platform: str = ""

    @property
    def attestation(self) -> bool:
        """Whether this is a BuildKit attestation, not an image."""
        return ATTESTATION_ANNOTATION in self.annotations or (self.platform is not None and self.platform.unknown)


class MalformedChild(msgspec.Struct, frozen=True):
    """A descriptor in an index whose digest or size is malformed; `position` is among the well-formed ones."""

    position: int
    detail: str
    platform: Platform | None = None


class Index(msgspec.Struct, frozen=True):
    """An OCI index or a Docker manifest list. containerd runs one with malformed children if it takes another child."""

    manifests: tuple[Descriptor, ...]
    malformed: tuple[MalformedChild, ...] = ()
    media_type: str = ""
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}

    @property
    def listed(self) -> Sequence[Descriptor | MalformedChild]:
        """All children in their order."""
        found: list[Descriptor | MalformedChild] = list(self.manifests)
        for child in reversed(self.malformed):
            found.insert(child.position, child)
        return found


class Manifest(msgspec.Struct, frozen=True):
    """An OCI or Docker schema 2 image manifest."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = ""
    artifact_type: str = ""
    subject: Descriptor | None = None
    annotations: dict[str, str] = {}

    @property
    def names_image(self) -> bool:
        """Whether the config has the type of an image config; artifacts have another."""
        return self.config.media_type in CONFIG_TYPES


class ImageConfig(msgspec.Struct, frozen=True):
    """The used fields of an image's config: platform and diffIDs; OCI image-spec, config.md."""

    platform: Platform
    diff_ids: tuple[Digest, ...]


Document = Index | Manifest | ImageConfig


def parse(raw: bytes, media_type: str, *, malformed_children: bool = False) -> Document:
    """Parse a document by its descriptor's media type, within the limits above.

    Args:
        raw: The document.
        media_type: The media type in the descriptor: of an index, a manifest or a config.
        malformed_children: Whether an index may have children with a malformed digest or size.

    Raises:
        DocumentTooLarge: It is larger than the documents that are read.
        MalformedDocument: The text is not JSON or has the wrong structure, a negative size, a malformed digest, or
            exceeds a limit; it is schema 1; it is a manifest under an index's type or the reverse (containerd
            core/images/image.go `validateMediaType`).

    """
    if media_type in INDEX_TYPES:
        index = _index(raw)
        return index if malformed_children else _well_formed(index)
    if media_type in MANIFEST_TYPES:
        return _manifest(raw)
    if media_type in CONFIG_TYPES:
        return _config(raw)
    if media_type in SCHEMA1_TYPES:
        raise MalformedDocument("Docker image manifest schema 1 is not supported by containerd since 2.1 nor here")
    raise MalformedDocument(f"documents of type {media_type[:100]!r} are not read")


def largest(media_type: str) -> int:
    """Return the size of the largest document of a type that is read, in bytes."""
    return MAX_CONFIG if media_type in CONFIG_TYPES else MAX_DOCUMENT


def _sized(raw: bytes, what: str, limit: int = MAX_DOCUMENT) -> bytes:
    if len(raw) > limit:
        raise DocumentTooLarge(f"the {what} has {len(raw)} bytes; more than {limit} are not read")
    return raw


def _index(raw: bytes) -> Index:
    return _ordinary_index(_sized(raw, "index")) or _index_as_go_reads(raw)


def _ordinary_index(raw: bytes) -> Index | None:
    """Return an ordinary index; None where it is not, or where something in it is to be complained of."""
    wire = read_index(raw)
    if wire is None or wire.media_type in MANIFEST_TYPES or len(wire.manifests) > MAX_CHILDREN:
        return None
    try:
        manifests = tuple([_ordinary_descriptor(child) for child in wire.manifests])
    except InvalidDigest:
        return None
    return Index(manifests, media_type=wire.media_type, annotations=wire.annotations or {})


def _ordinary_descriptor(wire: OrdinaryDescriptor) -> Descriptor:
    digest = Digest.parse(wire.digest)
    if wire.platform is None and not wire.annotations:
        return Descriptor(wire.media_type, digest, wire.size)
    platform, written = (None, "") if wire.platform is None else _short(*msgspec.structs.astuple(wire.platform))
    return Descriptor(wire.media_type, digest, wire.size, platform, wire.annotations or {}, written_platform=written)


def _index_as_go_reads(raw: bytes) -> Index:
    wire = decode(raw, IndexFields, "index")
    if _given(wire.fs_layers):
        raise MalformedDocument("the index is a Docker schema 1 manifest, which is not supported")
    if _given(wire.config) or _given(wire.layers) or wire.media_type in MANIFEST_TYPES:
        raise MalformedDocument("expected an index but found a manifest")
    listed = _bounded(wire.manifests or (), MAX_CHILDREN, "manifests")
    children, malformed = _children([each or LooseDescriptorFields() for each in listed])
    return Index(
        manifests=tuple(children),
        malformed=tuple(malformed),
        media_type=wire.media_type or "",
        subject=_subject(wire.subject),
        annotations=_annotations(wire.annotations),
    )


def _children(listed: Sequence[LooseDescriptorFields]) -> tuple[list[Descriptor], list[MalformedChild]]:
    children: list[Descriptor] = []
    malformed: list[MalformedChild] = []
    for number, wire in enumerate(listed, start=1):
        try:
            children.append(_child(wire))
        except InvalidDigest as error:
            detail = f"descriptor {number} of the index: {error.message}"
            platform = _platform(wire.platform)[0] if wire.platform is not None else None
            malformed.append(MalformedChild(len(children), detail, platform))
    return children, malformed


def _child(wire: LooseDescriptorFields) -> Descriptor:
    """Return a child of an index; a size that is absent is zero, as in Go.

    Raises:
        InvalidDigest: Its digest is malformed, or its size negative.

    """
    digest, size = Digest.parse(wire.digest or ""), wire.size or 0
    if size < 0:
        raise InvalidDigest(f"its size is {size} bytes")
    return _descriptor(wire, digest, size)


def _well_formed(index: Index) -> Index:
    if index.malformed:
        raise MalformedDocument(index.malformed[0].detail)
    return index


def _given(raw: msgspec.Raw) -> bool:
    """Whether a field is present, even as `null` or `[]`; containerd core/images/image.go `validateMediaType`."""
    return raw is not NOTHING


def _annotations(wire: dict[str, str | None] | None) -> dict[str, str]:
    return {name: value or "" for name, value in wire.items()} if wire else {}


def _manifest(raw: bytes) -> Manifest:
    return _ordinary_manifest(_sized(raw, "manifest")) or _manifest_as_go_reads(raw)


def _ordinary_manifest(raw: bytes) -> Manifest | None:
    """Return an ordinary manifest; None where it is not, or where something in it is to be complained of."""
    wire = read_manifest(raw)
    if wire is None or wire.media_type in INDEX_TYPES or len(wire.layers) > MAX_LAYERS:
        return None
    try:
        config = _ordinary_descriptor(wire.config)
        layers = tuple([_ordinary_descriptor(layer) for layer in wire.layers])
    except InvalidDigest:
        return None
    return Manifest(config, layers, media_type=wire.media_type, annotations=wire.annotations or {})


def _manifest_as_go_reads(raw: bytes) -> Manifest:
    wire = decode(raw, ManifestFields, "manifest")
    if _given(wire.fs_layers):
        raise MalformedDocument("the manifest is of Docker schema 1, which is not supported")
    if _given(wire.manifests) or wire.media_type in INDEX_TYPES:
        raise MalformedDocument("expected a manifest but found an index")
    if wire.config is None:
        raise MalformedDocument("the manifest names no config")
    layers = _bounded(wire.layers or (), MAX_LAYERS, "layers")
    return Manifest(
        config=_descriptor(wire.config, wire.config.digest, wire.config.size),
        layers=tuple([_descriptor(layer, layer.digest, layer.size) for layer in layers]),
        media_type=wire.media_type or "",
        artifact_type=wire.artifact_type or "",
        subject=_subject(wire.subject),
        annotations=_annotations(wire.annotations),
    )


def _config(raw: bytes) -> ImageConfig:
    wire = decode_config(_sized(raw, "config", MAX_CONFIG))
    rootfs = wire.rootfs
    return ImageConfig(
        platform=_platform(wire)[0],
        diff_ids=tuple(_bounded((rootfs and rootfs.diff_ids) or (), MAX_LAYERS, "diff_ids")),
    )


_Item = TypeVar("_Item")


def _bounded(items: Sequence[_Item], limit: int, what: str) -> Sequence[_Item]:
    if len(items) > limit:
        raise MalformedDocument(f"it names {len(items)} {what}; more than {limit} are not walked")
    return items


def _descriptor(wire: DescriptorFields | LooseDescriptorFields, digest: Digest, size: int) -> Descriptor:
    platform, written = (None, "") if wire.platform is None else _platform(wire.platform)
    return Descriptor(
        media_type=wire.media_type or "",
        digest=digest,
        size=size,
        platform=platform,
        annotations=_annotations(wire.annotations) if wire.annotations else {},
        urls=tuple(wire.urls) if wire.urls else (),
        artifact_type=wire.artifact_type or "",
        embedded=wire.data is not None and len(wire.data) == size and digest.is_of(wire.data),
        written_platform=written,
    )


def _subject(wire: LooseDescriptorFields | None) -> Descriptor | None:
    """Return a subject; None where its descriptor leads to nothing, which containerd does not mind."""
    if wire is None or not wire.digest:
        return None
    try:
        digest = Digest.parse(wire.digest)
    except InvalidDigest:
        return None
    return Descriptor(wire.media_type or "", digest, max(0, wire.size or 0))


def _platform(wire: PlatformFields) -> tuple[Platform, str]:
    """Return a platform's normalised form, and how it is written; empty where that is its usual name."""
    os, architecture, variant = wire.os or "", wire.architecture or "", wire.variant or ""
    if wire.os_version or wire.os_features:
        features = tuple(feature or "" for feature in wire.os_features or ())
        return _named(Platform(os, architecture, variant, wire.os_version or "", features))
    return _short(os, architecture, variant)


@lru_cache(maxsize=128)
def _short(os: str, architecture: str, variant: str) -> tuple[Platform, str]:
    """Return what `_platform` does, for platforms without the version and the features that few have; cached."""
    return _named(Platform(os, architecture, variant))


def _named(platform: Platform) -> tuple[Platform, str]:
    return normalise(platform), "" if is_usual(platform) else str(platform)


def chain_ids(diff_ids: Sequence[Digest]) -> tuple[Digest, ...]:
    """Return the chainID of each layer, lowest first; OCI image-spec, config.md, "Layer ChainID"."""
    return tuple(accumulate(diff_ids, _chained))


@lru_cache(maxsize=1 << 14)
def _chained(below: Digest, diff_id: Digest) -> Digest:
    """Return the chainID of a layer on another; cached, since images share their lower layers."""
    both = f"{below} {diff_id}".encode("ascii")
    return Digest(f"sha256:{hashlib.sha256(both, usedforsecurity=False).hexdigest()}")
