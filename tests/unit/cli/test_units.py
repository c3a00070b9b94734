"""Durations, sizes and rates: a number without a unit is refused, and what was understood is printed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.cli.output import echo_limits
from auditor.cli.units import duration, rate, seconds, shown, size
from auditor.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected"),
    [("45s", 45), ("30m", 1800), ("1h30m", 5400), ("7d", 604800), ("2w", 1209600), ("0.5h", 1800), ("0", 0), ("0s", 0)],
)
def test_durations(text: str, expected: float) -> None:
    assert duration(text) == timedelta(seconds=expected)


@pytest.mark.parametrize("text", ["7", "0.5", "00001", "soon", "", "-1s", "1h 30m", "9999999d", "1e3s"])
def test_a_number_without_a_unit_and_other_text_are_no_durations(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        duration(text)
    assert refused.value.hint.startswith("write ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("50MiB", 50 << 20), ("50M", 50 << 20), ("1.5GB", 1_500_000_000), ("4096B", 4096), ("8KiB/s", 8192), ("0", 0)],
)
def test_sizes(text: str, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize("text", ["50", "1024", "much", "", "-5MiB", "5 parsecs"])
def test_a_number_without_a_unit_and_other_text_are_no_sizes(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        size(text)
    assert refused.value.hint.startswith("write ")


def test_a_rate_of_zero_is_refused() -> None:
    with pytest.raises(UsageError, match="must not be zero"):
        rate("0")


@pytest.mark.parametrize(("text", "expected"), [("5s", 5), ("5", 5), ("0.1", 0.1), ("1m30s", 90), ("30.0", 30)])
def test_timeouts_are_durations_or_seconds(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["0", "0s", "0.05", "soon", "nan", "9" * 400, "99999999999999999999"])
def test_other_timeouts_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--timeout"):
        seconds(text)


@given(st.integers(min_value=0, max_value=10**9))
def test_a_printed_duration_reads_back(number: int) -> None:
    assert duration(shown(timedelta(seconds=number))) == timedelta(seconds=number)


def test_limits_are_echoed_unless_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    echo_limits(quiet=False, time="30m", reading=None, layers="1.0 GiB")
    echo_limits(quiet=False, time=None)
    echo_limits(quiet=True, time="30m")
    assert capsys.readouterr() == ("", "auditor: limits: time 30m, layers 1.0 GiB\n")
