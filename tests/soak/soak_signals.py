"""Signals at random instants of every command: exit statuses follow the contract, and nothing is left.

Some commands run at once on one damaged daemon. After some rounds a repair and a check have to find everything intact,
and no lease, unfinished write or temporary file of the signalled commands is left.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests import images
from tests.lab.checked import auditor_here
from tests.lab.kit import faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry
from tests.lab.repaired import ours
from tests.program import ROOT, environment
from tests.soak.record import Failed, Outcome, Recorder, peak_mib

_IMAGE: Final = images.image([images.layer(images.files(f"soak-signals-{n}", kilobytes=1_500)) for n in range(3)])
#: Commands that run at the same time.
_TOGETHER: Final = 8
#: Rounds between two looks at the whole store.
_ROUNDS: Final = 4
#: The words of each command; SOCKET, IMAGE, OUT (a folder of its own) and ARCHIVE stand for what they name.
_COMMANDS: Final[Mapping[str, str]] = {
    "check": "check --address SOCKET",
    "check json": "check --address SOCKET --format json --output OUT/report.json --textfile OUT/check.prom",
    "check layers": "check --address SOCKET --verify layers",
    "check snapshots": "check --address SOCKET --verify snapshots",
    "check over the API": "check --address SOCKET --content-root none --verify digests",
    "check every": "check --address SOCKET --every 1s --listen 127.0.0.1:0",
    "watch": "watch --address SOCKET --state OUT/state --textfile OUT/watch.prom",
    "scrub": "scrub --address SOCKET --state OUT/scrub.db",
    "repair": "repair --address SOCKET --yes --verify digests",
    "repair over the API": "repair --address SOCKET --yes --verify digests --content-root none",
    "export": "export --address SOCKET IMAGE -o OUT/image.tar",
    "export zstd": "export --address SOCKET IMAGE --compress zstd -o OUT/image.tar",
    "export to a pipe": "export --address SOCKET IMAGE -o -",
    "verify": "verify ARCHIVE",
    "verify from stdin": "verify -",
    "tree": "tree IMAGE --address SOCKET",
    "rules": "rules",
}
#: The files that a command may leave in its folder.
_OUTPUTS: Final = {"report.json", "check.prom", "watch.prom", "state", "state.lock", "image.tar"}
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Exit statuses of a command that a signal ended.
_ENDED: Final = {signal.SIGINT: {130}, signal.SIGTERM: {143}, signal.SIGHUP: {143}}
#: Commands that run until a signal, which ends them well.
_LASTING: Final = ("check every", "watch")
_BUGS: Final = ("Traceback", "a bug in auditor", "Fatal Python error", "Exception ignored")
#: Two repairs of a round may meet; the later one is refused.
_REFUSED, _ANOTHER = 3, "another repair of this daemon is running"
#: Seconds in which a command ends after a signal on a busy machine.
_PATIENCE: Final = 60.0


@dataclass(frozen=True)
class _Run:
    """A command that was started: its folder of outputs, the signals, and when to send them after its first handlers.

    `everyone`: the processes that it started get them, too, as systemd stops a unit.
    """

    name: str
    process: subprocess.Popen[bytes]
    folder: Path
    numbers: tuple[signal.Signals, ...]
    after: float
    everyone: bool

    @property
    def label(self) -> str:
        """What was done to it."""
        to = " to all its processes" if self.everyone else ""
        return f"{self.name}, {'+'.join(number.name for number in self.numbers)}{to} after {self.after:.3f} s"


def run(seconds: float, folder: Path) -> Outcome:
    """Signal commands on one daemon of a random release."""
    recorder = Recorder("signals", seconds)
    seed = random.SystemRandom().getrandbits(32)
    with Registry(folder / "registry") as registry, Containerd(random.Random(seed).choice(VERSIONS), folder) as daemon:
        reference = registry.push(_IMAGE, "lab/soak-signals:1")
        daemon.cri_pull(reference)
        archive = folder / "image.tar"
        if auditor_here("export", "--address", daemon.socket, reference, "-o", archive).status:
            raise Failed("the image cannot be exported")
        words = {"SOCKET": str(daemon.socket), "IMAGE": reference, "ARCHIVE": str(archive)}
        for number in recorder.rounds():
            started = time.monotonic()
            if number % _ROUNDS == 0:
                _require_whole(recorder, daemon, folder)
                faults.flip(daemon, random.Random(seed + number).choice(_IMAGE.layers).digest)
            _round(recorder, folder / str(number), words, random.Random(seed + number))
            recorder.slowest_seconds = max(recorder.slowest_seconds, time.monotonic() - started)
            recorder.slowest = f"a whole round by the clock, {daemon.version}"
        _require_whole(recorder, daemon, folder)
    recorder.peak_mib = peak_mib()
    return recorder.outcome()


def _round(recorder: Recorder, folder: Path, words: Mapping[str, str], chance: random.Random) -> None:
    names = chance.sample(sorted(_COMMANDS), k=_TOGETHER)
    runs = [_started(name, folder / str(number), words, chance) for number, name in enumerate(names)]
    with ThreadPoolExecutor(_TOGETHER) as pool:
        list(pool.map(_send, runs))
    for each in runs:
        try:
            recorder.add(f"{each.name}: {_judged(each)}")
        except Failed as error:
            recorder.fail(f"{each.label}: {error}", (each.folder.with_suffix(".log")).read_bytes(), suffix=".log")


def _require_whole(recorder: Recorder, daemon: Containerd, folder: Path) -> None:
    """Record a failure where a repair after the signals does not find or make everything intact."""
    try:
        _check_whole(daemon)
    except Failed as error:
        logs = b"".join(path.name.encode() + b"\n" + path.read_bytes() for path in folder.glob("*/*.log"))
        recorder.fail(str(error), logs, suffix=".log")


def _started(name: str, folder: Path, words: Mapping[str, str], chance: random.Random) -> _Run:
    folder.mkdir(parents=True)
    line = [
        {**words, "OUT": str(folder)}.get(word, word).replace("OUT/", f"{folder}/") for word in _COMMANDS[name].split()
    ]
    with folder.with_suffix(".log").open("wb") as log, Path(words["ARCHIVE"]).open("rb") as archive:
        process = subprocess.Popen(
            [sys.executable, "-m", "auditor", *line],
            cwd=ROOT,
            env=environment(),
            stdin=archive,
            stdout=subprocess.DEVNULL if name.endswith("pipe") else log,
            stderr=log,
        )
    numbers = tuple(chance.choice(_SIGNALS) for _ in range(chance.choice((1, 1, 1, 2, 5))))
    after = chance.choice((0.0, 0.1, 1.0, 3.0)) * chance.random()
    return _Run(name, process, folder, numbers, after, everyone=chance.random() < 0.5)


def _send(run: _Run) -> None:
    """Send the signals of a run; Python before its first handler is not ours to judge."""
    while run.process.poll() is None and not _handles(run.process.pid):
        time.sleep(0.001)
    time.sleep(run.after)
    for number in run.numbers:
        for pid in _started_by(run.process.pid) if run.everyone else ():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        run.process.send_signal(number)


def _started_by(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    found = []
    with suppress(OSError):
        found = [int(word) for path in lists for word in path.read_text().split()]
    return found


def _handles(pid: int) -> bool:
    """Whether a process has set its first signal handlers, of which that of SIGTERM is the last."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return True
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def _judged(run: _Run) -> str:
    """Return how a run ended. Raises Failed where that is not as promised."""
    try:
        status = run.process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        stacks = _stacks(run.process.pid)
        run.process.kill()
        run.process.wait()
        raise Failed(f"did not end within {_PATIENCE:.0f} s\n{stacks}") from None
    said = run.folder.with_suffix(".log").read_text(errors="replace")
    ended = set().union(*(_ENDED[number] for number in run.numbers))
    if status == _REFUSED and run.name.startswith("repair") and _ANOTHER in said:
        return "refused beside another one"
    if any(bug in said for bug in _BUGS) or status not in ended | {0, 1}:
        raise Failed(f"status {status}: {said[-2000:]}")
    left = {path.name for path in run.folder.iterdir()} - _OUTPUTS
    left = {name for name in left if not name.startswith("scrub.db")}
    if left:
        raise Failed(f"status {status}, left behind: {left}")
    _check_outputs(run)
    if status in (0, 1):
        return "stopped" if run.name in _LASTING else "ended before the signal"
    return "ended by the signal"


