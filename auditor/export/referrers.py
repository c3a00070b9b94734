"""Find referrers: manifests and indexes whose `subject` is content of the archive; OCI image-spec, manifest.md."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from auditor.export.model import ExportPlan, LeftOut, Role
from auditor.model import image_graph, oci
from auditor.model.digest import Digest
from auditor.model.image_graph import Group
from auditor.model.oci import Descriptor, Index, Manifest

Candidates = Mapping[Digest, Index | Manifest]


class Referrers(msgspec.Struct, frozen=True):
    """The referrers to add to an archive, each as an image without a name, and those that the store has in part."""

    groups: tuple[Group, ...] = ()
    left_out: tuple[LeftOut, ...] = ()


def referrers(
    planned: ExportPlan, candidates: Candidates, *, size: Callable[[Digest], int], has: Callable[[Digest], bool]
) -> Referrers:
    """Return the referrers of the indexes and manifests of an archive, and the referrers of these.

    Args:
        planned: the archive without referrers.
        candidates: the manifests and indexes of the namespace.
        size: returns the size of a candidate in bytes.
        has: whether the namespace has a blob.

    """
    inside = {blob.digest for blob in planned.blobs if blob.role in (Role.INDEX, Role.MANIFEST)}
    found: dict[Digest, Index | Manifest] = {}
    while new := {d: x for d, x in candidates.items() if d not in inside and _subject(x) in inside}:
        found.update(new)
        inside.update(new, *({child.digest for child in image_graph.children(x)} for x in new.values()))
    whole = {digest: x for digest, x in found.items() if _whole(x, has)}
    why = "a referrer of which the store has a part only"
    return Referrers(
        groups=tuple(_group(digest, whole[digest], size(digest)) for digest in sorted(whole)),
        left_out=tuple(LeftOut(_subject(found[d]), Role.CONTENT, why, digest=d) for d in sorted(found.keys() - whole)),
    )


def _subject(document: Index | Manifest) -> str:
    return "" if document.subject is None else document.subject.digest


def _whole(document: Index | Manifest, has: Callable[[Digest], bool]) -> bool:
    children: Iterable[Descriptor] = image_graph.children(document)
    return all(has(child.digest) or child.embedded or oci.is_foreign(child.media_type) for child in children)


def _group(digest: Digest, document: Index | Manifest, size: int) -> Group:
    usual = oci.OCI_INDEX if isinstance(document, Index) else oci.OCI_MANIFEST
    target = Descriptor(document.media_type or usual, digest, size)
    return Group(namespace="", names=(str(digest),), target=target)
