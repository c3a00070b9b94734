"""What damaged nodes have in common: how much more frequent a fault is where a fact has one value. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

#: A value counts from this many damaged nodes on, this often the average, and this many standard deviations.
_LEAST: Final = 5
_LIFT: Final = 1.5
_SCORE: Final = 3.0


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """A value of a fact that damaged nodes share.

    Attributes:
        fact: The fact's name, for example `disk_model`.
        value: Its value.
        nodes: Number of nodes with this value; of `first_seen`, of reports that could show something new.
        damaged: How many of them are damaged; of `first_seen`, how many show new damage.
        lift: Their rate of damage divided by the rate of all nodes.
        score: By how many standard deviations `damaged` exceeds what the rate of all nodes lets expect.

    """

    fact: str
    value: str
    nodes: int
    damaged: int
    lift: float
    score: float


def shared(facts: Mapping[int, Mapping[str, str]], damaged: Collection[int]) -> tuple[Shared, ...]:
    """Return the values that damaged nodes share and others do not, the clearest first.

    Args:
        facts: The facts of each node, by its number.
        damaged: The numbers of the damaged nodes.

    """
    rate = len(damaged) / len(facts) if facts else 0
    if not 0 < rate < 1:
        return ()
    held, hit = _pairs(facts.values()), _pairs(facts[number] for number in damaged)
    found = (_shared(fact, value, held[fact, value], hits, rate) for (fact, value), hits in hit.items())
    clear = (each for each in found if each.damaged >= _LEAST and each.lift >= _LIFT and each.score >= _SCORE)
    return clearest(clear)


def clearest(found: Iterable[Shared]) -> tuple[Shared, ...]:
    """Return values by their score, the highest first."""
    return tuple(sorted(found, key=lambda each: (-each.score, each.fact, each.value)))


def _pairs(facts: Iterable[Mapping[str, str]]) -> Counter[tuple[str, str]]:
    return Counter(pair for each in facts for pair in each.items())


def _shared(fact: str, value: str, nodes: int, damaged: int, rate: float) -> Shared:
    expected = nodes * rate
    return Shared(
        fact=fact,
        value=value,
        nodes=nodes,
        damaged=damaged,
        lift=round(damaged / expected, 2),
        score=round((damaged - expected) / math.sqrt(expected * (1 - rate)), 1),
    )
