"""Read the `dir:` folders of skopeo and podman: a `version` file, the manifest, and blobs named by their digests.

containers/image directory/directory_transport.go; a copy of a whole index has its manifests beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from auditor.archive.docker_manifest import MANIFEST_JSON, text
from auditor.archive.members import DIR_VERSION, dir_digest
from auditor.archive.problems import ArchiveProblem
from auditor.archive.seen import Seen
from auditor.checks.archive_faults import INCOMPLETE, MALFORMED
from auditor.errors import MalformedDocument
from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor, Index

LAYOUT: Final = "dir"
_VERSION: Final = b"Directory Transport Version:"


class DirFolder(msgspec.Struct, frozen=True):
    """The blobs of a `dir:` folder by digest, and its root; no root where manifest.json cannot be used."""

    held: Mapping[Digest, Seen]
    targets: tuple[Descriptor, ...] = ()


def is_dir_folder(files: Mapping[str, Seen]) -> bool:
    """Whether the `version` file is that of a `dir:` folder."""
    seen = files.get(DIR_VERSION)
    return seen is not None and (seen.kept or b"").startswith(_VERSION)


def read(files: Mapping[str, Seen], report: Callable[[ArchiveProblem], None], *, complete: bool) -> DirFolder:
    """Return the content of a `dir:` folder.

    Args:
        files: the files by name.
        report: called with a problem.
        complete: all files were read.

    """
    held = {digest: seen for name, seen in files.items() if (digest := dir_digest(name)) is not None}
    root = files.get(MANIFEST_JSON)
    if root is None:
        if complete:
            message = "the `dir:` folder has no manifest.json: tools find no image in it"
            report(ArchiveProblem(INCOMPLETE, message, member=MANIFEST_JSON))
        return DirFolder(held)
    target = _target(root)
    if target is None:
        message = "manifest.json is neither an image manifest nor an index"
        report(ArchiveProblem(MALFORMED, message, member=MANIFEST_JSON))
        return DirFolder(held)
    return DirFolder({**held, target.digest: root}, (target,))


def _target(root: Seen) -> Descriptor | None:
    """Return the descriptor of the root, which nothing in the folder states: its digest is that of its bytes."""
    try:
        parsed = oci.parse_untyped(text(root))
    except MalformedDocument:
        return None
    if parsed is None:
        return None
    usual = oci.OCI_INDEX if isinstance(parsed, Index) else oci.OCI_MANIFEST
    return Descriptor(parsed.media_type or usual, root.digest, root.size)
