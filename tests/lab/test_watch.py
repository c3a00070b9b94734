"""`auditor watch` on each release and dockerd: the bug is told as its pull settles, sound pulls are not."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests import images
from tests.lab.conftest import StartDaemon
from tests.lab.kit import bug, faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.dockerd import Dockerd
from tests.lab.kit.registry import Registry
from tests.program import ROOT, command, environment

PAIR = bug.pair(shared=1, kilobytes=8, name="watch")
SOUND = images.image([images.layer(images.files(f"watch-{number}", kilobytes=8)) for number in range(3)])
HOOK = "import sys, json; json.dump(json.load(sys.stdin)['code'], open(sys.argv[1], 'a'))"


class Watching:
    """A running `auditor watch`: its lines as they come, and the file of its standard error."""

    def __init__(self, process: subprocess.Popen[str], errors: Path) -> None:
        self.process = process
        self._errors = errors
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))

    @property
    def said(self) -> str:
        """What it wrote to standard error."""
        return self._errors.read_text()

    def stop(self) -> None:
        """End it at once."""
        self.process.kill()
        self._reader.join()

    def next(self, seconds: float = 60) -> dict[str, Any]:
        """The next change."""
        return self._lines.get(timeout=seconds)

    def rest(self) -> list[dict[str, Any]]:
        """What was told and not taken."""
        found = []
        while not self._lines.empty():
            found.append(self._lines.get())
        return found

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=30)


@contextmanager
def watching(address: Path, state: Path, *more: str) -> Iterator[Watching]:
    line = command("watch", "--address", address, "--state", state, "--format", "json", *more)
    errors = state.with_name("errors")
    with (
        errors.open("w") as file,
        subprocess.Popen(line, stdout=subprocess.PIPE, stderr=file, text=True, cwd=ROOT, env=environment()) as process,
    ):
        watch = Watching(process, errors)
        try:
            yield watch
        finally:
            watch.stop()


@pytest.mark.parametrize("version", VERSIONS)
def test_each_fault_is_told_once_when_it_appears_and_when_it_goes(
    version: str, start_daemon: StartDaemon, registry: Registry, base: Path
) -> None:
    daemon = start_daemon(version)
    before = bug.reproduce(daemon, registry, built=bug.pair(shared=1, kilobytes=8, name="old"), name="watch-old")
    hook = (sys.executable, "-c", HOOK, str(base / "codes"))
    with watching(daemon.socket, base / "state", "--exec", " ".join(map(_quoted, hook))) as watch:
        known = watch.next()
        assert (known["change"], known["subject"]["digest"]) == ("new", before.skipped[0])
        daemon.cri_pull(registry.push(SOUND, "lab/watch-sound:1"))
        found = bug.reproduce(daemon, registry, built=PAIR, name="watch")
        told = watch.next()
        assert (told["change"], told["severity"], told["subject"]["digest"]) == ("new", "error", found.skipped[0])
        assert told["images"][0]["name"] == found.second
        daemon.stop()
        faults.delete_file(daemon, SOUND.layers[1].digest)
        daemon.start()
        lost = watch.next()
        assert (lost["change"], lost["subject"]["digest"]) == ("new", SOUND.layers[1].digest)
        daemon.ctr("images", "rm", "--sync", *_names(daemon, PAIR.second, "watch-second"))
        gone = watch.next()
        assert (gone["change"], gone["subject"]["digest"]) == ("gone", found.skipped[0])
        while found.skipped[0] in (base / "state").read_text():  # it is recorded after it was told
            time.sleep(0.01)
        assert watch.end() == 0
        assert watch.rest() == []
        assert "daemon is back" in watch.said
    assert (base / "codes").read_text().count(told["code"]) >= 2
    with watching(daemon.socket, base / "state") as watch:
        faults.remove_record(daemon, SOUND.layers[0].digest)
        daemon.cri_pull(registry.push(SOUND, "lab/watch-sound:1"))
        assert watch.next()["subject"]["digest"] == SOUND.layers[0].digest
        assert watch.rest() == []
        assert watch.end() == 0


def _quoted(word: str) -> str:
    return f"'{word}'" if "'" not in word else f'"{word}"'


def _names(daemon: Containerd, built: images.BuiltImage, part: str) -> list[str]:
    """All names of an image, those that the CRI adds too."""
    return [name for name in daemon.images() if part in name or name == built.config_digest]


def test_docker_pulls_are_seen_as_well(dockerd: Dockerd, registry: Registry, base: Path) -> None:
    before = bug.reproduce_docker(dockerd, registry, built=bug.pair(shared=1, kilobytes=8, name="od"), name="watch-od")
    with watching(dockerd.containerd.socket, base / "state") as watch:
        assert watch.next()["subject"]["digest"] == before.skipped[0]
        found = bug.reproduce_docker(
            dockerd, registry, built=bug.pair(shared=1, kilobytes=8, name="dk"), name="watch-dk"
        )
        assert watch.next()["subject"]["digest"] == found.skipped[0]
        assert watch.end() == 0


def test_a_daemon_that_hangs_is_told_and_watched_again(
    start_daemon: StartDaemon, registry: Registry, base: Path
) -> None:
    """The call for the first check meets it; the heartbeat of a quiet stream is a unit test."""
    daemon = start_daemon(VERSIONS[-1])
    daemon.cri_pull(registry.push(SOUND, "lab/watch-hang:1"))
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        with watching(daemon.socket, base / "state", "--timeout", "1s") as watch:
            deadline = time.monotonic() + 30
            while not watch.said and time.monotonic() < deadline:
                time.sleep(0.05)
            assert "did not answer" in watch.said
            os.kill(daemon.pid, signal.SIGCONT)
            while "is back" not in watch.said and time.monotonic() < deadline:
                time.sleep(0.05)
            assert "is back" in watch.said
            assert watch.end() == 0
    finally:
        os.kill(daemon.pid, signal.SIGCONT)
