"""Repairs of random damage that something disturbs at a random instant: nothing intact is lost, the next run finishes.

Disturbances: a kill of the repair, of it and its watchdog, SIGTERM, a daemon that is killed and started again, garbage
collection, removal of another image, a second repair, a full disk, no inodes, a content root that is read-only.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from tests import images
from tests.images import sha256
from tests.lab.kit import faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.registry import Registry
from tests.lab.repaired import Dump, dump, ours
from tests.program import ROOT, environment
from tests.soak.record import Failed, Outcome, Recorder, peak_mib

_LAYERS: Final = [images.layer(images.files(f"soak-{number}", kilobytes=400)) for number in range(3)]
_IMAGE: Final = images.image(_LAYERS)
_OTHER: Final = images.image([_LAYERS[0], images.layer(images.files("soak-other"))])
_SECOND: Final = "second"
#: Seconds in which an undisturbed repair of this size ends; disturbances come within this time.
_SPAN: Final = 1.5
_ISOLATED: Final = {
    "1": '[plugins."io.containerd.metadata.v1.bolt"]\n  content_sharing_policy = "isolated"\n',
    "2": "[plugins.'io.containerd.metadata.v1.bolt']\n  content_sharing_policy = 'isolated'\n",
}


@dataclass
class _Stage:
    """A daemon on a small disk with images in two namespaces, and the references to pull them again."""

    daemon: Containerd
    reference: str
    other: str
    whole: Dump

    def restore(self) -> None:
        """Pull what a disturbance removed."""
        self.daemon.ctr("images", "pull", "--plain-http", self.other, namespace=_SECOND)


def run(seconds: float, folder: Path) -> Outcome:
    """Disturb repairs, on the three releases in turn."""
    recorder = Recorder("repairs", seconds)
    chance = random.SystemRandom()
    with ExitStack() as stack, Registry(folder / "registry") as registry:
        stages = {}
        for number in recorder.rounds():
            version = VERSIONS[-1 - number % len(VERSIONS)]
            isolated = version == "1.7"
            if version not in stages:
                stages[version] = stack.enter_context(_stage(folder / version, version, registry, isolated=isolated))
            _round(recorder, stages[version], chance, folder)
        recorder.peak_mib = max(recorder.peak_mib, peak_mib())
    return recorder.outcome()


@contextmanager
def _stage(base: Path, version: str, registry: Registry, *, isolated: bool) -> Iterator[_Stage]:
    (base / "root").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,nr_inodes=4000", "lab", base / "root"], check=True)
    try:
        extra = _ISOLATED["1" if version.startswith("1.") else "2"] if isolated else ""
        with Containerd(version, base, extra_config=extra) as daemon:
            reference, other = registry.push(_IMAGE, "lab/soak:1"), registry.push(_OTHER, "lab/soak-other:1")
            daemon.cri_pull(reference)
            for name in (reference, other):
                daemon.ctr("images", "pull", "--plain-http", name, namespace=_SECOND)
            for namespace in (CRI_NAMESPACE, _SECOND):
                daemon.force_gc(namespace)
            yield _Stage(daemon, reference, other, dump(daemon))
    finally:
        subprocess.run(["umount", "--lazy", base / "root"], check=True)


def _round(recorder: Recorder, stage: _Stage, chance: random.Random, folder: Path) -> None:
    """Damage, disturb a repair, look, repair again, look again."""
    kind = chance.choice(list(_DISTURBANCES))
    planted = _plant(stage.daemon, chance)
    api = chance.random() < 0.5
    after = chance.random() * _SPAN
    label = f"{kind} after {after:.2f} s, api {api}, {stage.daemon.version}, {planted}"
    before = dump(stage.daemon)
    with recorder.timed(label):
        try:
            _disturbed(stage, kind, after, api=api, folder=folder)
            _check_no_loss(stage, before, {digest for digest, _ in planted}, removed=kind == "remove image")
            stage.restore()
            # A collection takes the snapshots that a lost record protected; a pull unpacks them again.
            collected = any(damage == "record" for _, damage in planted)
            _check_whole(stage, folder, unpacked=not collected)
            if collected:
                stage.daemon.cri_pull(stage.reference)
            recorder.add(kind, seconds=0.0, label=label)
        except (Failed, AssertionError, OSError, subprocess.SubprocessError) as error:
            log = b"\n".join(
                path.read_bytes() for path in (folder / "first.log", folder / "again.log") if path.exists()
            )
            recorder.fail(f"{label}: {error}", log, suffix=".log")


def _plant(daemon: Containerd, chance: random.Random) -> list[tuple[str, str]]:
    """Damage one or two blobs; return what was done to which."""
    digests = chance.sample([*(layer.digest for layer in _LAYERS), _IMAGE.config_digest, _IMAGE.digest], k=2)
    planted = []
    for digest in digests[: chance.choice((1, 2))]:
        kind = chance.choice(("flip", "delete", "empty", "shorten", "record"))
        if kind == "record":
            faults.remove_record(daemon, digest)
        else:
            _FAULTS[kind](daemon, digest)
        planted.append((digest, kind))
    return planted


_FAULTS: Final[dict[str, Callable[[Containerd, str], None]]] = {
    "flip": faults.flip,
    "delete": faults.delete_file,
    "empty": faults.empty_file,
    "shorten": faults.shorten,
}


def _start(stage: _Stage, log: Path, *, api: bool, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    line = ["repair", "--yes", "--verify", "digests", "--address", str(stage.daemon.socket)]
    root = ["--content-root", "none"] if api else []
    with log.open("wb") as out:
        return subprocess.Popen(
            [*before, sys.executable, "-m", "auditor", *line, *root],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )


def _disturbed(stage: _Stage, kind: str, after: float, *, api: bool, folder: Path) -> None:
    """Run a repair, and disturb it after some time."""
    log = folder / "first.log"
    root = stage.daemon.content_root
    bound = f'mount --bind {root} {root} && mount -o remount,ro,bind {root} && exec "$@"'
    before = ("unshare", "-m", "sh", "-c", bound, "sh") if kind == "read-only" else ()
    process = _start(stage, log, api=api, before=before)
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(after)
        _DISTURBANCES[kind](stage, process)
        status = process.wait(60)
    finally:
        process.kill()
        process.wait()
    _wait_for_watchdogs(stage.daemon)
    _check_log(log, status, {0, 1, 3, 143, -signal.SIGKILL, -signal.SIGTERM})


def _check_log(log: Path, status: int, allowed: set[int]) -> None:
    said = log.read_text(errors="replace")
    if "Traceback" in said or "a bug in auditor" in said or status not in allowed:
        raise Failed(f"status {status}: {said[-1500:]}")


def _watchdogs(daemon: Containerd) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if any(word.endswith(b"repair_watchdog.py") for word in words) and str(daemon.socket).encode() in words:
                found.append(int(path.parent.name))
    return found


def _wait_for_watchdogs(daemon: Containerd) -> None:
    end = time.monotonic() + 30
    while _watchdogs(daemon) and time.monotonic() < end:
        time.sleep(0.02)


def _kill(_stage: _Stage, process: subprocess.Popen[bytes]) -> None:
    process.kill()


def _kill_both(stage: _Stage, process: subprocess.Popen[bytes]) -> None:
    for pid in _watchdogs(stage.daemon):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.kill()


def _terminate(_stage: _Stage, process: subprocess.Popen[bytes]) -> None:
    process.terminate()


def _restart(stage: _Stage, _process: subprocess.Popen[bytes]) -> None:
    stage.daemon.kill()
    stage.daemon.start()


def _collect(stage: _Stage, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        for namespace in (CRI_NAMESPACE, _SECOND):
            stage.daemon.force_gc(namespace)


def _remove(stage: _Stage, _process: subprocess.Popen[bytes]) -> None:
    stage.daemon.ctr("images", "rm", "--sync", stage.other, namespace=_SECOND)


def _second(stage: _Stage, _process: subprocess.Popen[bytes]) -> None:
    other = _start(stage, stage.daemon.base / "second.log", api=True)
    _check_log(stage.daemon.base / "second.log", other.wait(60), {0, 1, 3})


def _full(stage: _Stage, process: subprocess.Popen[bytes]) -> None:
    filler = stage.daemon.root / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    process.wait(60)
    filler.unlink()


def _no_inodes(stage: _Stage, process: subprocess.Popen[bytes]) -> None:
    folder = stage.daemon.root / "fillers"
    folder.mkdir()
    with suppress(OSError):
        for number in range(10_000):
            (folder / str(number)).touch()
    process.wait(60)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def _nothing(_stage: _Stage, _process: subprocess.Popen[bytes]) -> None:
    """Disturb nothing; the content root is read-only for this repair."""


_DISTURBANCES: Final[dict[str, Callable[[_Stage, subprocess.Popen[bytes]], None]]] = {
    "kill": _kill,
    "kill with watchdog": _kill_both,
    "terminate": _terminate,
    "restart": _restart,
    "collect": _collect,
    "remove image": _remove,
    "second repair": _second,
    "full disk": _full,
    "no inodes": _no_inodes,
    "read-only": _nothing,
}


def _check_no_loss(stage: _Stage, before: Dump, planted: set[str], *, removed: bool) -> None:
    """Every file that was intact still is; files that were damaged are as they were, or right."""
    mine = set(_OTHER.blobs) - set(_IMAGE.blobs) if removed else set()
    for digest, (content, _, _) in before.files.items():
        path = stage.daemon.blob_path(digest)
        if digest in mine:
            continue
        if f"sha256:{content}" == digest and digest not in planted:
            if not path.is_file() or sha256(path.read_bytes()) != digest:
                raise Failed(f"{digest} was intact before and is not now")
        elif path.is_file() and sha256(path.read_bytes()) not in (digest, f"sha256:{content}"):
            raise Failed(f"{digest} is damaged in another way than before")


def _check_whole(stage: _Stage, folder: Path, *, unpacked: bool) -> None:
    """The next run repairs everything and leaves nothing of its own."""
    log = folder / "again.log"
    _check_log(log, _start(stage, log, api=False).wait(120), {0})
    for namespace in (CRI_NAMESPACE, _SECOND):
        stage.daemon.force_gc(namespace)
    now = dump(stage.daemon)
    left = ours(stage.daemon)
    if left:
        raise Failed(f"left behind: {left}")
    wrong = [digest for digest, (content, _, _) in now.files.items() if f"sha256:{content}" != digest]
    lost = set(stage.whole.files) - set(now.files)
    if wrong or lost:
        raise Failed(f"wrong {wrong}, lost {lost}")
    found, wanted = _unlabelled(now), _unlabelled(stage.whole)
    for kind in ("images", "records", *(("snapshots",) if unpacked else ())):
        one, other = getattr(found, kind), getattr(wanted, kind)
        if one != other:
            raise Failed(f"{kind} differ: {sorted(_pairs(one) ^ _pairs(other))}")


def _pairs(found: Iterable[object]) -> set[str]:
    return {repr(each) for each in (found.items() if isinstance(found, Mapping) else found)}


def _unlabelled(found: Dump) -> Dump:
    """A dump without what a new record or a new pull cannot have: the diffID label, the order of leases."""
    records = {
        key: (size, tuple(pair for pair in labels if pair[0] != "containerd.io/uncompressed"))
        for key, (size, labels) in found.records.items()
    }
    return replace(found, records=records, leases=frozenset(), ingests=frozenset(), others=frozenset(), files={})
