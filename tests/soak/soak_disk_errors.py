"""Errors of a disk at any call of a command, injected by strace: EIO, no space, read-only.

A command runs once under strace, which lists its calls on the store and on its outputs. Later runs get an error at one
of these calls, once or from then on. An intact store is never called damaged, nothing intact is lost, and an archive is
whole or absent.
"""

from __future__ import annotations

import json
import random
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests import images
from tests.images import sha256
from tests.lab.checked import auditor_here
from tests.lab.kit import faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry
from tests.lab.repaired import ours
from tests.soak.record import Ended, Failed, Outcome, Recorder, peak_mib, run_auditor

_IMAGE: Final = images.image([images.layer(images.files(f"soak-errors-{n}", kilobytes=300)) for n in range(2)])
#: The words of each command; SOCKET, IMAGE and OUT (a folder of its own) stand for what they name.
_COMMANDS: Final[Mapping[str, str]] = {
    "check": "check --address SOCKET --format json",
    "check digests": "check --address SOCKET --format json --verify digests",
    "check layers": "check --address SOCKET --format json --verify layers",
    "check snapshots": "check --address SOCKET --format json --verify snapshots",
    "check to a file": "check --address SOCKET --format json --output OUT/report.json --textfile OUT/check.prom",
    "scrub": "scrub --address SOCKET --format json --state OUT/scrub.db",
    "repair": "repair --address SOCKET --yes --verify digests",
    "export": "export --address SOCKET IMAGE -o OUT/image.tar",
    "verify": "verify --format json OUT/whole.tar",
}
_CALLS: Final = (
    "openat,read,pread64,write,pwrite64,newfstatat,fstat,lseek,getdents64,rename,renameat,renameat2,link,linkat,unlink,"
    "unlinkat,mkdir,rmdir,ftruncate,fallocate,fsync,fdatasync,fchmod,fchown,utimensat,copy_file_range,sendfile,flock,"
    "readlink,llistxattr,lgetxattr,fgetxattr,fsetxattr,statfs,fstatfs,sync_file_range,fadvise64"
)
_ERRORS: Final = ("EIO", "EIO", "ENOSPC", "EROFS")
#: Codes that a store gets whose disk does not answer.
_UNREADABLE: Final = {"blob-unreadable", "suspect-storage"}
#: In the traceback of an error while Python reads the program's own modules.
_NOT_STARTED: Final = "<frozen importlib._bootstrap>"
_LINE: Final = re.compile(r"(?P<thread>\d+) +(?P<call>[a-z0-9_]+)\(")


@dataclass(frozen=True)
class _Call:
    """A call of a command: its name, its file, and which one of its thread's calls of this name it is, from 1."""

    name: str
    path: str
    number: int

    def failing(self, error: str, *, lasting: bool) -> tuple[str, ...]:
        """Return strace's options for an error at this call; by its file where that is there before the command."""
        known = self.path != "" and Path(self.path).exists()
        # Without the path, all later calls would be those on the pipes of gRPC's threads, too.
        when = ("1+" if lasting else "1") if known else str(self.number)
        inject = f"inject={self.name}:error={error}:when={when}"
        return ("-e", f"trace={self.name}", "-e", inject, *(("-P", self.path) if known else ()))


def run(seconds: float, folder: Path) -> Outcome:
    """Inject errors into commands on one daemon of a random release."""
    recorder = Recorder("disk_errors", seconds)
    if shutil.which("strace") is None:
        recorder.add("no strace")
        return recorder.outcome()
    chance = random.SystemRandom()
    with Registry(folder / "registry") as registry, Containerd(chance.choice(VERSIONS), folder / "node") as daemon:
        reference = registry.push(_IMAGE, "lab/soak-errors:1")
        daemon.cri_pull(reference)
        stage = _Stage(daemon, reference, folder)
        for _ in recorder.rounds():
            name, error = chance.choice(list(_COMMANDS)), chance.choice(_ERRORS)
            call = chance.choice(stage.calls(name))
            options = call.failing(error, lasting=chance.random() < 0.3)
            label = f"{name}, {' '.join(options)}, {daemon.version}"
            with recorder.timed(label):
                try:
                    recorder.add(f"{name}: {stage.run(name, *options)}")
                except Failed as failure:
                    recorder.fail(f"{label}: {failure}", label.encode(), suffix=".txt")
    recorder.peak_mib = peak_mib()
    return recorder.outcome()


