"""`check --every`: the audit as a standing job of a node, with /metrics and /healthz for whoever watches it."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType

import msgspec

from auditor.cli import render
from auditor.cli.audit import now
from auditor.cli.output import complain, say
from auditor.cli.runs.metrics_server import Board, serving
from auditor.cli.units import duration
from auditor.errors import AuditorError, UsageError
from auditor.formats import prometheus
from auditor.model.findings import Report

COULD_NOT = 3
#: Beyond two rounds, how long a round may take before /healthz says that it hangs.
_GRACE = timedelta(minutes=15)

Once = Callable[[], tuple[Report, int]]


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """How far apart the rounds begin, and by how much more at most."""

    every: timedelta
    jitter: timedelta

    @property
    def patience(self) -> timedelta:
        """How long nothing may be heard of the loop."""
        return 2 * (self.every + self.jitter) + _GRACE


class _Stop(BaseException):
    """SIGTERM: the loop is to end, wherever it is; leases and temporary files are cleaned up on the way."""


def schedule(every: str, jitter: str) -> Schedule:
    """Read --every and --jitter. Raises UsageError for rounds without a pause."""
    found = Schedule(every=duration(every), jitter=duration(jitter))
    if found.every < timedelta(seconds=1):
        raise UsageError("--every must be at least a second", hint="--every 6h, for example")
    return found


def repeat(
    once: Once,
    plan: Schedule,
    *,
    listen: str | None,
    address: str,
    chance: Callable[[], float] = random.random,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Run `once` until SIGTERM, which is the way to end it and gives 0.

    The first round waits for the jitter too, so that the nodes of a cluster do not all begin at once. A round that
    fails is said and told in the metrics; the next one comes all the same. Raises UsageError: that never gets better.
    """
    board = Board(patience=plan.patience, clock=time.monotonic)
    with _stoppable(), serving(listen, board):
        try:
            sleep(plan.jitter.total_seconds() * chance())
            while True:
                begun = time.monotonic()
                _round(once, board, address)
                pause = (plan.every + plan.jitter * chance()).total_seconds() - (time.monotonic() - begun)
                sleep(max(0.0, pause))
        except _Stop:
            say("auditor: stopped")
    return 0


def _round(once: Once, board: Board, address: str) -> None:
    board.beat()
    try:
        report, status = once()
    except UsageError:
        raise
    except AuditorError as error:
        complain(error)
        at = now().timestamp()
        text = prometheus.failed(board.metrics, command="check", address=address, at=at, exit_status=COULD_NOT)
        board.post(text, status=COULD_NOT)
    else:
        look = render.Look(status=status, earlier=board.metrics)
        board.post(render.metrics(report, look), status=status)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Make SIGTERM end the loop; only the first, so that the cleaning up is not interrupted by a second."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise _Stop

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
