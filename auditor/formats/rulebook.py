"""The rules, as text and as JSON."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby

import msgspec

from auditor.checks.rule import Rule

_WIDTH = 80
_INDENT = "      "


def listed(rules: Sequence[Rule]) -> str:
    """The codes with their meanings, by severity, the worst first."""
    lines: list[str] = []
    for severity, same in groupby(rules, key=lambda rule: rule.severity):
        lines += ["", f"{severity.upper()}:"] if lines else [f"{severity.upper()}:"]
        for rule in same:
            lines += [
                f"  {rule.code}",
                textwrap.fill(rule.means, _WIDTH, initial_indent=_INDENT, subsequent_indent=_INDENT),
            ]
    return "\n".join([*lines, "", "auditor rules CODE explains one."]) + "\n"


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
