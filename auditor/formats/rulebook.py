"""The rules, as text and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import msgspec
from tabulate import tabulate

from auditor.checks.rule import Rule

_WIDTH = 100


def listed(rules: Sequence[Rule]) -> str:
    """A table of codes, worst first, with their meanings."""
    rows = [(rule.severity, rule.code, textwrap.fill(rule.means, 72)) for rule in rules]
    table = tabulate(rows, headers=("severity", "code", "meaning"), tablefmt="simple")
    return f"{table}\n\nauditor rules CODE explains one.\n"


def explained(rule: Rule) -> str:
    """One rule: meaning, impact, remedy."""
    parts = [("Meaning", rule.means), ("Impact", rule.impact), ("Remedy", rule.remedy)]
    lines = [f"{rule.code} ({rule.severity})"]
    for label, text in parts:
        lines += ["", f"{label}:", *textwrap.wrap(text, _WIDTH, initial_indent="  ", subsequent_indent="  ")]
    return "\n".join(lines) + "\n"


def as_json(rules: Sequence[Rule]) -> str:
    """Render a JSON list of the rules."""
    return msgspec.json.format(msgspec.json.encode(list(rules)), indent=2).decode() + "\n"
