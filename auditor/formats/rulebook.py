"""The rules for people and for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import msgspec
from tabulate import tabulate

_WIDTH = 100


def listed(entries: Sequence[Entry]) -> str:
    """A table of codes, worst first, with what each means."""
    rows = [(e.severity, e.code, textwrap.fill(e.means, 72)) for e in entries]
    table = tabulate(rows, headers=("severity", "code", "means"), tablefmt="simple")
    return f"{table}\n\nauditor rules CODE tells more of one.\n"


def explained(entry: Entry) -> str:
    """All about one rule."""
    parts = [("means", entry.means), ("matters", entry.matters), ("do", entry.do)]
    lines = [f"{entry.code} ({entry.severity})"]
    for label, text in parts:
        lines += ["", f"{label}:", *textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="  ")]
    return "\n".join(lines) + "\n"


def as_json(entries: Sequence[Entry]) -> str:
    """A list of objects."""
    return msgspec.json.format(msgspec.json.encode(list(entries)), indent=2).decode() + "\n"


class Entry(msgspec.Struct, frozen=True):
    """One rule, all text."""

    code: str
    severity: str
    means: str
    matters: str
    do: str
