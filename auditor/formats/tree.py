"""An image's tree as a graph in Graphviz' language: `auditor tree IMAGE -f dot | dot -Tsvg`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from auditor.formats.sanitize import plain, size

_HEAD = """digraph images {
  graph [rankdir=LR, fontname="sans-serif"];
  node [shape=box, style="rounded,filled", fillcolor=white, fontname="sans-serif", fontsize=10];
  edge [color="#808080"];
"""
_BAD = ', fillcolor="#f8d0d0", color="#c02020"'
_DIM = ', style="rounded,dashed", fontcolor="#808080", color="#808080"'
_CUT = 300


def render_dot(trees: Sequence[tuple[str, str, Row]]) -> str:
    """Several trees, each with its title and namespace, as one graph; what two of a namespace share is one node."""
    lines: dict[str, None] = {}
    for title, namespace, root in trees:
        name = _quoted(f"image {title}")
        lines[f"  {name} [label={_quoted(title)}, shape=note];"] = None
        lines[f"  {name} -> {_name(namespace, root)};"] = None
        lines.update(dict.fromkeys(_dot_lines(namespace, root)))
    return _HEAD + "\n".join(lines) + "\n}\n"


def _name(namespace: str, row: Row) -> str:
    return _quoted(f"{namespace} {row.digest}")


def _dot_lines(namespace: str, row: Row) -> Iterator[str]:
    look = _BAD if row.bad else _DIM if row.dim else ""
    yield f"  {_name(namespace, row)} [label={_quoted(*_label(row))}{look}];"
    for child in row.children:
        yield f"  {_name(namespace, row)} -> {_name(namespace, child)};"
        yield from _dot_lines(namespace, child)


def _label(row: Row) -> Iterator[str]:
    yield row.text
    yield f"{row.digest[:19]}  {size(row.bytes)}"
    yield row.state.upper() if row.bad else row.state
    yield from row.notes


def _quoted(*lines: str) -> str:
    """Strings of the language, with line breaks between them; names come from strangers."""
    kept = (plain(line, width=_CUT).replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(kept) + '"'


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A node of a tree, ready to print; `bad` marks what should not be so, `dim` what is normal and absent."""

    text: str
    digest: str
    bytes: int
    state: str
    notes: tuple[str, ...] = ()
    bad: bool = False
    dim: bool = False
    children: tuple[Row, ...] = ()


def render_text(title: str, root: Row, *, colour: bool = False) -> str:
    """One tree with its title; every part of it made harmless for a terminal."""
    return "\n".join([plain(title, width=400), *_text_lines([root], "", colour=colour)]) + "\n"


def _text_lines(rows: Sequence[Row], indent: str, *, colour: bool) -> Iterator[str]:
    for i, row in enumerate(rows):
        last = i == len(rows) - 1
        yield indent + ("└─ " if last else "├─ ") + _text_line(row, colour=colour)
        yield from _text_lines(row.children, indent + ("   " if last else "│  "), colour=colour)


def _text_line(row: Row, *, colour: bool) -> str:
    parts = [row.text, row.digest[:19], size(row.bytes), row.state.upper() if row.bad else row.state, *row.notes]
    text = plain("  ".join(part for part in parts if part), width=400)
    code = "31" if row.bad else "2" if row.dim else ""
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text
