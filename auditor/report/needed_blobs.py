"""The blobs that an image needs on this node, from its tree: usable ones, and the others with the reason. No I/O."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from auditor.checks import snapshot_files, snapshots
from auditor.model.readiness import NotReady
from auditor.report.image_tree import ImageTree, TreeNode

#: States of a tree's nodes that mean that the bytes are here.
_HERE = ("present", "embedded")
#: Findings that leave the bytes of a blob usable: about its protection, its type, its first read, and about snapshots.
_USABLE = frozenset({"gc-unprotected", "media-type-mismatch", "read-unsteady", "snapshot-without-backend"}).union(
    rule.code for rule in (*snapshots.RULES, *snapshot_files.RULES)
)


class Needed(msgspec.Struct, frozen=True, kw_only=True):
    """A blob that an image needs: its bytes as described, and why it is not usable; empty where it is.

    `unpacked` names the snapshotters that have the layer's snapshot.
    """

    kind: str
    digest: str
    size: int
    why: str
    unpacked: tuple[str, ...]


def needed_blobs(tree: ImageTree) -> tuple[Needed, ...]:
    """Return the documents and layers of the wanted platforms; attestations and other platforms are left out."""
    return tuple(_needed(node) for node in _wanted(tree.root))


def not_ready(tree: ImageTree, lacking: tuple[Needed, ...]) -> NotReady:
    """Describe an image by the blobs that are not usable."""
    reasons: dict[str, int] = {}
    for blob in lacking:
        reasons[blob.why] = reasons.get(blob.why, 0) + blob.size
    name = tree.names[0] if tree.names else tree.root.digest
    return NotReady(namespace=tree.namespace, name=name, target=tree.root.digest, reasons=reasons)


def _wanted(node: TreeNode) -> Iterator[TreeNode]:
    if node.kind == "attestation" or not node.wanted:
        return
    yield node
    for child in node.children:
        yield from _wanted(child)


def _needed(node: TreeNode) -> Needed:
    faults = [code for code in node.faults if code not in _USABLE]
    why = "" if node.state in _HERE and not faults else node.state if node.state not in _HERE else faults[0]
    return Needed(kind=node.kind, digest=node.digest, size=node.size, why=why, unpacked=node.unpacked)
