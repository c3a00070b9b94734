"""An image's tree as text: index, manifests, configs and layers, each with its state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from auditor.formats.plain import plain, size


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


def render(title: str, root: Row, *, colour: bool = False) -> str:
    """One tree with its title; every part of it made harmless for a terminal."""
    return "\n".join([plain(title, width=400), *_lines([root], "", colour=colour)]) + "\n"


def _lines(rows: Sequence[Row], indent: str, *, colour: bool) -> Iterator[str]:
    for i, row in enumerate(rows):
        last = i == len(rows) - 1
        yield indent + ("└─ " if last else "├─ ") + _line(row, colour=colour)
        yield from _lines(row.children, indent + ("   " if last else "│  "), colour=colour)


def _line(row: Row, *, colour: bool) -> str:
    parts = [row.text, row.digest[:19], size(row.bytes), row.state.upper() if row.bad else row.state, *row.notes]
    text = plain("  ".join(part for part in parts if part), width=400)
    code = "31" if row.bad else "2" if row.dim else ""
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code else text
