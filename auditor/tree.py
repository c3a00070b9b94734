"""The descriptor graph of an image as a tree with the state of each node; pure, for `auditor tree`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from auditor.checks.absence import LayerState, states
from auditor.checks.layers import cause
from auditor.digest import Digest
from auditor.evidence import Evidence, NamespaceView
from auditor.findings import Finding
from auditor.graph import Content, Family, ImageGraph, ManifestNode
from auditor.oci import Descriptor, Index


class TreeNode(msgspec.Struct, frozen=True, kw_only=True):
    """One descriptor: what it is, its digest, its size in bytes, and its state in the store.

    `state` is one word or two: present, absent, skipped by the unpacker, corrupt … `faults` are the codes of the
    findings about it, the worst first. `unpacked` names the snapshotters that have it.
    """

    kind: str
    digest: str
    size: int
    media_type: str = ""
    platform: str = ""
    state: str = "present"
    cause: str = ""
    faults: tuple[str, ...] = ()
    unpacked: tuple[str, ...] = ()
    wanted: bool = True
    children: tuple[TreeNode, ...] = ()


class ImageTree(msgspec.Struct, frozen=True, kw_only=True):
    """An image with all its names and its tree."""

    namespace: str
    names: tuple[str, ...]
    root: TreeNode


def trees(evidence: Evidence, findings: Sequence[Finding]) -> tuple[ImageTree, ...]:
    """A tree for each image audited."""
    faults = _faults(findings)
    return tuple(
        ImageTree(namespace=view.name, names=graph.group.names, root=_Builder(evidence, view, graph, faults).build())
        for view in evidence.views
        for graph in view.graphs
    )


def _faults(findings: Sequence[Finding]) -> Mapping[str, tuple[str, ...]]:
    by: dict[str, list[str]] = {}
    for finding in findings:
        if finding.subject.digest and finding.severity.rank < 3:  # noqa: PLR2004 - info is told by the state
            by.setdefault(finding.subject.digest, []).append(finding.code)
    return {digest: tuple(dict.fromkeys(codes)) for digest, codes in by.items()}


class _Builder:
    def __init__(
        self, evidence: Evidence, view: NamespaceView, graph: ImageGraph, faults: Mapping[str, tuple[str, ...]]
    ) -> None:
        self._evidence = evidence
        self._view = view
        self._faults = faults
        self._graph = graph
        self._manifests = {node.digest: node for node in graph.manifests}
        self._too_deep = {descriptor.digest for descriptor in graph.too_deep}
        self._seen: set[Digest] = set()

    def build(self) -> TreeNode:
        return self._node(self._graph.group.target)

    def _node(self, descriptor: Descriptor) -> TreeNode:
        digest = descriptor.digest
        if digest in self._manifests:
            return self._manifest(self._manifests[digest])
        kind = "index" if any(index.digest == digest for index in self._graph.indexes) else "content"
        return self._plain(kind, descriptor, children=tuple(self._below(digest)))

    def _below(self, digest: Digest) -> Iterator[TreeNode]:
        """The children of an index, in its order; an index that appears twice is drawn once."""
        document = self._view.documents.get((digest, Family.INDEX))
        if not isinstance(document, Index) or digest in self._seen or digest in self._too_deep:
            return
        self._seen.add(digest)
        for child in document.manifests:
            yield self._node(child)

    def _plain(self, kind: str, descriptor: Descriptor, *, children: tuple[TreeNode, ...] = ()) -> TreeNode:
        here = self._view.has(descriptor.digest)
        return TreeNode(
            kind=kind,
            digest=str(descriptor.digest),
            size=descriptor.size,
            media_type=descriptor.media_type,
            state="present" if here else "absent",
            faults=self._faults.get(descriptor.digest, ()),
            children=children,
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
        return msgspec.structs.replace(
            base, state=str(state.state), cause=cause(state) or "", unpacked=state.snapshotters
        )
