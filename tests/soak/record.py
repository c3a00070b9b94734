"""Records of a campaign: count cases, measure time and memory, keep failing inputs."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Final

from tests.program import ROOT, environment

#: Limits of one case; beyond them it is a failure. Seconds of processor time, so that a busy machine is no failure.
MAX_SECONDS: Final = 10.0
#: Seconds by the clock after which a case counts as hanging.
_HANGING: Final = 60.0
MAX_MIB: Final = 300.0
#: Failing inputs are written here, one file each, with a `.txt` beside it that says why.
FAILURES: Final = ROOT / "build" / "soak"
#: Failures after which a campaign ends: later ones have mostly the same cause.
_ENOUGH: Final = 5
#: Seconds spent on making a failing input smaller.
_SHRINK_SECONDS: Final = 20.0
#: Texts that a user must never see.
_BUGS: Final = (b"Traceback (most recent call last)", b"a bug in auditor itself", b"Fatal Python error")


class Failed(Exception):
    """A case broke a promise; the message says which."""


@dataclass(frozen=True)
class Outcome:
    """The result of a campaign.

    Attributes:
        cases: Number of cases.
        counts: Cases by result.
        peak_mib: Largest resident memory of the program, in MiB.
        slowest_seconds: Time of the slowest case; processor time where it ran in the campaign's process.
        slowest: What the slowest case was.
        failures: A sentence for each failure, with the file of its input.

    """

    cases: int
    counts: Mapping[str, int] = field(default_factory=dict)
    peak_mib: float = 0.0
    slowest_seconds: float = 0.0
    slowest: str = ""
    failures: tuple[str, ...] = ()


@dataclass
class Recorder:
    """Collects the cases of one campaign until its time is over."""

    name: str
    seconds: float
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    peak_mib: float = 0.0
    slowest_seconds: float = 0.0
    slowest: str = ""

    def __post_init__(self) -> None:
        self._end = time.monotonic() + self.seconds

    def rounds(self) -> Iterator[int]:
        """Yield numbers from 0 until the time is over or enough has failed; at least one."""
        number = 0
        while number == 0 or (time.monotonic() < self._end and len(self.failures) < _ENOUGH):
            yield number
            number += 1

    def add(self, result: str, *, seconds: float = 0.0, mib: float = 0.0, label: str = "") -> None:
        """Count a case. A slow or large one is a failure; `label` says which it was."""
        self.counts[result] += 1
        self.peak_mib = max(self.peak_mib, mib)
        if seconds > self.slowest_seconds:
            self.slowest_seconds, self.slowest = seconds, label
        if seconds > MAX_SECONDS:
            raise Failed(f"{label} took {seconds:.1f} s")
        if mib > MAX_MIB:
            raise Failed(f"{label} took {mib:.0f} MiB")

    @contextmanager
    def timed(self, label: str) -> Iterator[None]:
        """Keep the time of a round by the clock if it is the slowest."""
        started = time.monotonic()
        yield
        if (spent := time.monotonic() - started) > self.slowest_seconds:
            self.slowest_seconds, self.slowest = spent, f"a whole round by the clock: {label}"

    def fail(self, why: str, data: bytes, *, suffix: str = ".bin") -> None:
        """Write a failing input down, with the reason beside it."""
        folder = FAILURES / self.name
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{hashlib.sha256(data).hexdigest()[:16]}{suffix}"
        path.write_bytes(data)
        path.with_suffix(f"{suffix}.txt").write_text(f"{why}\n")
        self.counts["failed"] += 1
        self.failures.append(f"{why.splitlines()[-1]}: {path.relative_to(ROOT)}")

    def outcome(self) -> Outcome:
        """Return the result so far."""
        return Outcome(
            cases=sum(self.counts.values()),
            counts=dict(sorted(self.counts.items())),
            peak_mib=self.peak_mib,
            slowest_seconds=self.slowest_seconds,
            slowest=self.slowest,
            failures=tuple(self.failures),
        )


def fuzz(
    recorder: Recorder, make: Callable[[random.Random], bytes], judge: Callable[[bytes], str], *, suffix: str = ".bin"
) -> Outcome:
    """Judge inputs in this process until the time is over.

    Args:
        recorder: Takes the results.
        make: Returns an input.
        judge: Returns the result in a word; what it raises is a bug.
        suffix: Ending of the names of failing inputs.

    """
    seed = random.SystemRandom().getrandbits(32)
    for number in recorder.rounds():
        data = make(random.Random(seed + number))
        label = f"input {number} of seed {seed} ({len(data)} bytes)"
        started = time.process_time()
        try:
            with _alarm():
                result = judge(data)
            recorder.add(result, seconds=time.process_time() - started, mib=peak_mib(), label=label)
        except Exception:  # noqa: BLE001 - any exception here is what the campaign looks for
            why = f"{label}\n{traceback.format_exc()}"
            recorder.fail(why, smaller(data, lambda part: _raises(judge, part)), suffix=suffix)
            recorder.peak_mib = max(recorder.peak_mib, peak_mib())
    return recorder.outcome()


def _raises(judge: Callable[[bytes], str], data: bytes) -> bool:
    started = time.process_time()
    try:
        with _alarm():
            judge(data)
    except Exception:  # noqa: BLE001 - see fuzz
        return True
    return time.process_time() - started > MAX_SECONDS


def smaller(data: bytes, fails: Callable[[bytes], bool]) -> bytes:
    """Return a shorter input that still fails: cut pieces out, each half as long as the last."""
    end = time.monotonic() + _SHRINK_SECONDS
    piece = len(data) // 2
    while piece and time.monotonic() < end:
        at = 0
        while at < len(data) and time.monotonic() < end:
            cut = data[:at] + data[at + piece :]
            if fails(cut):
                data = cut
            else:
                at += piece
        piece //= 2
    return data


@contextmanager
def _alarm() -> Iterator[None]:
    """End a case that does not end by itself."""

    def late(_number: int, _frame: FrameType | None) -> None:
        raise Failed(f"not done after {_HANGING:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, _HANGING)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak_mib() -> float:
    """Largest resident memory of this process, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@dataclass(frozen=True)
