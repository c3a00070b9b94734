"""What each image of a report is made of, for those who read the report without the store: pages, fleets of nodes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

import msgspec

from auditor.evidence import Evidence
from auditor.findings import Finding, Node, Report
from auditor.graph import Broken
from auditor.store import ProofKind
from auditor.tree import TreeNode, trees

#: What a blob that has a record is called when a rule found fault with it; the first that applies.
_FAULTS: Final[Mapping[str, str]] = {
    "blob-file-missing": "no file",
    "size-mismatch": "wrong size",
    "digest-mismatch": "corrupt",
    "blob-unreadable": "unreadable",
    "malformed-manifest": "malformed",
    "diffid-mismatch": "undecodable",
    "layer-undecodable": "undecodable",
}
#: The rules that say that a document should be there.
_MISSING: Final = frozenset({"missing-manifest", "missing-config"})


def add_trees(report: Report, evidence: Evidence, findings: tuple[Finding, ...]) -> Report:
    """Give each image of the report its tree, each node with what this run knows of it."""
    proven = _proven(evidence)
    made = {(t.namespace, t.root.digest): _node(t.root, proven) for t in trees(evidence, findings)}
    images = (msgspec.structs.replace(image, tree=made.get((image.namespace, image.target))) for image in report.images)
    return msgspec.structs.replace(report, images=tuple(images))


def _proven(evidence: Evidence) -> frozenset[str]:
    """What hashed to its name: documents in every run, the rest where it was asked for or a scrub remembers it."""
    documents = {digest for (digest, _), loaded in evidence.documents.items() if not isinstance(loaded, Broken)}
    return frozenset(documents | {p.digest for p in evidence.proofs.values() if p.kind is ProofKind.SOUND})


def _node(node: TreeNode, proven: Collection[str]) -> Node:
    return Node(
        kind=node.kind,
        digest=node.digest,
        size=node.size,
        state=_state(node, proven),
        platform=node.platform if node.kind != "attestation" else "",
        children=tuple(_node(child, proven) for child in node.children),
    )


def _state(node: TreeNode, proven: Collection[str]) -> str:
    """One word for the record, the file and the bytes together."""
    if node.state != "present":
        return "missing" if _MISSING.intersection(node.faults) else node.state
    fault = next((word for code, word in _FAULTS.items() if code in node.faults), None)
    return fault or ("verified" if node.digest in proven else "present")