def _stacks(pid: int) -> str:
    """Return where the threads of a process are, if py-spy is there."""
    spy = Path(sys.executable).with_name("py-spy")
    if not spy.exists():
        return ""
    return subprocess.run([spy, "dump", "--pid", str(pid)], capture_output=True, text=True, check=False).stdout


def _check_outputs(run: _Run) -> None:
    """An archive and a report are whole or absent."""
    archive, report = run.folder / "image.tar", run.folder / "report.json"
    if archive.exists() and auditor_here("verify", "--quiet", archive).status:
        raise Failed("a part of an archive was left")
    if report.exists() and auditor_here("report", "--quiet", report).status == 2:
        raise Failed("a part of a report was left")


def _check_whole(daemon: Containerd) -> None:
    """A further repair finds the store usable, and leaves everything intact and nothing of its own."""
    repaired = auditor_here("repair", "--yes", "--verify", "digests", "--address", daemon.socket)
    checked = auditor_here("check", "--verify", "digests", "--address", daemon.socket)
    if repaired.status or checked.status:
        raise Failed(f"repair {repaired.status}, check {checked.status}: {repaired.err}{checked.out[-1500:]}")
    if left := [*ours(daemon), *_running(daemon)]:
        raise Failed(f"left behind: {left}")


def _running(daemon: Containerd) -> Iterable[str]:
    """Second processes of ended commands; they get some seconds to see that."""
    end = time.monotonic() + 30
    while (found := list(_processes(str(daemon.socket).encode()))) and time.monotonic() < end:
        time.sleep(0.05)
    return found


def _processes(socket: bytes) -> Iterable[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes()
        except OSError:
            continue
        if socket in line.split(b"\0") and b"auditor" in line and int(path.parent.name) != os.getpid():
            yield line.replace(b"\0", b" ").decode(errors="replace")
