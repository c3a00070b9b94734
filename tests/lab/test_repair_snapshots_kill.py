"""kill -9 of `repair --snapshots`: each snapshot is as it was or right, and the next run ends what was begun."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.lab.conftest import StartDaemon
from tests.lab.killing import killer
from tests.lab.kit.registry import Registry
from tests.lab.snapshots_killed import ENDED, sweep

#: Number of kills without --wide.
KILLS = 8


@pytest.mark.sweep
@pytest.mark.timeout(600)
def test_a_kill_at_any_step_leaves_each_snapshot_as_it_was_or_right(
    request: pytest.FixtureRequest, start_daemon: StartDaemon, registry: Registry, base: Path
) -> None:
    with killer(base) as killing:
        made = sweep(start_daemon("2.1"), registry, killing, base)
        status, steps = made.at(None)
        assert status == 0
        assert steps > 3 * KILLS
        apart = 1 if request.config.getoption("--wide") else steps // KILLS
        statuses = [made.at(step)[0] for step in range(1, steps, apart)]
        assert set(statuses) == {-signal.SIGKILL}
        asked = [made.at(step, number=signal.SIGTERM)[0] for step in range(steps // 4, steps, steps // 4)]
        assert ENDED in asked


@pytest.mark.sweep
@pytest.mark.timeout(600)
def test_a_killed_replacement_is_finished_by_the_next_run(
    request: pytest.FixtureRequest, start_daemon: StartDaemon, registry: Registry, base: Path
) -> None:
    with killer(base) as killing:
        made = sweep(start_daemon("1.7"), registry, killing, base)
        status, steps = made.replaced(None)
        assert status == 0
        apart = 1 if request.config.getoption("--wide") else steps // 5
        statuses = [made.replaced(step)[0] for step in range(apart, steps, apart)]
        assert set(statuses) == {-signal.SIGKILL}
