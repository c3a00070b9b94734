"""Parse docker's manifest.json, and make the manifests that an audit walks from it."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Container, Mapping
from typing import Annotated, Final

import msgspec

from auditor.archive.blob_table import BlobTable
from auditor.archive.members import cleaned
from auditor.archive.problems import ArchiveProblem, shown
from auditor.archive.seen import Seen, claimed, empty_file
from auditor.checks.archive_faults import INCOMPLETE, MALFORMED
from auditor.errors import MalformedDocument
from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.oci import DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, Descriptor, ImageConfig

MANIFEST_JSON: Final = "manifest.json"
#: Label of a manifest that is not in the archive, but was made here from manifest.json.
VIRTUAL: Final = "containerd-auditor/virtual"
_MAX_LINKS = 8
#: Name of a config as docker, containers/image and go-containerregistry write it: its digest.
_CONFIG_NAME = re.compile(r"(?:sha256:)?([0-9a-f]{64})(?:\.json)?\Z", re.ASCII)

_Path = Annotated[str, msgspec.Meta(max_length=4096)]


class Entry(msgspec.Struct, frozen=True):
    """One image of manifest.json: paths of its config and layers, lowest first, and its names."""

    config: Annotated[_Path, "Config"] = msgspec.field(name="Config", default="")
    repo_tags: tuple[_Path, ...] | None = msgspec.field(name="RepoTags", default=None)
    layers: tuple[_Path, ...] | None = msgspec.field(name="Layers", default=None)

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that the entry names."""
        return (self.config, *(self.layers or ()))


def entries(seen: Seen) -> tuple[Entry, ...]:
    """Parse manifest.json.

    Raises:
        MalformedDocument: it was not kept, has the wrong shape, or is over a limit.

    """
    raw = text(seen)
    try:
        found = msgspec.json.decode(raw, type=tuple[Entry, ...])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise MalformedDocument(f"manifest.json is not what docker writes: {error}") from None
    if any(len(entry.paths) > oci.MAX_LAYERS for entry in found) or len(found) > oci.MAX_CHILDREN:
        raise MalformedDocument("manifest.json names more images or layers than are walked")
    return found


def text(seen: Seen) -> bytes:
    """Return the bytes of one of the archive's own documents.

    Raises:
        MalformedDocument: they were not kept.

    """
    if seen.kept is None:
        raise MalformedDocument(f"{shown(seen.name)} is not JSON, or is larger than {oci.MAX_DOCUMENT} bytes")
    return seen.kept


def link_target(name: str, target: str) -> str | None:
    """Return the name that a symbolic link leads to; None where it is absolute or leads out of the archive."""
    return None if target.startswith("/") else cleaned(posixpath.join(posixpath.dirname(name), target))


class Files(msgspec.Struct, frozen=True):
    """The files of an archive by name, and the links that docker writes for repeated layers.

    `empty` are the names of further empty files, `packed` has further blobs.
    """

    files: Mapping[str, Seen]
    links: Mapping[str, str]
    empty: Container[str] = frozenset()
    packed: BlobTable = msgspec.field(default_factory=BlobTable)

    def find(self, name: str) -> Seen | None:
        """Return the file of a name, following links inside the archive; None where there is none."""
        where = cleaned(name)
        for _ in range(_MAX_LINKS):
            if where is None or where in self.files or where not in self.links:
                break
            where = link_target(where, self.links[where])
        if where is None:
            return None
        return self.files.get(where) or self.packed.get(where) or (empty_file(where) if where in self.empty else None)

    def blob(self, digest: Digest) -> Seen | None:
        """Return the blob of a digest where it was packed."""
        return self.packed.get(f"blobs/{digest.algorithm}/{digest.hex}")


class Virtual(msgspec.Struct, frozen=True):
    """A manifest made from an entry: its descriptor, its bytes, the file of each digest in it, the image names."""

    target: Descriptor
    raw: bytes
    held: Mapping[Digest, Seen]
    names: tuple[str, ...]


