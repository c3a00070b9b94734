"""`check --every` and `scrub --every`: repeat the run, and serve its /metrics and /healthz."""

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
from auditor.cli.output import print_error, print_message
from auditor.cli.runs.metrics_server import Board, serving
from auditor.cli.signals import Terminated
from auditor.cli.units import duration
from auditor.errors import AuditorError, UsageError
from auditor.formats import prometheus
from auditor.model.findings import Report

#: Runs once and publishes the report; returns it with the exit status.
Once = Callable[[], tuple[Report, int]]
COULD_NOT = 3
#: Time beyond two intervals after which /healthz reports that the loop hangs.
_GRACE = timedelta(minutes=15)


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """The interval between the starts of two rounds, and the largest random delay added."""

    every: timedelta
    jitter: timedelta

    @property
    def patience(self) -> timedelta:
        """The time without a sign of life after which the loop counts as hanging."""
        return 2 * (self.every + self.jitter) + _GRACE


def schedule(every: str, jitter: str) -> Schedule:
    """Parse --every and --jitter. Raises UsageError, also for an interval below a second."""
    found = Schedule(every=duration(every), jitter=duration(jitter))
    if found.every < timedelta(seconds=1):
        raise UsageError("--every must be at least a second", hint="for example --every 6h")
    return found


def repeat(
    once: Once,
    plan: Schedule,
    *,
    listen: str | None,
    command: str,
    address: str,
    chance: Callable[[], float] = random.random,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Run `once` again and again until SIGTERM; then return 0.

    The first round is delayed by the jitter too, so that the nodes of a cluster do not all start at once. A failed
    round is printed and recorded in the metrics, and the next one follows.

    Raises:
        UsageError: From `once`; it would fail in every round.

    """
    board = Board(patience=plan.patience, clock=time.monotonic)
    with stoppable(), serving(listen, board):
        try:
            sleep(plan.jitter.total_seconds() * chance())
            while True:
                begun = time.monotonic()
                _round(once, board, command=command, address=address)
                pause = (plan.every + plan.jitter * chance()).total_seconds() - (time.monotonic() - begun)
                sleep(max(0.0, pause))
        except Terminated:
            print_message("auditor: stopped")
    return 0


def _round(once: Once, board: Board, *, command: str, address: str) -> None:
    board.beat()
    try:
        report, status = once()
    except UsageError:
        raise
    except AuditorError as error:
        print_error(error)
        at = now().timestamp()
        text = prometheus.failed(board.metrics, command=command, address=address, at=at, exit_status=COULD_NOT)
        board.post(text, status=COULD_NOT)
    else:
        render_options = render.RenderOptions(command=command, status=status, earlier=board.metrics)
        board.post(render.metrics(report, render_options), status=status)


@contextmanager
def stoppable() -> Iterator[None]:
    """Make the first SIGTERM end the loop; ignore further ones during the clean-up."""
    before = signal.getsignal(signal.SIGTERM)

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if callable(before):  # it knows where an exception would break something
            before(number, frame)
        else:
            raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
