"""An image's tree as text for a terminal, and as a graph in Graphviz' language (`-f dot | dot -Tsvg`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from auditor.formats.sanitize import plain, size
from auditor.report.image_tree import ImageTree, TreeNode

_HEAD = """digraph images {
  graph [rankdir=LR, fontname="sans-serif"];
  node [shape=box, style="rounded,filled", fillcolor=white, fontname="sans-serif", fontsize=10];
  edge [color="#808080"];
"""
_BAD = ', fillcolor="#f8d0d0", color="#c02020"'
_DIM = ', style="rounded,dashed", fontcolor="#808080", color="#808080"'
_CUT = 300
#: The states that only a fault gives a node; other absent nodes are absent by design, and drawn dim.
_FAULTS = frozenset({"missing", "skipped by the unpacker", "lost to a shared config"})


def render_dot(trees: Sequence[ImageTree]) -> str:
    """Several trees as one graph; a digest that two images of a namespace share is one node."""
    lines: dict[str, None] = {}
    for tree in trees:
        name = _quoted(f"image {_title(tree)}")
        lines[f"  {name} [label={_quoted(_title(tree))}, shape=note];"] = None
        lines[f"  {name} -> {_name(tree.namespace, tree.root)};"] = None
        lines.update(dict.fromkeys(_dot_lines(tree.namespace, tree.root)))
    return _HEAD + "\n".join(lines) + "\n}\n"


def render_text(tree: ImageTree, *, colour: bool = False) -> str:
    """One tree with its title; control characters are escaped for the terminal."""
    return "\n".join([plain(_title(tree), width=400), *_text_lines([tree.root], "", colour=colour)]) + "\n"


def _title(tree: ImageTree) -> str:
    return f"{tree.names[0]}  (namespace {tree.namespace})"


def _kind(node: TreeNode) -> str:
    return f"{node.kind} {node.platform}" if node.platform and node.kind != "attestation" else node.kind


def _bad(node: TreeNode) -> bool:
    return bool(node.faults) or node.state in _FAULTS


def _dim(node: TreeNode) -> bool:
    return node.state not in ("present", "embedded") and not _bad(node)


def _state(node: TreeNode) -> str:
    return node.state.upper() if _bad(node) else node.state


def _notes(node: TreeNode) -> Iterator[str]:
    yield from node.faults
    if why := node.why or node.cause:
        yield why
    if node.unpacked:
        yield f"unpacked on {', '.join(_unpacked(node, name) for name in node.unpacked)}"


def _unpacked(node: TreeNode, snapshotter: str) -> str:
    """The snapshotter, and the state of the files there if they were looked at."""
    state = node.snapshots.get(snapshotter, "")
    return f"{snapshotter} ({state})" if state else snapshotter


def _name(namespace: str, node: TreeNode) -> str:
    return _quoted(f"{namespace} {node.digest}")


def _dot_lines(namespace: str, node: TreeNode) -> Iterator[str]:
    look = _BAD if _bad(node) else _DIM if _dim(node) else ""
    label = _quoted(_kind(node), f"{node.digest[:19]}  {size(node.size)}", _state(node), *_notes(node))
    yield f"  {_name(namespace, node)} [label={label}{look}];"
    for child in node.children:
        yield f"  {_name(namespace, node)} -> {_name(namespace, child)};"
        yield from _dot_lines(namespace, child)


def _quoted(*lines: str) -> str:
    """Lines as one string of the language, with control characters, quotes and backslashes escaped."""
    kept = (plain(line, width=_CUT).replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(kept) + '"'


def _text_lines(nodes: Sequence[TreeNode], indent: str, *, colour: bool) -> Iterator[str]:
    for i, node in enumerate(nodes):
        last = i == len(nodes) - 1
        yield indent + ("└─ " if last else "├─ ") + _text_line(node, colour=colour)
        yield from _text_lines(node.children, indent + ("   " if last else "│  "), colour=colour)


def _text_line(node: TreeNode, *, colour: bool) -> str:
    parts = [_kind(node), node.digest[:19], size(node.size), _state(node), *_notes(node)]
    text = plain("  ".join(part for part in parts if part), width=400)
    code = "31" if _bad(node) else "2" if _dim(node) else ""
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text
