"""Find the images in a folder of blobs, without a database: by the shape of its documents."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from auditor.containerd.content_root import Absent, ContentRoot
from auditor.errors import AuditorError
from auditor.model.digest import Digest
from auditor.model.oci import (
    MAX_DEPTH,
    MAX_DOCUMENT,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    Index,
    Manifest,
    is_layer,
    parse_untyped,
)
from auditor.model.store import FileKind, FileState

#: The name of an image in the index of an archive; containerd core/images/annotations.go.
_IMAGE_NAME: Final = "io.containerd.image.name"


class BlobDocuments(msgspec.Struct, frozen=True):
    """The indexes and manifests among the blobs.

    Attributes:
        documents: By digest; each matches its digest.
        sizes: Their sizes in bytes.
        damaged: Documents that do not match their digest, or cannot be read.

    """

    documents: Mapping[Digest, Index | Manifest]
    sizes: Mapping[Digest, int]
    damaged: tuple[Digest, ...] = ()

    def descriptor(self, digest: Digest) -> Descriptor:
        """Return the descriptor of a document; a document without a type has that of its shape."""
        document = self.documents[digest]
        shape = OCI_INDEX if isinstance(document, Index) else OCI_MANIFEST
        return Descriptor(document.media_type or shape, digest, self.sizes[digest])

    def media_type(self, digest: Digest) -> str:
        """Return the media type of an index or a manifest; empty for other blobs."""
        return self.descriptor(digest).media_type if digest in self.documents else ""

    def parents(self) -> dict[Digest, list[Digest]]:
        """Return the indexes that list each document; an archive's own index is left out."""
        found: dict[Digest, list[Digest]] = {}
        for digest, document in self.documents.items():
            if isinstance(document, Index) and not _of_archive(document):
                for child in document.manifests:
                    found.setdefault(child.digest, []).append(digest)
        return found

    def by_config(self) -> dict[Digest, list[Digest]]:
        """Return the manifests of each config."""
        found: dict[Digest, list[Digest]] = {}
        for digest, document in self.documents.items():
            if isinstance(document, Manifest):
                found.setdefault(document.config.digest, []).append(digest)
        return found

    def names(self) -> Iterator[tuple[str, Digest]]:
        """Yield the names in archives' indexes among the blobs."""
        for document in self.documents.values():
            for child in document.manifests if isinstance(document, Index) else ():
                if _IMAGE_NAME in child.annotations:
                    yield child.annotations[_IMAGE_NAME], child.digest

    def roots(self) -> tuple[Digest, ...]:
        """Return the images that no index lists, sorted: indexes with an image, and manifests of images."""
        listed = self.parents().keys()
        return tuple(sorted(self._images() - listed))

    def _images(self) -> set[Digest]:
        """Return the manifests of container images, and the indexes above them."""
        found = {
            digest
            for digest, document in self.documents.items()
            if isinstance(document, Manifest)
            and document.names_image
            and all(is_layer(layer.media_type) for layer in document.layers)
        }
        for _ in range(MAX_DEPTH):
            before = len(found)
            found |= {
                digest
                for digest, document in self.documents.items()
                if isinstance(document, Index)
                and not _of_archive(document)
                and any(child.digest in found for child in document.manifests)
            }
            if len(found) == before:
                break
        return found


def _of_archive(index: Index) -> bool:
    return any(_IMAGE_NAME in child.annotations for child in index.manifests)


def scan(content: ContentRoot, states: Mapping[Digest, FileState]) -> BlobDocuments:
    """Read every blob that may be an index or a manifest.

    Args:
        content: The folder of the blobs.
        states: Its files.

    """
    documents: dict[Digest, Index | Manifest] = {}
    sizes: dict[Digest, int] = {}
    damaged = []
    for digest, state in states.items():
        if state.kind is not FileKind.REGULAR or not 0 < (state.size or 0) <= MAX_DOCUMENT:
            continue
        try:
            raw = _document(content, digest)
        except (Absent, AuditorError, OSError):
            continue
        found = parse_untyped(raw) if raw else None
        if found is None:
            continue
        if Digest.of(raw, algorithm=digest.algorithm) != digest:
            damaged.append(digest)
            continue
        documents[digest], sizes[digest] = found, len(raw)
    return BlobDocuments(documents, sizes, tuple(sorted(damaged)))


def _document(content: ContentRoot, digest: Digest) -> bytes:
    """Return the content of a blob that begins as a JSON object; nothing for others."""
    with content.opened(digest) as descriptor:
        start = os.pread(descriptor, 16, 0)
    return content.read(digest, limit=MAX_DOCUMENT) if start.lstrip().startswith(b"{") else b""
