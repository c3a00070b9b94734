"""The descriptor graph of an image as a tree with the state of each node, for `auditor tree`. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec

from auditor.checks.absent_layers import cause
from auditor.checks.evidence import Evidence, NamespaceView
from auditor.checks.layer_state import LayerState, states
from auditor.checks.rule import in_words
from auditor.checks.snapshot_files import condition
from auditor.model.digest import Digest
from auditor.model.findings import Finding, Node, Report, Severity
from auditor.model.image_graph import Broken, Content, Family, ImageGraph, ManifestNode
from auditor.model.oci import Descriptor, Index
from auditor.model.store import VerificationKind

#: Indexes below one another that a tree shows; published images nest once.
_SHOWN: Final = 16


class TreeNode(msgspec.Struct, frozen=True, kw_only=True):
    """A descriptor: its kind, digest, size in bytes, and state in the store.

    `state` is a short text: present, absent, skipped by the unpacker … `faults` are the codes of its findings, the
    most severe first; `cause` is the cause code of the first, `why` the same as a clause. `unpacked` names the
    snapshotters that have its snapshot; `snapshots` has the state of the unpacked files by snapshotter, where they were
    looked at: intact, damaged, directory missing …
    """

    kind: str
    digest: str
    size: int
    media_type: str = ""
    platform: str = ""
    state: str = "present"
    cause: str = ""
    why: str = ""
    faults: tuple[str, ...] = ()
    unpacked: tuple[str, ...] = ()
    snapshots: dict[str, str] = {}
    wanted: bool = True
    children: tuple[TreeNode, ...] = ()


class ImageTree(msgspec.Struct, frozen=True, kw_only=True):
    """An image with all its names and its tree."""

    namespace: str
    names: tuple[str, ...]
    root: TreeNode


def trees(evidence: Evidence, findings: Sequence[Finding]) -> tuple[ImageTree, ...]:
    """Return a tree for each audited image, with the states that `findings` imply."""
    faults = _faults(findings)
    return tuple(
        ImageTree(namespace=view.name, names=graph.group.names, root=_Builder(evidence, view, graph, faults).build())
        for view in evidence.views
        for graph in view.graphs
    )


def _faults(findings: Sequence[Finding]) -> Mapping[str, tuple[Finding, ...]]:
    """Return the findings above info by digest, or by chainID for snapshots; `state` covers those of severity info."""
    by: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.severity is not Severity.INFO:
            by.setdefault(finding.subject.digest or finding.subject.name.rpartition("/")[2], []).append(finding)
    return {digest: tuple(found) for digest, found in by.items()}


class _Builder:
    def __init__(
        self, evidence: Evidence, view: NamespaceView, graph: ImageGraph, faults: Mapping[str, tuple[Finding, ...]]
    ) -> None:
        self._evidence = evidence
        self._view = view
        self._faults = faults
        self._graph = graph
        self._manifests = {node.digest: node for node in graph.manifests}
        self._seen: set[Digest] = set()

    def build(self) -> TreeNode:
        return self._node(self._graph.group.target, 0)

    def _node(self, descriptor: Descriptor, depth: int) -> TreeNode:
        digest = descriptor.digest
        if digest in self._manifests:
            return self._manifest(self._manifests[digest])
        kind = "index" if any(index.digest == digest for index in self._graph.indexes) else "content"
        node = self._plain(kind, descriptor, children=tuple(self._below(digest, depth + 1)))
        if node.state == "absent" and descriptor in self._graph.passed_over:
            return msgspec.structs.replace(node, state="not pulled")
        cut = depth >= _SHOWN and kind == "index" and node.state == "present"
        return msgspec.structs.replace(node, state="present, not shown further") if cut else node

    def _below(self, digest: Digest, depth: int) -> Iterator[TreeNode]:
        """Yield the children of an index, in its order; an index that occurs twice is expanded once."""
        document = self._view.documents.get((digest, Family.INDEX))
        if not isinstance(document, Index) or digest in self._seen or depth > _SHOWN:
            return
        self._seen.add(digest)
        for child in document.manifests:
            yield self._node(child, depth)

    def _plain(self, kind: str, descriptor: Descriptor, *, children: tuple[TreeNode, ...] = ()) -> TreeNode:
        here = self._view.has(descriptor.digest)
        node = TreeNode(
            kind=kind,
            digest=str(descriptor.digest),
            size=descriptor.size,
            media_type=descriptor.media_type,
            state="present" if here else "absent",
            children=children,
        )
        return self._with_faults(node, self._faults.get(descriptor.digest, ()))

    def _with_faults(self, node: TreeNode, found: Sequence[Finding]) -> TreeNode:
        """Return the node with findings added after those that it has."""
        if not found:
            return node
        return msgspec.structs.replace(
            node,
            faults=tuple(dict.fromkeys((*node.faults, *(finding.code for finding in found)))),
            cause=node.cause or found[0].cause or "",
            why=node.why or in_words(found[0]),
        )

    def _manifest(self, node: ManifestNode) -> TreeNode:
        inside = self._view.content(node.digest)
        base = self._plain("attestation" if node.attestation else "manifest", node.descriptor)
        missing = "absent" if node.wanted else "not pulled"
        return msgspec.structs.replace(
            base,
            platform=str(node.platform) if node.platform is not None else "",
            state="present" if self._view.has(node.digest) else missing,
            wanted=node.wanted,
            unpacked=self._view.unpacked_on(inside.chain[-1]) if inside is not None and inside.chain else (),
            children=tuple(self._content(node, inside)) if inside is not None else (),
        )

    def _content(self, node: ManifestNode, inside: Content) -> Iterator[TreeNode]:
        yield self._plain("config", inside.manifest.config)
        for state in states(self._evidence, self._view, self._graph, node):
            yield self._layer(state)

    def _layer(self, state: LayerState) -> TreeNode:
        base = self._plain(f"layer {state.layer.index + 1}", state.layer.descriptor)
        chain = state.layer.chain_id or ""
        snapshot = tuple(found for found in self._faults.get(chain, ()) if found.namespace == self._view.name)
        node = msgspec.structs.replace(
            base,
            state=str(state.state),
            cause=base.cause or cause(state) or "",
            unpacked=state.snapshotters,
            snapshots=self._conditions(state.snapshotters, chain),
        )
        return self._with_faults(node, snapshot)

    def _conditions(self, snapshotters: Iterable[str], chain: str) -> dict[str, str]:
        """Return the state of the unpacked files by snapshotter, where they were looked at."""
        files = {name: self._evidence.snapshot_files.get((self._view.name, name, chain)) for name in snapshotters}
        return {name: words for name, each in files.items() if each is not None and (words := condition(each))}


#: The state of a present blob by the code of a finding about it; the first that applies.
_FAULTS: Final[Mapping[str, str]] = {
    "blob-file-missing": "no file",
    "size-mismatch": "wrong size",
    "digest-mismatch": "corrupt",
    "blob-unreadable": "unreadable",
    "malformed-manifest": "malformed",
    "diffid-mismatch": "undecodable",
    "layer-undecodable": "undecodable",
}
#: The rules about documents that should be present.
_MISSING: Final = frozenset({"missing-manifest", "missing-config"})


def add_trees(report: Report, evidence: Evidence, findings: tuple[Finding, ...]) -> Report:
    """Return the report with a tree for each image."""
    verified = _verified(evidence)
    made = {(t.namespace, t.root.digest): _node(t.root, verified) for t in trees(evidence, findings)}
    images = (msgspec.structs.replace(image, tree=made.get((image.namespace, image.target))) for image in report.images)
    return msgspec.structs.replace(report, images=tuple(images))


def _verified(evidence: Evidence) -> frozenset[str]:
    """Return the verified blobs: documents in every run, others as read in this run or by an earlier scrub."""
    documents = {digest for (digest, _), loaded in evidence.documents.items() if not isinstance(loaded, Broken)}
    return frozenset(
        documents | {p.digest for p in evidence.verifications.values() if p.kind is VerificationKind.SOUND}
    )


def _node(node: TreeNode, verified: Collection[str]) -> Node:
    return Node(
        kind=node.kind,
        digest=node.digest,
        size=node.size,
        state=_state(node, verified),
        platform=node.platform if node.kind != "attestation" else "",
        snapshot=_snapshot(node),
        children=tuple(_node(child, verified) for child in node.children),
    )


def _snapshot(node: TreeNode) -> str:
    """Return the state of the unpacked files, of the first snapshotter on which they are not intact."""
    states = sorted(node.snapshots.values(), key=lambda state: state == "intact")
    return states[0] if states else ""


def _state(node: TreeNode, verified: Collection[str]) -> str:
    """Return the combined state of record, file and content."""
    if node.state != "present":
        return "missing" if _MISSING.intersection(node.faults) else node.state
    fault = next((word for code, word in _FAULTS.items() if code in node.faults), None)
    return fault or ("verified" if node.digest in verified else "present")
