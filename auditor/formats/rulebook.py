"""The rules for people and for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import msgspec
from tabulate import tabulate

from auditor.checks.rule import Rule

_WIDTH = 100


def listed(rules: Sequence[Rule]) -> str:
    """A table of codes, worst first, with what each means."""
    rows = [(e.severity, e.code, textwrap.fill(e.means, 72)) for e in rules]
    table = tabulate(rows, headers=("severity", "code", "means"), tablefmt="simple")
    return f"{table}\n\nauditor rules CODE tells more of one.\n"


def explained(rule: Rule) -> str:
    """All about one rule."""
    parts = [("means", rule.means), ("matters", rule.matters), ("do", rule.do)]
    lines = [f"{rule.code} ({rule.severity})"]
    for label, text in parts:
        lines += ["", f"{label}:", *textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="  ")]
    return "\n".join(lines) + "\n"


def as_json(rules: Sequence[Rule]) -> str:
    """A list of objects."""
    return msgspec.json.format(msgspec.json.encode(list(rules)), indent=2).decode() + "\n"
