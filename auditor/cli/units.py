"""Durations, sizes and rates as people write them."""

from __future__ import annotations

import re
from datetime import timedelta

from auditor.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)(b?)(?:/s)?", re.ASCII | re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
#: A century: longer than anybody waits, and far from where datetime ends.
_LONGEST = 100 * 365 * 86400


def duration(text: str) -> timedelta:
    """Read `90`, `30s`, `1h30m`, `7d`: a bare number is seconds. Raises UsageError."""
    plain = f"{text}s" if re.fullmatch(r"\d+(?:\.\d+)?", text, re.ASCII) else text
    if not _DURATION.fullmatch(plain):
        raise UsageError(f"{text[:50]!r} is not a duration", hint="write 45s, 30m, 6h, 7d or 1h30m")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(plain))
    if seconds > _LONGEST:
        raise UsageError(f"{text[:50]!r} is too long", hint="write 45s, 30m, 6h, 7d or 1h30m")
    return timedelta(seconds=seconds)


def size(text: str) -> int:
    """Read `1024`, `50MiB`, `50M` (binary too), `1.5GB` (decimal); in bytes. Raises UsageError."""
    match = _SIZE.fullmatch(text)
    if match is None or len(text) > 30:  # noqa: PLR2004 - no size that anybody means is longer
        raise UsageError(f"{text[:50]!r} is not a size", hint="write 512KiB, 50MiB or 1.5GB")
    number, prefix, binary, unit = match.groups()
    base = 1000 if unit and not binary else 1024
    return int(float(number) * base ** _POWER[prefix.lower()])


def rate(text: str) -> int:
    """Read a rate, in bytes a second. Raises UsageError for zero."""
    found = size(text)
    if not found:
        raise UsageError("a rate of zero would never end", hint="write 50MiB for 50 MiB a second")
    return found
