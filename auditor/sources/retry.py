"""When to try again: growing pauses with jitter, and what a server asks for with `Retry-After`."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from auditor.sources.network_errors import Interrupted


class TryLater(Interrupted):
    """The server answers, and not now; `after` is the seconds that it asks us to wait, None where it does not say."""

    def __init__(self, message: str, *, after: float | None) -> None:
        super().__init__(message, hint="try again later")
        self.after = after


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Time and chance: seconds of a clock that never goes back, waiting, a number in [0, 1), and the date in UTC."""

    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    random: Callable[[], float]
    now: Callable[[], datetime]


#: The machine's own.
SYSTEM = Timing(monotonic=time.monotonic, sleep=time.sleep, random=random.random, now=lambda: datetime.now(UTC))


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """How often and how patiently to try again.

    `attempts` counts tries in a row that brought no byte. Pauses are between half and all of `base` seconds, doubled
    each time up to `cap`. A server that asks for more than `longest` seconds is not waited for.
    """

    attempts: int = 4
    base: float = 1.0
    cap: float = 30.0
    longest: float = 120.0

    def pause(self, tried: int, error: Interrupted, *, chance: float) -> float | None:
        """The seconds to wait after try number `tried` (from 1) failed; None where it is the last."""
        asked = error.after if isinstance(error, TryLater) else None
        if tried >= self.attempts or (asked or 0) > self.longest:
            return None
        own = min(self.cap, self.base * 2.0 ** (tried - 1)) * (1 + chance) / 2
        return max(own, asked or 0)


def retry_after(text: str, now: datetime) -> float | None:
    """The seconds that a `Retry-After` header asks for, by RFC 9110 section 10.2.3; None for none or nonsense."""
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now.timestamp())
