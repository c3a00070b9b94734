"""Images built from nothing, the same bytes each time: layers, manifests, indexes, artifacts, attestations."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from backports import zstd

Compression: TypeAlias = Literal["gzip", "zstd", "none"]
Flavour: TypeAlias = Literal["oci", "docker"]

OCI: Final = "application/vnd.oci.image."
DOCKER: Final = "application/vnd.docker."
EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
EMPTY: Final = b"{}"

LAYER_TYPES: Final[Mapping[tuple[str, str], str]] = {
    ("oci", "none"): f"{OCI}layer.v1.tar",
    ("oci", "gzip"): f"{OCI}layer.v1.tar+gzip",
    ("oci", "zstd"): f"{OCI}layer.v1.tar+zstd",
    ("docker", "none"): f"{DOCKER}image.rootfs.diff.tar",
    ("docker", "gzip"): f"{DOCKER}image.rootfs.diff.tar.gzip",
    ("docker", "zstd"): f"{DOCKER}image.rootfs.diff.tar.zstd",
}
MANIFEST_TYPES: Final = {"oci": f"{OCI}manifest.v1+json", "docker": f"{DOCKER}distribution.manifest.v2+json"}
CONFIG_TYPES: Final = {"oci": f"{OCI}config.v1+json", "docker": f"{DOCKER}container.image.v1+json"}
INDEX_TYPES: Final = {"oci": f"{OCI}index.v1+json", "docker": f"{DOCKER}distribution.manifest.list.v2+json"}


@dataclass(frozen=True)
class Descriptor:
    """A reference from one document to another, as JSON has it."""

    media_type: str
    digest: str
    size: int
    platform: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    def json(self) -> dict[str, object]:
        body: dict[str, object] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        if self.platform:
            body["platform"] = platform_json(self.platform)
        if self.annotations:
            body["annotations"] = dict(self.annotations)
        return body


@dataclass(frozen=True)
class BuiltLayer:
    """A layer: the bytes to push, and the digest of the tar inside them."""

    diff_id: str
    digest: str
    size: int
    media_type: str
    blob: bytes = field(repr=False)
    compression: Compression = "gzip"
    annotations: Mapping[str, str] = field(default_factory=dict)

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, self.size, annotations=self.annotations)


@dataclass(frozen=True)
class Built:
    """Anything that can be pushed: `documents` are the manifests in it, children first, `target` last."""

    target: Descriptor
    documents: tuple[Descriptor, ...]
    blobs: Mapping[str, bytes] = field(repr=False)

    @property
    def digest(self) -> str:
        return self.target.digest

    @property
    def manifest(self) -> bytes:
        """The document that the target names."""
        return self.blobs[self.target.digest]


@dataclass(frozen=True)
class BuiltImage(Built):
    """An image of one platform, or an artifact."""

    layers: tuple[BuiltLayer, ...]
    config_digest: str

    @property
    def config(self) -> bytes:
        return self.blobs[self.config_digest]

    @property
    def chain_ids(self) -> tuple[str, ...]:
        """The names of the snapshots that the layers unpack to, bottom first."""
        return chain_ids([layer.diff_id for layer in self.layers])


@dataclass(frozen=True)
class BuiltIndex(Built):
    """An index over images or other indexes."""

    children: tuple[Built, ...]


def sha256(data: bytes) -> str:
    """Return the digest of some bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """Fold diffIDs into chainIDs by the rule of the OCI image specification (config.md, "Layer ChainID")."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(sha256(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return tuple(chain)


def noise(seed: str, size: int) -> bytes:
    """Return bytes that do not compress, the same ones for a seed."""
    return random.Random(seed).randbytes(size)


def files(seed: str, *, kilobytes: int = 64) -> dict[str, bytes]:
    """Return a plausible mix: a program that hardly compresses, a text that does, an empty file, small ones."""
    quarter = max(kilobytes, 4) * 256
    text = "".join(f"{seed} {number} the quick brown fox\n" for number in range(quarter * 2 // 30))
    return {
        "etc/": b"",
        f"etc/{seed}.conf": f"name = {seed}\n".encode(),
        "usr/": b"",
        "usr/bin/": b"",
        f"usr/bin/{seed}": noise(seed, quarter * 2),
        "usr/share/": b"",
        f"usr/share/{seed}.txt": text.encode(),
        f"usr/share/{seed}.empty": b"",
    }


def tar(contents: Mapping[str, bytes]) -> bytes:
    """Return a tar archive; a name that ends in a slash is a folder."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in contents.items():
            entry = tarfile.TarInfo(name.rstrip("/"))
            if name.endswith("/"):
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            else:
                entry.size, entry.mode = len(data), 0o755 if "/bin/" in name else 0o644
            archive.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def compress(data: bytes, compression: Compression, level: int) -> bytes:
    """Compress without a time or a name in the header."""
    if compression == "gzip":
        return gzip.compress(data, compresslevel=level, mtime=0)
    return zstd.compress(data, level) if compression == "zstd" else data


