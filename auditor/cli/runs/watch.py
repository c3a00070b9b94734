"""The run of `auditor watch`: connect, watch, tell changes, and connect again."""

from __future__ import annotations

import os
import shlex
import subprocess
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from auditor import containerd
from auditor.audit.collect import Request
from auditor.cli import prover, render
from auditor.cli.audit import audited, host, now
from auditor.cli.connect import content_root
from auditor.cli.metrics_files import write_metrics
from auditor.cli.options import Common
from auditor.cli.output import deliver, print_error, print_message
from auditor.cli.runs.every import stoppable
from auditor.cli.runs.metrics_server import Board, serving
from auditor.cli.signals import Terminated
from auditor.cli.units import duration
from auditor.errors import OutputError, StoreError, UsageError
from auditor.formats import ndjson, prometheus
from auditor.formats.changes import line
from auditor.model.findings import FailOn, Verify, exit_status
from auditor.model.store_event import LookupStore
from auditor.watch.memory import Memory
from auditor.watch.watcher import HEARTBEAT, Watcher

COULD_NOT: Final = 3
#: Seconds before the first and before later attempts to connect again.
_AGAIN, _LONGEST = 0.2, 5.0
#: Seconds that a command of --exec may run.
_COMMAND: Final = 60.0
_GRACE = timedelta(minutes=15)


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for; `command` has the words of --exec."""

    every: timedelta
    state: Path | None
    command: tuple[str, ...]
    listen: str | None
    textfile: Path | None
    as_json: bool


def interval(text: str) -> timedelta:
    """Parse --every. Raises UsageError, also for less than a minute."""
    found = duration(text)
    if found < timedelta(minutes=1):
        raise UsageError(
            "--every must be at least a minute", hint="events tell of pulls at once; for example --every 1h"
        )
    return found


def words(command: str | None) -> tuple[str, ...]:
    """Split --exec as a shell does. Raises UsageError."""
    try:
        found = tuple(shlex.split(command or ""))
    except ValueError as error:
        raise UsageError(f"--exec is not a command: {error}", hint="close the quotes") from None
    if command is not None and not found:
        raise UsageError("--exec is empty", hint="give a command, for example --exec /usr/local/bin/notify")
    return found


def watch(common: Common, wish: Wish) -> int:
    """Watch until SIGTERM; then return 0.

    Raises:
        UsageError: The options cannot be used.
        StateError: The state is not this program's, or cannot be read.

    """
    root = content_root(common.content_root)
    address = containerd.discover(common.address, environ=os.environ)
    memory = Memory(wish.state, address=str(address))
    board = Board(patience=2 * timedelta(seconds=HEARTBEAT) + _GRACE, clock=time.monotonic)
    with stoppable(), serving(wish.listen, board):
        try:
            down, pause = False, _AGAIN
            while True:
                try:
                    with containerd.connect_lookup(address, timeout=common.timeout, content_root=root) as store:
                        if down:
                            print_message("auditor: the daemon is back")
                        down, pause = False, _AGAIN
                        _watch(store, memory, common, wish, board)
                except StoreError as error:
                    if not down:
                        print_error(error)
                        at = now().timestamp()
                        text = prometheus.failed(
                            board.metrics, command="watch", address=str(address), at=at, exit_status=COULD_NOT
                        )
                        _post(text, COULD_NOT, wish, board)
                    down = True
                time.sleep(pause)
                pause = min(_LONGEST, pause * 2)
        except (Terminated, KeyboardInterrupt):
            print_message("auditor: stopped")
    return 0


def _watch(store: LookupStore, memory: Memory, common: Common, wish: Wish, board: Board) -> None:
    full = partial(_full, store, memory, common, wish, board)
    every = wish.every.total_seconds()
    Watcher(store, memory, full, every=every, clock=time.monotonic, now=now, beat=board.beat).run()


def _full(store: LookupStore, memory: Memory, common: Common, wish: Wish, board: Board) -> None:
    """Check everything, write the metrics, tell what changed, and save it; an empty store is in order."""
    request = Request(allow_empty=True)
    _, report = audited(store, request, common, reader=prover.reader(store, Verify.PRESENCE), trees=False)
    status = exit_status(report, FailOn.ERROR)
    render_options = render.RenderOptions(command="watch", status=status, earlier=board.metrics)
    _post(render.metrics(report, render_options), status, wish, board)
    try:
        for change in memory.changes(report.findings, complete=report.complete):
            told = ndjson.finding(change.finding, host=host(os.environ), change=change.kind.value)
            deliver(told if wish.as_json else line(change, at=now()) + "\n", None)
            memory.record(change)
            if wish.command:
                run_command(wish.command, told)
    finally:
        _save(memory)


def _save(memory: Memory) -> None:
    try:
        memory.save()
    except OutputError as error:
        print_error(error)


def _post(text: str, status: int, wish: Wish, board: Board) -> None:
    """Serve the metrics, and write them to the textfile."""
    board.post(text, status=status)
    if wish.textfile is not None:
        try:
            write_metrics(wish.textfile, text)
        except OutputError as error:
            print_error(error)


def run_command(command: tuple[str, ...], told: str) -> None:
    """Run the command of --exec; its failure is printed, and watching goes on."""
    try:
        done = subprocess.run(command, input=told.encode(), timeout=_COMMAND, check=False, stdout=2)
    except subprocess.TimeoutExpired:
        print_message(f"auditor: {command[0]} was ended after {_COMMAND:g} s")
    except OSError as error:
        print_message(f"auditor: {command[0]} cannot be run: {error.strerror}")
    else:
        if done.returncode:
            print_message(f"auditor: {command[0]} ended with status {done.returncode}")
