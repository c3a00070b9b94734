"""Lift and score of facts, against a table worked out by hand."""

from __future__ import annotations

import pytest

from auditor.fleet.common import Shared, shared


def facts(*groups: tuple[int, str]) -> dict[int, dict[str, str]]:
    values = [value for number, value in groups for _ in range(number)]
    return {number: {"disk": value} for number, value in enumerate(values)}


def test_one_value_holds_most_of_the_damage() -> None:
    # 100 nodes, 10 of them damaged; 8 of the 20 with disk b: 2 are expected, variance 1.8, so (8 - 2) / 1.342 = 4.5.
    damaged = [*range(2), *range(80, 88)]
    assert shared(facts((80, "a"), (20, "b")), damaged) == (
        Shared(fact="disk", value="b", nodes=20, damaged=8, lift=4.0, score=4.5),
    )


@pytest.mark.parametrize(
    ("groups", "damaged"),
    [
        pytest.param([(50, "a"), (50, "b")], range(40, 60), id="as often as elsewhere"),
        pytest.param([(96, "a"), (4, "b")], range(96, 100), id="four nodes are too few"),
        pytest.param([(10, "a")], range(10), id="all nodes are damaged"),
        pytest.param([(10, "a")], [], id="no node is damaged"),
        pytest.param([], [], id="no nodes"),
        pytest.param([(60, "a"), (40, "b")], range(30, 70), id="more often, but within chance"),
    ],
)
def test_nothing_is_claimed(groups: list[tuple[int, str]], damaged: range) -> None:
    assert shared(facts(*groups), list(damaged)) == ()


def test_a_fact_that_only_some_nodes_have() -> None:
    every = {number: {"rack": "r1"} if number < 10 else {} for number in range(100)}
    (found,) = shared(every, range(10))
    assert (found.fact, found.nodes, found.damaged, found.lift) == ("rack", 10, 10, 10.0)
