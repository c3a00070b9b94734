"""Parse durations, sizes and rates."""

from __future__ import annotations

import re
from datetime import timedelta

from auditor.errors import UsageError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[smhdw])+", re.ASCII)
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhdw])", re.ASCII)
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)(b?)(?:/s)?", re.ASCII | re.IGNORECASE)
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
#: Longest duration, a century, in seconds; below the limit of datetime.
_LONGEST = 100 * 365 * 86400


def duration(text: str) -> timedelta:
    """Parse `90`, `30s`, `1h30m`, `7d`; a number without a unit is seconds. Raises UsageError."""
    plain = f"{text}s" if re.fullmatch(r"\d+(?:\.\d+)?", text, re.ASCII) else text
    if not _DURATION.fullmatch(plain):
        raise UsageError(f"{text[:50]!r} is not a duration", hint="write 45s, 30m, 6h, 7d or 1h30m")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(plain))
    if seconds > _LONGEST:
        raise UsageError(f"{text[:50]!r} is too long", hint="write 45s, 30m, 6h, 7d or 1h30m")
    return timedelta(seconds=seconds)


def size(text: str) -> int:
    """Parse `1024`, `50MiB`, `50M` (also binary), `1.5GB` (decimal) into bytes. Raises UsageError."""
    match = _SIZE.fullmatch(text)
    if match is None or len(text) > 30:  # noqa: PLR2004 - longer than any valid size
        raise UsageError(f"{text[:50]!r} is not a size", hint="write 512KiB, 50MiB or 1.5GB")
    number, prefix, binary, unit = match.groups()
    base = 1000 if unit and not binary else 1024
    return int(float(number) * base ** _POWER[prefix.lower()])


def rate(text: str) -> int:
    """Parse a rate into bytes per second. Raises UsageError, also for zero."""
    found = size(text)
    if not found:
        raise UsageError("the rate must not be zero", hint="write 50MiB for 50 MiB per second")
    return found
