"""The records of an export plan: blobs and images of the archive, what is left out and why, what is missing."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType

import msgspec

from auditor.model.digest import Digest
from auditor.model.oci import Descriptor


class Role(enum.StrEnum):
    """The role of a blob in its image; `name` for an image name."""

    INDEX = "index"
    MANIFEST = "manifest"
    CONFIG = "config"
    LAYER = "layer"
    CONTENT = "content"
    NAME = "name"


class PlannedBlob(msgspec.Struct, frozen=True, order=True):
    """A blob of the archive.

    `diff_id` is set for a layer that can be verified. `recorded`: containerd recorded the same diffID when it unpacked
    these bytes (label `containerd.io/uncompressed`).
    """

    digest: Digest
    size: int
    role: Role
    diff_id: Digest | None = None
    recorded: bool = False


class PlannedPlatform(msgspec.Struct, frozen=True):
    """One platform of an image.

    `manifest` is the manifest in the archive, `original` the one that a salvage rewrote it from, `replaced` the indexes
    of the layers that it replaced. `loadable`: a container image with all of its layers, listed in docker's
    manifest.json. `attestation`: SBOM or provenance of another manifest.
    """

    platform: str
    manifest: Digest
    config: Digest
    layers: tuple[Digest, ...]
    loadable: bool
    original: Digest | None = None
    replaced: tuple[int, ...] = ()
    attestation: bool = False


class PlannedImage(msgspec.Struct, frozen=True):
    """An image of the archive; docker loads the first platform.

    `names` are those in the archive, `name` is the best one in the store. `absent` are the manifests and other content
    that its indexes list and the archive does not hold. `subject` is what a referrer refers to.
    """

    names: tuple[str, ...]
    target: Descriptor
    platforms: tuple[PlannedPlatform, ...]
    name: str
    absent: tuple[Digest, ...] = ()
    subject: str = ""

    @property
    def indexed(self) -> bool:
        """Whether its root is an index."""
        return self.target.digest not in {one.manifest for one in self.platforms}


class LeftOut(msgspec.Struct, frozen=True, order=True):
    """A part of an image that the archive leaves out on purpose, and why."""

    image: str
    role: Role
    why: str
    digest: str = ""
    platform: str = ""


class Missing(msgspec.Struct, frozen=True, order=True):
    """A part of an image without which the archive would be incomplete; `layer` counts from 0."""

    image: str
    platform: str
    role: Role
    digest: str
    why: str
    manifest: str = ""
    layer: int | None = None

    @property
    def sentence(self) -> str:
        """Image, platform, layer and reason as a sentence."""
        what = f"the {self.role}" if self.layer is None else f"layer {self.layer + 1}"
        where = f" for {self.platform}" if self.platform else ""
        return f"{self.image}{where}: {what} {self.digest} {self.why}"


class ExportPlan(msgspec.Struct, frozen=True):
    """The content of an archive before it is written; a plan with anything in `missing` is refused.

    `blobs` are sorted by digest. `documents` has the bytes of the documents that a salvage rewrote; no store has them.
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
        """Return the name in the store of the first image that a blob belongs to; empty where there is none."""
        for image in self.images:
            held = [d for one in image.platforms for d in (one.manifest, one.config, *one.layers)]
            if blob.digest in (image.target.digest, *held):
                return image.name
        return ""

    def uses(self, blob: PlannedBlob) -> str:
        """Return the image, platform and role of a blob as the beginning of a sentence."""
        for image in self.images:
            name = image.name
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
        """The layers whose diffID containerd has not recorded."""
        return frozenset(blob.digest for blob in self.blobs if blob.diff_id is not None and not blob.recorded)

    @property
    def salvaged(self) -> tuple[PlannedPlatform, ...]:
        """The platforms whose manifest was rewritten."""
        return tuple(p for image in self.images for p in image.platforms if p.original is not None)
