"""Read the blobs of a layout from a shared folder, as skopeo's --shared-blob-dir keeps them: `sha256/<hex>`.

The folder may hold blobs of many layouts: only those that the layout's images lead to are read.
"""

from __future__ import annotations

from pathlib import Path

from auditor.archive import layout_folder
from auditor.archive.catalog import INDEX_JSON
from auditor.archive.members import Collector
from auditor.archive.seen import Seen
from auditor.archive.tar_reader import Header, Kind
from auditor.errors import MalformedDocument
from auditor.model import image_graph, oci
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor


def take_shared(members: Collector, folder: Path) -> None:
    """Take in the blobs that the index.json of an archive leads to, and that only the shared folder has.

    Args:
        members: the members of the archive; blobs are added as if they were members.
        folder: the shared folder.

    Raises:
        OSError: the state of a file cannot be read.

    """
    index = members.files.get(INDEX_JSON)
    todo = list(_children(index, oci.OCI_INDEX)) if index is not None else []
    done: set[Digest] = set()
    while todo:
        child = todo.pop()
        if child.digest in done:
            continue
        done.add(child.digest)
        name = f"blobs/{child.digest.algorithm}/{child.digest.hex}"
        path = folder / child.digest.algorithm / child.digest.hex
        if not members.has(name) and path.is_file():
            size = path.stat().st_size
            members.take(Header(name=name, kind=Kind.FILE, size=size, offset=0), layout_folder.read(path), path=path)
        seen = members.files.get(name)
        if seen is not None:
            todo += _children(seen, child.media_type)


def _children(seen: Seen, media_type: str) -> tuple[Descriptor, ...]:
    if seen.kept is None or image_graph.family(media_type) is None:
        return ()
    try:
        return tuple(image_graph.children(oci.parse(seen.kept, media_type)))
    except MalformedDocument:
        return ()
