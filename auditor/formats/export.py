"""The summary of an export, as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from auditor.formats.json_report import to_json
from auditor.formats.sanitize import plain, size
from auditor.model.plural import plural


class PlatformRow(msgspec.Struct, frozen=True, kw_only=True):
    """One platform of an image in the archive; `original` is the manifest's digest before a salvage rewrote it.

    `attestation`: it is SBOM or provenance of another manifest.
    """

    platform: str
    manifest: str
    config: str
    layers: int
    original: str | None = None
    replaced_layers: tuple[int, ...] = ()
    attestation: bool = False


class ImageRow(msgspec.Struct, frozen=True, kw_only=True):
    """An image in the archive, with its names; `absent` are manifests of its index that the archive does not hold.

    `subject` is the digest that a referrer refers to.
    """

    names: tuple[str, ...]
    target: str
    platforms: tuple[PlatformRow, ...]
    absent: tuple[str, ...] = ()
    subject: str = ""


class LeftOutRow(msgspec.Struct, frozen=True, kw_only=True):
    """Content that an image references and the archive does not hold by design, with the reason."""

    image: str
    role: str
    platform: str
    digest: str
    why: str


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """An archive that was written and read back: sizes in bytes.

    `digest` is that of the file; None for a folder and with --no-digest. `images` has the digests of the content.
    """

    schema: str = "containerd-auditor/export/v1"
    path: str
    bytes: int
    digest: str | None
    compression: str
    namespace: str
    blobs: int
    blob_bytes: int
    images: tuple[ImageRow, ...]
    left_out: tuple[LeftOutRow, ...] = ()
    salvaged: bool = False
    #: Number of layers whose diffID was computed here, and of those whose diffID containerd had recorded.
    layers_decompressed: int = 0
    layers_recorded: int = 0
    duration_seconds: float


def as_json(exported: Exported) -> str:
    """The summary as JSON."""
    return to_json(exported)


def as_text(exported: Exported) -> str:
    """The summary as lines."""
    return "\n".join(_lines(exported)) + "\n"


def _lines(exported: Exported) -> Iterator[str]:
    for image in exported.images:
        yield plain(image.names[0] if image.names else image.target, width=200)
        for name in image.names[1:]:
            yield f"  also    {plain(name, width=200)}"
        if image.subject:
            yield f"  refers to     {plain(image.subject)}"
        if image.target not in {row.manifest for row in image.platforms}:
            yield f"  {'index':<13} {image.target}"
        for row in image.platforms:
            label = (
                "attestation" if row.attestation else plain(row.platform) or ("manifest" if image.subject else "image")
            )
            yield f"  {label:<13} {row.manifest}  {plural(row.layers, 'layer')}"
            if row.original is not None:
                yield from _salvaged(row)
        if image.absent:
            yield from _partial(image)
    shown = [row for row in exported.left_out if row.role != "content"]
    yield from (f"left out: {plain(_left_out(row), width=300)}" for row in shown)
    others = len(exported.left_out) - len(shown)
    if others:
        yield f"left out: {plural(others, 'document')} that the image does not need to run, such as attestations"
    digest = f", {exported.digest}" if exported.digest else ""
    yield f"{plain(exported.path)}: {size(exported.bytes)}{digest}"
    proven = f"{plural(exported.blobs, 'blob')}, {size(exported.blob_bytes)}"
    how = "hashed while writing" if exported.path == "-" else "read back and hashed"
    yield f"verified: {proven}, every byte {how} ({exported.duration_seconds:.1f} s)"
    if exported.layers_decompressed or exported.layers_recorded:
        yield f"diffIDs: {', '.join(_diff_ids(exported))}"


def _diff_ids(exported: Exported) -> Iterator[str]:
    if exported.layers_decompressed:
        yield f"{plural(exported.layers_decompressed, 'layer')} decompressed here"
    if exported.layers_recorded:
        yield f"{plural(exported.layers_recorded, 'layer')} as containerd recorded when it unpacked the same bytes"


def _partial(image: ImageRow) -> Iterator[str]:
    count = len(image.absent)
    held = len(image.platforms)
    yield f"  partial: {held} of the {held + count} entries of the index are in the archive; importers that want all of"
    yield "  them refuse it (`ctr images import --all-platforms`, `kind load`, `skopeo copy --all`, k3s and rke2 that"
    yield "  import all platforms); export one platform with --flat for these"


def _salvaged(row: PlatformRow) -> Iterator[str]:
    layers = ", ".join(str(n + 1) for n in row.replaced_layers)
    yield f"    SALVAGED: layer {layers} is another blob with the same diffID; config and image id are the same,"
    yield f"    the manifest is not the original {row.original}"


def _left_out(row: LeftOutRow) -> str:
    if row.role == "name":
        return f"the name {row.digest} ({row.why})"
    return " ".join(part for part in (row.image, row.platform, row.role, row.digest[:19], f"({row.why})") if part)