class _Stage:
    """A daemon with an image, and the calls of each command on it."""

    def __init__(self, daemon: Containerd, reference: str, folder: Path) -> None:
        self._daemon = daemon
        self._folder = folder
        self._out = folder / "outputs"
        self._whole = folder / "whole.tar"
        self._words = {"SOCKET": str(daemon.socket), "IMAGE": reference}
        self._calls: dict[str, list[_Call]] = {}
        if auditor_here("export", "--address", daemon.socket, reference, "-o", self._whole).status:
            raise Failed("the image cannot be exported")

    def calls(self, name: str) -> list[_Call]:
        """Return the calls of a command on the store and its outputs."""
        if name not in self._calls:
            trace = self._folder / "trace"
            self.run(name, "-yy", "-e", f"trace={_CALLS}", trace=trace)
            self._calls[name] = _calls(trace.read_text(errors="replace"), str(self._folder))
        return self._calls[name]

    def run(self, name: str, *options: str, trace: Path = Path("/dev/null")) -> str:
        """Run a command under strace and judge it; return how it ended. Raises Failed."""
        shutil.rmtree(self._out, ignore_errors=True)
        self._out.mkdir()
        (self._out / "whole.tar").hardlink_to(self._whole)
        if name == "repair":
            faults.flip(self._daemon, _IMAGE.layers[0].digest)
        words = [self._words.get(word, word).replace("OUT/", f"{self._out}/") for word in _COMMANDS[name].split()]
        before = ("strace", "--follow-forks", "--seccomp-bpf", "--quiet=all", "-o", str(trace), *options)
        try:
            ended = run_auditor(*words, folder=self._folder, before=before)
            self._judge(name, ended)
        except Failed as failure:
            if _NOT_STARTED in str(failure):
                return "Python does not start"
            raise
        finally:
            self._mend()
        return f"status {ended.status}"

    def _judge(self, name: str, ended: Ended) -> None:
        if name.startswith(("check", "scrub", "verify")):
            _require_no_alarm(ended, self._out / "report.json")
        archive = self._out / "image.tar"
        if archive.exists() and auditor_here("verify", "--quiet", archive).status:
            raise Failed(f"status {ended.status}, and a part of an archive")
        if name == "export" and ended.status == 0 and not archive.exists():
            raise Failed("status 0 without an archive")
        left = {path.name for path in self._out.iterdir()} - {"whole.tar", "image.tar", "report.json", "check.prom"}
        if left := {each for each in left if not each.startswith("scrub.db")}:
            raise Failed(f"status {ended.status}, left behind: {left}")
        lost = [digest for digest in _IMAGE.blobs if digest != _IMAGE.layers[0].digest and not self._intact(digest)]
        if lost:
            raise Failed(f"status {ended.status}, lost {lost}")

    def _mend(self) -> None:
        """Repair what is damaged, and what an interrupted repair left. Raises Failed where that does not succeed."""
        if self._intact(_IMAGE.layers[0].digest) and not ours(self._daemon):
            return
        repaired = auditor_here("repair", "--yes", "--verify", "digests", "--address", self._daemon.socket)
        if repaired.status or ours(self._daemon) or not self._intact(_IMAGE.layers[0].digest):
            raise Failed(f"the next repair {repaired.status}: {repaired.out[-800:]}{repaired.err}")

    def _intact(self, digest: str) -> bool:
        path = self._daemon.blob_path(digest)
        return path.is_file() and sha256(path.read_bytes()) == digest


def _require_no_alarm(ended: Ended, output: Path) -> None:
    """A report of the intact store names no damage; where there is none, the status says so."""
    text = output.read_bytes() if output.exists() else ended.out
    try:
        report = json.loads(text) if text else {}
    except ValueError:
        if ended.status in (0, 1):
            raise Failed(f"status {ended.status} with {text[-500:]!r}") from None
        return
    loud = [each for each in report.get("findings", ()) if each["severity"] in ("critical", "error")]
    for each in loud:
        if each["code"] not in _UNREADABLE and ": unreadable (" not in each["message"]:  # such as an unpacked file
            raise Failed(f"status {ended.status}, a false alarm: {each['code']} {each['message']}")
    if not report and ended.status in (0, 1):
        raise Failed(f"status {ended.status} without a report")


def _calls(trace: str, folder: str) -> list[_Call]:
    """Return the calls in strace's output that name a file below a folder."""
    counts: Counter[tuple[str, str]] = Counter()
    found = []
    for line in trace.splitlines():
        if (call := _LINE.match(line)) is None:
            continue
        counts[call["thread"], call["call"]] += 1
        if f"{folder}/" in line and "/registry/" not in line:
            path = re.search(re.escape(folder) + r"/[^<>\",]*", line)
            found.append(_Call(call["call"], path[0] if path else "", counts[call["thread"], call["call"]]))
    return found
