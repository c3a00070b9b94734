"""When damage was first seen, from reports of several times: what began on many nodes in the same day or hour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from auditor.fleet.common import Shared, shared

#: The name of the fact.
FIRST_SEEN: Final = "first_seen"
#: Reports over at most this time are grouped by hour, others by day.
_HOURLY: Final = timedelta(days=2)


class Store(NamedTuple):
    """A store of a node."""

    host: str
    address: str


class Look(NamedTuple):
    """A report of a store: its time as RFC 3339 in UTC, the depth of its verification, whether it is complete."""

    store: Store
    at: str
    depth: int
    complete: bool


class Damage(NamedTuple):
    """A finding of error or critical: its rule, and the digest or name of its subject."""

    store: Store
    code: str
    subject: str


class Onsets:
    """The reports in which damage could appear first: those after a complete one that verified as much.

    Args:
        looks: All reports, also those that newer ones replaced.
        first: The time of the first report with each damage.

    """

    def __init__(self, looks: Iterable[Look], first: Mapping[Damage, str]) -> None:
        by: dict[Store, list[Look]] = {}
        for look in sorted(set(looks), key=lambda each: each.at):
            by.setdefault(look.store, []).append(look)
        found = [look for each in by.values() for look in _later(each)]
        size = _size([look.at for look in found])
        self._first = first
        self._numbers = {(look.store, look.at): number for number, look in enumerate(found)}
        self._facts = {number: {FIRST_SEEN: _bucket(at, size)} for (_, at), number in self._numbers.items()}

    def shared(self, damages: Iterable[Damage]) -> tuple[Shared, ...]:
        """Return the days or hours in which damage appeared more often than in others.

        `nodes` counts the reports of that time after an earlier one, `damaged` those with damage that was not there
        before. Damage that is in the first report of a store, or in the first of its depth, counts nowhere.
        """
        whens = {(each.store, self._first[each]) for each in damages}
        return shared(self._facts, {self._numbers[when] for when in whens if when in self._numbers})


def _later(looks: Sequence[Look]) -> list[Look]:
    """The reports of one store after a complete one that verified as much."""
    deepest, found = -1, []
    for look in looks:
        if look.depth <= deepest:
            found.append(look)
        if look.complete:
            deepest = max(deepest, look.depth)
    return found


def _size(times: Sequence[str]) -> int:
    """The number of characters of a time that name its day or its hour."""
    if times and datetime.fromisoformat(max(times)) - datetime.fromisoformat(min(times)) <= _HOURLY:
        return len("2026-11-28T01")
    return len("2026-11-28")


def _bucket(at: str, size: int) -> str:
    day, _, hour = at[:size].partition("T")
    return f"{day} {hour}:00" if hour else day
