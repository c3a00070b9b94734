"""The names of images that the disk itself still has: in meta.db, on its unused pages, in archives' indexes."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from auditor.bbolt import database_file
from auditor.errors import AuditorError
from auditor.offline.find_root import METADATA
from auditor.offline.leaf_search import leaf_images
from auditor.offline.store import OfflineStore
from auditor.recover.blob_documents import BlobDocuments
from auditor.recover.name_sources import NameHint, of_image


def records(disk: OfflineStore) -> Iterator[NameHint]:
    """Yield the names that can be read by the tree of meta.db."""
    for namespace in disk.namespaces():
        yield from (of_image(image, "meta.db") for image in disk.inventory(namespace).images)


def others(disk: OfflineStore, found: BlobDocuments) -> Iterator[NameHint]:
    """Yield the names in archives' indexes among the blobs; where image records are lost, those on unused pages."""
    for name, digest in found.names():
        yield NameHint(name=name, digest=digest, source="an archive's index among the blobs")
    if disk.names_lost:
        yield from _on_pages(disk, found)


def _on_pages(disk: OfflineStore, found: BlobDocuments) -> Iterator[NameHint]:
    """Yield the image records on pages, less those that the tree has and those whose content is gone."""
    try:
        copied = database_file.copy(disk.root / METADATA / "meta.db")
    except (FileNotFoundError, AuditorError):
        return
    known = {(hint.name, hint.digest) for hint in records(disk)}
    namespaces = [name for name, kinds in disk.lost_kinds.items() if "images" in kinds]
    namespace = namespaces[0] if len(namespaces) == 1 else ""
    for each in leaf_images(copied.data):
        image = msgspec.structs.replace(each.image, namespace=namespace)
        if (image.name, image.target.digest) not in known and image.target.digest in found.documents:
            yield of_image(image, f"page {each.page} of meta.db", possible=True)