def layer(
    contents: Mapping[str, bytes],
    *,
    compression: Compression = "gzip",
    level: int = 6,
    flavour: Flavour = "oci",
) -> BuiltLayer:
    """Build a layer from names and bytes."""
    inner = tar(contents)
    return raw_layer(compress(inner, compression, level), sha256(inner), compression=compression, flavour=flavour)


def raw_layer(
    blob: bytes,
    diff_id: str,
    *,
    compression: Compression = "gzip",
    flavour: Flavour = "oci",
    media_type: str = "",
) -> BuiltLayer:
    """Wrap any bytes as a layer that claims `diff_id`: broken ones, truncated ones, wrong ones."""
    kind = media_type or LAYER_TYPES[flavour, compression]
    return BuiltLayer(diff_id, sha256(blob), len(blob), kind, blob, compression)


def image(
    layers: Sequence[BuiltLayer],
    *,
    platform: str = "linux/amd64",
    flavour: Flavour = "oci",
    diff_ids: Sequence[str] | None = None,
    annotations: Mapping[str, str] | None = None,
    config_extra: Mapping[str, object] | None = None,
) -> BuiltImage:
    """Build an image; `diff_ids` replaces what the config says of the layers, to build a wrong one."""
    config = dump(
        {
            **platform_json(platform),
            "config": {"Cmd": ["/bin/true"], "Env": ["PATH=/usr/bin:/bin"]},
            "rootfs": {"type": "layers", "diff_ids": list(diff_ids or [one.diff_id for one in layers])},
            **(config_extra or {}),
        }
    )
    return assemble(config, CONFIG_TYPES[flavour], layers, platform=platform, flavour=flavour, annotations=annotations)


def artifact(
    layers: Sequence[BuiltLayer],
    *,
    artifact_type: str = "application/vnd.example.thing",
    subject: Descriptor | None = None,
) -> BuiltImage:
    """Build an artifact: no image config, layers that are not layers; with a subject it is a referrer."""
    refers = {} if subject is None else {"subject": subject.json()}
    return assemble(EMPTY, EMPTY_TYPE, layers, extra={"artifactType": artifact_type, **refers})


def blob_layer(data: bytes, *, media_type: str = "application/vnd.example.data") -> BuiltLayer:
    """Wrap bytes that are no tar at all, for an artifact."""
    return raw_layer(data, sha256(data), compression="none", media_type=media_type)


def attestation(subject: BuiltImage) -> BuiltImage:
    """Build what a build tool puts beside an image: a statement under platform unknown/unknown."""
    statement = dump({"_type": "https://in-toto.io/Statement/v0.1", "subject": [{"digest": subject.digest}]})
    verification = blob_layer(statement, media_type="application/vnd.in-toto+json")
    built = image([verification], platform="unknown/unknown")
    notes = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": subject.digest}
    return replace(built, target=replace(built.target, annotations=notes))


def index(
    children: Sequence[Built],
    *,
    attestations: bool = False,
    flavour: Flavour = "oci",
    annotations: Mapping[str, str] | None = None,
) -> BuiltIndex:
    """Build an index over images or indexes, with an attestation for each image if asked."""
    verifications = [attestation(one) for one in children if isinstance(one, BuiltImage)] if attestations else []
    parts = (*children, *verifications)
    body: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": INDEX_TYPES[flavour],
        "manifests": [part.target.json() for part in parts],
    }
    if annotations:
        body["annotations"] = dict(annotations)
    document = dump(body)
    target = Descriptor(INDEX_TYPES[flavour], sha256(document), len(document))
    blobs = {digest: blob for part in parts for digest, blob in part.blobs.items()}
    below = [document for part in parts for document in part.documents]
    return BuiltIndex(target, (*below, target), {**blobs, target.digest: document}, parts)


def assemble(
    config: bytes,
    config_type: str,
    layers: Sequence[BuiltLayer],
    *,
    platform: str = "",
    flavour: Flavour = "oci",
    annotations: Mapping[str, str] | None = None,
    extra: Mapping[str, object] | None = None,
) -> BuiltImage:
    """Build a manifest over any config and layers."""
    body: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPES[flavour],
        **(extra or {}),
        "config": Descriptor(config_type, sha256(config), len(config)).json(),
        "layers": [one.descriptor.json() for one in layers],
    }
    if annotations:
        body["annotations"] = dict(annotations)
    document = dump(body)
    target = Descriptor(MANIFEST_TYPES[flavour], sha256(document), len(document), platform)
    blobs = {one.digest: one.blob for one in layers} | {sha256(config): config, target.digest: document}
    return BuiltImage(target, (target,), blobs, tuple(layers), sha256(config))


def platform_json(platform: str) -> dict[str, str]:
    """Return "os/architecture[/variant]" as JSON has it."""
    return dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))


def dump(body: object) -> bytes:
    """Return the bytes of a document."""
    return json.dumps(body, separators=(",", ":")).encode()