class Ended:
    """A run of the program: exit status, both outputs, seconds and MiB."""

    status: int
    out: bytes
    err: bytes
    seconds: float
    mib: float


def run_auditor(
    *arguments: str | Path,
    folder: Path,
    seconds: float = 120.0,
    variables: Mapping[str, str] | None = None,
    stdin: Path | None = None,
    before: Sequence[str] = (),
) -> Ended:
    """Run the program once and measure it.

    Args:
        arguments: Its arguments.
        folder: Folder for its outputs.
        seconds: It is killed after this time.
        variables: Additional environment.
        stdin: File for its standard input.
        before: Command that starts it, such as `setpriv`.

    Raises:
        Failed: It printed a traceback, ended by a signal of its own, or did not end.

    """
    out, err = folder / "out", folder / "err"
    started = time.monotonic()
    with out.open("wb") as to, err.open("wb") as also, Path(stdin or os.devnull).open("rb") as given:
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "auditor", *map(str, arguments)],
            cwd=ROOT,
            env=environment() | dict(variables or {}),
            stdin=given,
            stdout=to,
            stderr=also,
        )
        with _limit(process, seconds) as late:
            _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    ended = Ended(
        process.returncode, out.read_bytes(), err.read_bytes(), time.monotonic() - started, usage.ru_maxrss / 1024
    )
    if late:
        raise Failed(f"{arguments[0]} did not end within {seconds:.0f} s")
    check_ended(ended)
    return ended


def check_ended(ended: Ended) -> None:
    """Raise Failed for a traceback and for an exit status that no command has."""
    if any(text in ended.out or text in ended.err for text in _BUGS):
        raise Failed(f"a traceback: {ended.err[-2000:].decode(errors='replace')}")
    if ended.status not in (0, 1, 2, 3):
        raise Failed(f"exit status {ended.status}: {ended.err[-2000:].decode(errors='replace')}")


@contextmanager
def _limit(process: subprocess.Popen[bytes], seconds: float) -> Iterator[list[bool]]:
    """Kill a process after `seconds`; the list is then not empty."""
    late: list[bool] = []

    def end(_number: int, _frame: FrameType | None) -> None:
        late.append(True)
        process.kill()

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield late
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
