"""Parse durations, sizes and rates."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import TYPE_CHECKING

from auditor.errors import UsageError

if TYPE_CHECKING:
    from auditor.scrub.rate_limit import RateLimit

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
# Patterns are compiled at their first use: the defaults of a check have none of these values.
_NUMBER = r"(?a)\d+(?:\.\d+)?"
_DURATION = r"(?a)(?:\d+(?:\.\d+)?[smhdw])+"
_PART = r"(?a)(\d+(?:\.\d+)?)([smhdw])"
_SIZE = r"(?ai)(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)(b?)(?:/s)?"
_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
#: Longest duration, a century, in seconds; below the limit of datetime.
_LONGEST = 100 * 365 * 86400
_SHORTEST = 0.1


def duration(text: str) -> timedelta:
    """Parse `30s`, `1h30m`, `7d`, `0`. Raises UsageError, also for a number without a unit."""
    if re.fullmatch(_NUMBER, text) and float(text):
        raise _without_unit(text, "s", "m", "h", "d")
    if not re.fullmatch(_DURATION, text) and text != "0":
        raise UsageError(f"{text[:50]!r} is not a duration", hint="write 45s, 30m, 6h, 7d or 1h30m")
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in re.findall(_PART, text))
    if seconds > _LONGEST:
        raise UsageError(f"{text[:50]!r} is too long", hint="write 45s, 30m, 6h, 7d or 1h30m")
    return timedelta(seconds=seconds)


def seconds(text: str | float) -> float:
    """Parse `--timeout`: `5s`, `1m30s`, or a number of seconds, at least 0.1. Raises UsageError.

    Click parses the default too, which is a float.
    """
    if isinstance(text, float):
        return text
    try:
        found = float(text) if re.fullmatch(_NUMBER, text) else duration(text).total_seconds()
    except UsageError as error:
        raise UsageError(f"--timeout {error.message}", hint="write 5s, 1m30s, or a number of seconds") from None
    if not _SHORTEST <= found <= _LONGEST:
        raise UsageError(f"--timeout {text[:50]} is not in range", hint="the shortest is 0.1s")
    return found


def shown(time: timedelta) -> str:
    """A duration as `duration` parses it: `1h30m`, `7d`."""
    left, parts = round(time.total_seconds(), 3), []
    for unit in "dhm":
        number, left = divmod(left, _SECONDS[unit])
        parts += [f"{number:.0f}{unit}"] if number else []
    return "".join([*parts, f"{left:g}s"] if left or not parts else parts)


def _without_unit(text: str, *units: str) -> UsageError:
    written = [f"{text[:20]}{unit}" for unit in units]
    return UsageError(f"{text[:50]!r} has no unit", hint=f"write {', '.join(written[:-1])} or {written[-1]}")


def size(text: str) -> int:
    """Parse `50MiB`, `50M` (also binary), `1.5GB` (decimal), `4096B`. Raises UsageError, also without a unit."""
    if re.fullmatch(_NUMBER, text) and float(text):
        raise _without_unit(text, "KiB", "MiB", "GiB")
    match = re.fullmatch(_SIZE, text)
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


def pace(text: str | None) -> RateLimit | None:
    """Parse --limit-rate. Raises UsageError."""
    if not text:
        return None
    from auditor.scrub.rate_limit import RateLimit

    return RateLimit(rate(text), clock=time.monotonic)
