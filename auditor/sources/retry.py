"""Retry policy: exponential backoff with jitter, and the `Retry-After` header."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from auditor.sources.network_errors import Interrupted


class TryLater(Interrupted):
    """The server asks for a later retry; `after` is the pause in seconds, None where it names none."""

    def __init__(self, message: str, *, after: float | None) -> None:
        super().__init__(message, hint="try again later")
        self.after = after


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Time and randomness: a monotonic clock in seconds, sleep, a number in [0, 1), the time in UTC."""

    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    random: Callable[[], float]
    now: Callable[[], datetime]


#: The system's clock and random numbers.
SYSTEM = Timing(monotonic=time.monotonic, sleep=time.sleep, random=random.random, now=lambda: datetime.now(UTC))


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Number of attempts, and the pauses between them in seconds.

    Attributes:
        attempts: Maximum of consecutive attempts without progress.
        base: First pause; each is doubled up to `cap`, then multiplied by a random number from 0.5 to 1.
        cap: Longest pause without a `Retry-After` header.
        longest: Longest accepted `Retry-After`.

    """

    attempts: int = 4
    base: float = 1.0
    cap: float = 30.0
    longest: float = 120.0

    def pause(self, tried: int, error: Interrupted, *, chance: float) -> float | None:
        """Return the pause after attempt number `tried`, from 1; None after the last.

        Args:
            tried: Number of failed attempts.
            error: Error of the last attempt.
            chance: Random number in [0, 1).

        """
        asked = error.after if isinstance(error, TryLater) else None
        if tried >= self.attempts or (asked or 0) > self.longest:
            return None
        own = min(self.cap, self.base * 2.0 ** (tried - 1)) * (1 + chance) / 2
        return max(own, asked or 0)


def retry_after(text: str, now: datetime) -> float | None:
    """Return the seconds in a `Retry-After` header (RFC 9110, section 10.2.3); None where it is absent or invalid."""
    text = text.strip()
    if text.isascii() and text.isdecimal():
        return float(text[:9])
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now.timestamp())