def virtual(entry: Entry, files: Files, report: Callable[[ArchiveProblem], None]) -> Virtual | None:
    """Make the manifest of an entry.

    The digests of the descriptors are those that the archive promises: the config's file name, and the diffIDs of
    uncompressed layers. So a file with other bytes is reported as for any blob. The descriptor of a compressed layer
    has the digest of its bytes; a wrong layer is found by its diffID.

    Args:
        entry: the entry of manifest.json.
        files: the files of the archive.
        report: called with a problem.

    Returns:
        The manifest; None and a problem where a digest cannot be known.

    """
    config = files.find(entry.config)
    digest = _config_digest(entry.config, config)
    if digest is None:
        message = f"manifest.json names the config {shown(entry.config)}, which is not in the archive"
        report(ArchiveProblem(INCOMPLETE, message, member=shown(entry.config)))
        return None
    held = {digest: config} if config is not None else {}
    layers = _layers(entry, files, _diff_ids(config), held, report)
    if layers is None:
        return None
    raw = json.dumps(_manifest(digest, config, layers), separators=(",", ":")).encode("ascii")
    target = Descriptor(media_type=DOCKER_MANIFEST, digest=Digest.of(raw), size=len(raw))
    return Virtual(target=target, raw=raw, held=held, names=tuple(entry.repo_tags or ()))


def _config_digest(name: str, seen: Seen | None) -> Digest | None:
    promise = claimed(cleaned(name) or "")
    if promise is not None:
        return promise
    match = _CONFIG_NAME.match(posixpath.basename(name))
    if match is not None:
        return Digest(f"sha256:{match[1]}")
    return seen.digest if seen is not None else None


def _diff_ids(config: Seen | None) -> tuple[Digest, ...]:
    try:
        parsed = oci.parse((config.kept if config else None) or b"", DOCKER_CONFIG)
    except MalformedDocument:
        return ()
    return parsed.diff_ids if isinstance(parsed, ImageConfig) else ()


def _layers(
    entry: Entry,
    files: Files,
    diff_ids: tuple[Digest, ...],
    held: dict[Digest, Seen],
    report: Callable[[ArchiveProblem], None],
) -> list[dict[str, object]] | None:
    found: list[dict[str, object]] = []
    for i, name in enumerate(entry.layers or ()):
        seen = files.find(name)
        digest = _layer_digest(name, seen, diff_ids[i] if i < len(diff_ids) else None)
        if digest is None:
            message = f"manifest.json names the layer {shown(name)}, which is not in the archive"
            report(ArchiveProblem(INCOMPLETE, message, member=shown(name)))
            return None
        if seen is not None:
            held.setdefault(digest, seen)
        packing = seen.packing if seen is not None else ""
        media_type = f"{DOCKER_LAYER}.{packing}" if packing in ("gzip", "zstd") else DOCKER_LAYER
        found.append({"mediaType": media_type, "size": seen.size if seen else 0, "digest": digest})
    return found


def _layer_digest(name: str, seen: Seen | None, diff_id: Digest | None) -> Digest | None:
    promise = claimed(cleaned(name) or "")
    if promise is not None:
        return promise
    if seen is None or (diff_id is not None and seen.packing not in ("gzip", "zstd")):
        return diff_id or (seen.digest if seen is not None else None)
    return seen.digest


def _manifest(digest: Digest, config: Seen | None, layers: list[dict[str, object]]) -> dict[str, object]:
    return {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {"mediaType": DOCKER_CONFIG, "size": config.size if config else 0, "digest": digest},
        "layers": layers,
    }


def malformed(error: MalformedDocument, name: str) -> ArchiveProblem:
    """Return the problem of a document of the archive that cannot be parsed."""
    return ArchiveProblem(MALFORMED, error.message, member=name)
