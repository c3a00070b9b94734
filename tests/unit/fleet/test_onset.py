"""In which hour or day damage began, against counts worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from auditor.fleet.onset import Damage, Look, Onsets, Store

#: Twenty nodes with damage that was seen first on the second day.
BEGAN = [Damage(Store(f"node-{n}", "s"), "digest-mismatch", "sha256:1") for n in range(20)]
DAYS = [f"2026-11-{day:02}T01:00:00+00:00" for day in (1, 5, 9)]


def looks(
    *, depth: int = 1, first_depth: int = 1, complete: bool = True, days: list[str] | None = None
) -> Iterator[Look]:
    for number in range(40):
        for place, at in enumerate(days or DAYS):
            yield Look(Store(f"node-{number}", "s"), at, depth if place else first_depth, complete or place > 0)


def test_damage_that_began_on_one_day_names_it() -> None:
    # 80 reports could show something new (two of each node), 20 did, all of them of the 40 on the second day.
    (found,) = Onsets(looks(), dict.fromkeys(BEGAN, DAYS[1])).shared(BEGAN)
    assert (found.fact, found.value) == ("first_seen", "2026-11-05")
    assert (found.damaged, found.nodes, found.lift) == (20, 40, 2.0)


def test_reports_of_one_or_two_days_are_told_apart_by_hour() -> None:
    hours = [f"2026-11-01T{hour:02}:30:00+00:00" for hour in (1, 5, 9)]
    (found,) = Onsets(looks(days=hours), dict.fromkeys(BEGAN, hours[1])).shared(BEGAN)
    assert found.value == "2026-11-01 05:00"


@pytest.mark.parametrize(
    ("first", "seen"),
    [
        pytest.param(looks(), DAYS[0], id="damage of the first report may be of any age"),
        pytest.param(looks(first_depth=0), DAYS[1], id="the report before did not look as deep"),
        pytest.param(looks(complete=False), DAYS[1], id="the report before did not see everything"),
        pytest.param(looks(days=DAYS[1:]), DAYS[2], id="one report after the first: there is no other time"),
        pytest.param(looks(days=DAYS[1:2]), DAYS[1], id="one report of each node"),
    ],
)
def test_nothing_is_claimed(first: Iterator[Look], seen: str) -> None:
    assert Onsets(first, dict.fromkeys(BEGAN, seen)).shared(BEGAN) == ()


def test_an_incomplete_report_after_a_complete_one_may_show_what_is_new() -> None:
    partly = [Look(each.store, each.at, each.depth, each.at == DAYS[0]) for each in looks()]
    (found,) = Onsets(partly, dict.fromkeys(BEGAN, DAYS[2])).shared(BEGAN)
    assert found.value == "2026-11-09"
