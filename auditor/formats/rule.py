"""A rule as text: for the book of rules, and for what formats say of a code."""

from __future__ import annotations

import msgspec


class Entry(msgspec.Struct, frozen=True):
    """One rule, all text."""

    code: str
    severity: str
    means: str
    matters: str
    do: str
