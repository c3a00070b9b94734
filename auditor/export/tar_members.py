"""The members of an archive in their order, and the documents that describe it; pure and deterministic."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from auditor.archive import image_names
from auditor.archive.catalog import INDEX_JSON, OCI_LAYOUT
from auditor.archive.docker_manifest import MANIFEST_JSON
from auditor.archive.image_names import IMAGE_NAME, REF_NAME
from auditor.archive.tar_reader import BLOCK
from auditor.export.model import ExportPlan, PlannedBlob, PlannedImage
from auditor.model import oci
from auditor.model.digest import Digest

#: The end-of-archive marker: two blocks of zeros; POSIX pax, "ustar Interchange Format".
END: Final = bytes(2 * BLOCK)
_FOLDER_MODE: Final = 0o755
_BLOB_MODE: Final = 0o444
_DOCUMENT_MODE: Final = 0o644


class Part(msgspec.Struct, frozen=True):
    """A member to write: a folder, a document (`raw`), or a blob of the store."""

    name: str
    mode: int
    raw: bytes | None = None
    blob: PlannedBlob | None = None

    @property
    def size(self) -> int:
        """Bytes of data."""
        if self.blob is not None:
            return self.blob.size
        return len(self.raw or b"")

    @property
    def header(self) -> bytes:
        """The tar header: owner, group and time 0, as ctr writes them; sizes from 8 GiB on need a PAX header."""
        info = tarfile.TarInfo(self.name)
        info.size, info.mode = self.size, self.mode
        info.type = tarfile.DIRTYPE if self.name.endswith("/") else tarfile.REGTYPE
        return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")

    @property
    def padding(self) -> bytes:
        """The zeros that follow the data."""
        return bytes(-self.size % BLOCK)


def parts(plan: ExportPlan) -> Iterator[Part]:
    """Yield all members, sorted by name; containerd core/images/archive/exporter.go `writeTar`."""
    yield Part("blobs/", _FOLDER_MODE)
    last = ""
    for blob in plan.blobs:
        if blob.digest.algorithm != last:
            last = blob.digest.algorithm
            yield Part(f"blobs/{last}/", _FOLDER_MODE)
        yield Part(_path(blob.digest), _BLOB_MODE, raw=plan.documents.get(blob.digest), blob=blob)
    yield Part(INDEX_JSON, _DOCUMENT_MODE, raw=index_json(plan))
    table = manifest_json(plan)
    if table is not None:
        yield Part(MANIFEST_JSON, _DOCUMENT_MODE, raw=table)
    yield Part(OCI_LAYOUT, _BLOB_MODE, raw=_dump({"imageLayoutVersion": "1.0.0"}))


def size(plan: ExportPlan) -> int:
    """Return the size of the archive in bytes, before compression."""
    return sum(len(part.header) + part.size + len(part.padding) for part in parts(plan)) + len(END)


def index_json(plan: ExportPlan) -> bytes:
    """Return the index.json of the archive: one descriptor per name.

    Names are annotated as containerd does (core/images/archive/exporter.go). Annotations, platforms and
    `distribution.source` labels of the store's records are left out: they depend on how the node got the image, and
    would make two exports of one image differ.
    """
    listed = [child for image in plan.images for child in _descriptors(image)]
    listed.sort(key=lambda child: (child.get("annotations", {}).get(IMAGE_NAME, ""), child["digest"]))
    return _dump({"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": listed})


def _descriptors(image: PlannedImage) -> Iterator[dict[str, Any]]:
    target = image.target
    bare = {"mediaType": target.media_type, "digest": str(target.digest), "size": target.size}
    if not image.names:
        yield bare
    for name in image.names:
        yield {**bare, "annotations": {IMAGE_NAME: name, REF_NAME: image_names.ref_name(name)}}


def manifest_json(plan: ExportPlan) -> bytes | None:
    """Return docker's manifest.json, one entry per manifest; None where docker could load none of the images."""
    entries: dict[Digest, dict[str, Any]] = {}
    for image in plan.images:
        first = next((platform for platform in image.platforms if platform.loadable), None)
        if first is None:
            continue
        body = {"Config": _path(first.config), "RepoTags": [], "Layers": [_path(layer) for layer in first.layers]}
        entry = entries.setdefault(first.manifest, body)
        entry["RepoTags"] = sorted({*entry["RepoTags"], *filter(None, map(image_names.familiar, image.names))})
    if not entries:
        return None
    for entry in entries.values():
        entry["RepoTags"] = entry["RepoTags"] or None
    return _dump([entries[digest] for digest in sorted(entries)])


def _path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


def _dump(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
