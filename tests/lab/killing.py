"""Ending the auditor at one exact step: a server that forks, so that a kill costs a fork and not a start of Python.

A step is a message that changes the store, or a change of the file system, before it is made and after. The server
itself never opens a channel, for what gRPC has open does not survive a fork. The watchdog of a repair is a fork of it
too, unless a run asks for the real one.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn
from unittest import mock

import grpc

from auditor.cli import app, repair_watchdog
from tests.program import ROOT, environment, import_everything

#: The calls that change a store; those that only look are no steps.
WRITES: Final = (
    *("Write", "Create", "Delete", "Update", "Abort", "AddResource", "DeleteResource"),
    *("Prepare", "View", "Apply", "Remove"),
)
#: What Python tells its audit hooks of changes to files.
CHANGES: Final = frozenset("os.rename os.link os.remove os.rmdir os.mkdir os.chmod os.chown os.truncate".split())
#: Functions of libc that change files, which Python tells of when they are looked up.
FUNCTIONS: Final = ("syncfs", "renameat2")
#: Parts of the paths that are the store's.
STORE: Final = ("/io.containerd.content", "/io.containerd.snapshotter")
#: What a child that was not to be killed is told by.
FINISHED: Final = 0


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit status, negative for a signal, and how many steps it made before."""

    status: int
    steps: int


class Steps:
    """Counts, and ends this process, or another, at the one that was named."""

    def __init__(self, last: int | None, number: int, victim: int) -> None:
        self.count = 0
        self._last = last
        self._signal = number
        self._victim = victim or os.getpid()
        self._lock = threading.Lock()

    def __call__(self) -> None:
        with self._lock:
            self.count += 1
            if self.count == self._last:
                os.kill(self._victim, self._signal)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Take what Python says of its own calls; only files in the store count."""
        opened = event == "open" and isinstance(arguments[1], str) and "w" in arguments[1]
        changes = (opened or event in CHANGES) and any(part in str(arguments[0]) for part in STORE)
        if changes or (event == "ctypes.dlsym" and arguments[1] in FUNCTIONS):
            self()


class Counting(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):  # type: ignore[type-arg]
    """Steps before and after each call that changes the store, and before and after each message of a write."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step

    def intercept_unary_unary(self, go_on: Callable[..., Any], details: Any, request: Any) -> Any:
        changes = details.method.rpartition("/")[2] in WRITES
        if changes:
            self._step()
        answer = go_on(details, request)
        if changes:
            answer.add_done_callback(lambda _call: self._step())
        return answer

    def intercept_stream_stream(self, go_on: Callable[..., Any], details: Any, requests: Iterator[Any]) -> Any:
        return go_on(details, self._stepping(requests))

    def _stepping(self, requests: Iterator[Any]) -> Iterator[Any]:
        for request in requests:
            self._step()
            yield request
        self._step()


class Pipes:
    """Pipes between the server, a run, and the watchdog of that run."""

    def __init__(self) -> None:
        self.told = os.pipe()
        self.asked = os.pipe()
        self.stdin = os.pipe()
        self.stdout = os.pipe()
        self._open = {*self.told, *self.asked, *self.stdin, *self.stdout}

    def keep(self, *ends: int) -> None:
        """Close all other ends."""
        for end in self._open - set(ends):
            os.close(end)
        self._open &= set(ends)


class ForkedWatchdog:
    """What a run sees of its watchdog, in place of a `subprocess.Popen`."""

    def __init__(self, pipes: Pipes, address: str) -> None:
        os.write(pipes.asked[1], address.encode())
        self.stdout = os.fdopen(pipes.stdout[0], "rb")
        self._stdin = pipes.stdin[1]

    def communicate(self, data: bytes = b"") -> None:
        """Send `data` and wait for the end."""
        os.write(self._stdin, data)
        os.close(self._stdin)
        self.stdout.read()


def watchdog(pipes: Pipes, address: str) -> NoReturn:
    """Be the watchdog."""
    pipes.keep(pipes.stdin[0], pipes.stdout[1])
    os.setsid()
    os.chdir("/")
    os.dup2(pipes.stdin[0], 0)
    os.dup2(pipes.stdout[1], 1)
    try:
        os._exit(repair_watchdog.main([address]))
    finally:
        os._exit(70)


def child(job: dict[str, Any], pipes: Pipes) -> NoReturn:
    """Run the auditor in this process, which is a fork."""
    pipes.keep(pipes.told[1], pipes.asked[1], pipes.stdin[1], pipes.stdout[0])
    if not job["real_watchdog"]:
        mock.patch.object(repair_watchdog, "start_isolated", lambda _, address: ForkedWatchdog(pipes, address)).start()
    gc.disable()  # as good as the program's own threshold for a run of this length
    step = Steps(job["last"], job["signal"], job.get("victim", 0))
    plain = grpc.insecure_channel
    grpc.insecure_channel = lambda *a, **k: grpc.intercept_channel(plain(*a, **k), Counting(step))
    sys.addaudithook(step.hook)
    with Path(job["log"]).open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    status = app.main(job["arguments"])
    os.write(pipes.told[1], str(step.count).encode())
    os._exit(status)


def serve() -> None:
    """Fork for each line of standard input, and say how it ended."""
    import_everything()
    gc.freeze()
    for line in sys.stdin:
        print(json.dumps(ran(json.loads(line))), flush=True)


def ran(job: dict[str, Any]) -> tuple[int, int]:
    """Fork for a run, and for its watchdog once it asks for one; return when both have ended."""
    pipes = Pipes()
    pid = os.fork()
    if pid == 0:
        child(job, pipes)
    pipes.keep(pipes.told[0], pipes.asked[0], *pipes.stdin, *pipes.stdout)
    second = 0
    if address := os.read(pipes.asked[0], 4096).decode():
        second = os.fork()
        if second == 0:
            watchdog(pipes, address)
    pipes.keep(pipes.told[0])
    _, status = os.waitpid(pid, 0)
    if second:
        os.waitpid(second, 0)
    with os.fdopen(pipes.told[0]) as told:
        steps = int(told.read() or -1)
    return os.waitstatus_to_exitcode(status), steps


class Killer:
    """The server, from the side of a test."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process = process
        self._log = log

    def run(
        self,
        *arguments: str | Path,
        last: int | None = None,
        number: signal.Signals = signal.SIGKILL,
        victim: int = 0,
        real_watchdog: bool = False,
    ) -> Ended:
        """Run the auditor; it ends at step `last`, or by itself; another `victim` is killed in its place.

        Returns when a forked watchdog has ended too.
        """
        job = {
            "arguments": [str(argument) for argument in arguments],
            "last": last,
            "signal": int(number),
            "victim": victim,
            "real_watchdog": real_watchdog,
            "log": str(self._log),
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, self._log.read_text()
        return Ended(*json.loads(answer))

    @property
    def said(self) -> str:
        """What all runs said."""
        return self._log.read_text()


@contextmanager
def killer(base: Path) -> Iterator[Killer]:
    """A server for the length of a test."""
    command: Sequence[str] = [sys.executable, "-m", "tests.lab.killing"]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        yield Killer(process, base / "killed.log")
        assert process.stdin is not None
        process.stdin.close()


if __name__ == "__main__":
    serve()
