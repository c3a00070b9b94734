"""The nouns of an export: what an archive is to hold, what it leaves out and why, what it would lack."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from auditor.model.digest import Digest
from auditor.model.oci import Descriptor


class Role(enum.StrEnum):
    """As what an image uses a blob; or one of its names."""

    INDEX = "index"
    MANIFEST = "manifest"
    CONFIG = "config"
    LAYER = "layer"
    CONTENT = "content"
    NAME = "name"


class PlannedBlob(msgspec.Struct, frozen=True, order=True):
    """A blob of the archive; `diff_id` is what a layer that can be checked must decompress to.

    `recorded` says that containerd noted the same when it decompressed these bytes, to unpack them.
    """

    digest: Digest
    size: int
    role: Role
    diff_id: Digest | None = None
    recorded: bool = False


class PlannedPlatform(msgspec.Struct, frozen=True):
    """One platform of an image: its manifest as it goes into the archive, and `original` where it was rewritten.

    `loadable` says that it is a container image with all its layers, which belongs into docker's manifest.json.
    """

    platform: str
    manifest: Digest
    config: Digest
    layers: tuple[Digest, ...]
    loadable: bool
    original: Digest | None = None
    replaced: tuple[int, ...] = ()


class PlannedImage(msgspec.Struct, frozen=True):
    """An image of the archive with its names; the first platform is the one that docker loads."""

    names: tuple[str, ...]
    target: Descriptor
    platforms: tuple[PlannedPlatform, ...]


class LeftOut(msgspec.Struct, frozen=True, order=True):
    """Something that an image names and the archive does not hold, and why that is right."""

    image: str
    role: Role
    why: str
    digest: str = ""
    platform: str = ""


class Missing(msgspec.Struct, frozen=True, order=True):
    """Something without which the archive would not be whole; `layer` counts from 0."""

    image: str
    platform: str
    role: Role
    digest: str
    why: str
    manifest: str = ""
    layer: int | None = None

    @property
    def sentence(self) -> str:
        """What is missing, for people: image, platform and layer."""
        what = f"the {self.role}" if self.layer is None else f"layer {self.layer + 1}"
        where = f" for {self.platform}" if self.platform else ""
        return f"{self.image}{where}: {what} {self.digest} {self.why}"


class ExportPlan(msgspec.Struct, frozen=True):
    """An archive before it is written; with anything in `missing` it is not.

    `blobs` are sorted by digest; `documents` has the bytes of those that are in no store, rewritten by a salvage.
    """

    images: tuple[PlannedImage, ...]
    blobs: tuple[PlannedBlob, ...]
    documents: Mapping[Digest, bytes] = MappingProxyType({})
    left_out: tuple[LeftOut, ...] = ()
    missing: tuple[Missing, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(blob.size for blob in self.blobs)

    def user(self, blob: PlannedBlob) -> str:
        """The first image that a blob belongs to; empty where nobody knows."""
        for image in self.images:
            held = [d for one in image.platforms for d in (one.manifest, one.config, *one.layers)]
            if blob.digest in (image.target.digest, *held) and image.names:
                return image.names[0]
        return ""

    def uses(self, blob: PlannedBlob) -> str:
        """Whose blob it is, as the beginning of a sentence: image, platform, layer."""
        for image in self.images:
            name = image.names[0] if image.names else image.target.digest.short
            for one in image.platforms:
                where = f"{name} for {one.platform}: " if one.platform else f"{name}: "
                if blob.digest in one.layers:
                    return f"{where}layer {one.layers.index(blob.digest) + 1} "
                if blob.digest in (one.manifest, one.config):
                    return f"{where}the {blob.role} "
            if blob.digest == image.target.digest:
                return f"{name}: the {blob.role} "
        return f"the {blob.role} "

    @property
    def unproven(self) -> frozenset[Digest]:
        """The layers of which nobody has recorded what they decompress to."""
        return frozenset(blob.digest for blob in self.blobs if blob.diff_id is not None and not blob.recorded)

    @property
    def salvaged(self) -> tuple[PlannedPlatform, ...]:
        """The platforms whose manifest was rewritten."""
        return tuple(p for image in self.images for p in image.platforms if p.original is not None)
