"""An image's tree as a graph in Graphviz' language: `auditor tree IMAGE -f dot | dot -Tsvg`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from auditor.formats.plain import plain, size
from auditor.formats.treetext import Row

_HEAD = """digraph images {
  graph [rankdir=LR, fontname="sans-serif"];
  node [shape=box, style="rounded,filled", fillcolor=white, fontname="sans-serif", fontsize=10];
  edge [color="#808080"];
"""
_BAD = ', fillcolor="#f8d0d0", color="#c02020"'
_DIM = ', style="rounded,dashed", fontcolor="#808080", color="#808080"'
_CUT = 300


def render(trees: Sequence[tuple[str, str, Row]]) -> str:
    """Several trees, each with its title and namespace, as one graph; what two of a namespace share is one node."""
    lines: dict[str, None] = {}
    for title, namespace, root in trees:
        name = _quoted(f"image {title}")
        lines[f"  {name} [label={_quoted(title)}, shape=note];"] = None
        lines[f"  {name} -> {_name(namespace, root)};"] = None
        lines.update(dict.fromkeys(_lines(namespace, root)))
    return _HEAD + "\n".join(lines) + "\n}\n"


def _name(namespace: str, row: Row) -> str:
    return _quoted(f"{namespace} {row.digest}")


def _lines(namespace: str, row: Row) -> Iterator[str]:
    look = _BAD if row.bad else _DIM if row.dim else ""
    yield f"  {_name(namespace, row)} [label={_quoted(*_label(row))}{look}];"
    for child in row.children:
        yield f"  {_name(namespace, row)} -> {_name(namespace, child)};"
        yield from _lines(namespace, child)


def _label(row: Row) -> Iterator[str]:
    yield row.text
    yield f"{row.digest[:19]}  {size(row.bytes)}"
    yield row.state.upper() if row.bad else row.state
    yield from row.notes


def _quoted(*lines: str) -> str:
    """Strings of the language, with line breaks between them; names come from strangers."""
    kept = (plain(line, width=_CUT).replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(kept) + '"'
