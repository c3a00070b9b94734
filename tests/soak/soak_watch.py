"""Stores that move under `auditor watch`: pulls, tags, removals, collections; nothing is told of them.

There is one daemon of each release, and one of docker. At the end a record is removed from each and the image pulled
again, which has to be told: a watch that looks at nothing fails.
"""

from __future__ import annotations

import json
import math
import queue
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import grpc

from tests import images
from tests.lab.kit import faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.dockerd import MOBY_NAMESPACE, Dockerd, DockerError
from tests.lab.kit.registry import Registry
from tests.program import ROOT, environment
from tests.soak.record import Failed, Outcome, Recorder, peak_mib

_IMAGES: Final = [
    images.image([images.layer(images.files(f"watch-{number // 3}-{layer}", kilobytes=200)) for layer in range(2)])
    if number % 3
    else images.image([images.layer(images.files(f"watch-own-{number}", kilobytes=400))])
    for number in range(9)
]


@dataclass(frozen=True)
class Moved:
    """A store that is moved, and what its watch tells."""

    name: str
    daemon: Containerd
    docker: Dockerd | None
    told: queue.Queue[dict[str, Any]]

    def pull(self, name: str) -> None:
        """Pull an image as the kubelet or docker does."""
        self.docker.pull(name) if self.docker else self.daemon.cri_pull(name)


def run(seconds: float, folder: Path) -> Outcome:
    """Watch a daemon of each release and one of docker at once, while images come and go in one or the other."""
    recorder = Recorder("watch", seconds)
    chance = random.SystemRandom()
    with Registry(folder / "registry") as registry, ExitStack() as stack:
        names = [registry.push(built, f"lab/watch-{number}:1") for number, built in enumerate(_IMAGES)]
        stores = [
            *(_store(stack, version, folder / version) for version in VERSIONS),
            _docker(stack, folder / "docker"),
        ]
        for _ in recorder.rounds():
            moved = chance.choice(stores)
            recorder.add(f"{moved.name}: {_move(moved, names, chance)}")
            time.sleep(chance.choice((0, 0, 0.5, 3)))  # bursts, and pauses in which images settle
            for each in stores:
                _require_silence(each, recorder)
        for each in stores:
            _require_told(each, names[0], recorder)
    recorder.peak_mib = peak_mib()
    return recorder.outcome()


def _store(stack: ExitStack, version: str, folder: Path) -> Moved:
    daemon = stack.enter_context(Containerd(version, folder))
    return Moved(version, daemon, None, stack.enter_context(_watching(daemon, folder)))


def _docker(stack: ExitStack, folder: Path) -> Moved:
    daemon = stack.enter_context(Containerd("1.7", folder))
    docker = stack.enter_context(Dockerd(daemon, folder / "dockerd"))
    return Moved("docker", daemon, docker, stack.enter_context(_watching(daemon, folder)))


def _require_silence(moved: Moved, recorder: Recorder) -> None:
    with suppress(queue.Empty):
        told = json.dumps(moved.told.get_nowait()).encode()
        recorder.fail(f"{moved.name}: told of a sound store", told, suffix=".json")


def _move(moved: Moved, names: list[str], chance: random.Random) -> str:
    """Do one thing that clients do; what the daemon refuses meanwhile is no matter."""
    name = chance.choice(names)
    what = chance.choice(("pull", "pull", "pull", "other pull", "remove", "tag", "collect"))
    with suppress(grpc.RpcError, subprocess.CalledProcessError, DockerError):
        match what:
            case "pull":
                moved.pull(name)
            case "collect":
                moved.daemon.force_gc()
            case _ if moved.docker:
                _docker_move(moved.docker, what, name, chance)
            case "other pull":
                moved.daemon.ctr("images", "pull", "--plain-http", name, check=False)
            case "remove":
                moved.daemon.ctr("images", "rm", *chance.choice(((), ("--sync",))), name, check=False)
            case _:
                moved.daemon.ctr("images", "tag", "--force", name, f"{name}-{chance.randrange(3)}", check=False)
    return what


def _docker_move(docker: Dockerd, what: str, name: str, chance: random.Random) -> None:
    image = quote(name, safe="")
    match what:
        case "remove":
            docker.request("DELETE", f"/images/{image}?force=1")
        case "tag":
            repository = name.rpartition(":")[0]
            docker.request("POST", f"/images/{image}/tag?repo={quote(repository, safe='')}&tag=1-{chance.randrange(3)}")
        case _:
            docker.containerd.ctr("images", "pull", "--plain-http", name, namespace=MOBY_NAMESPACE, check=False)


def _require_told(moved: Moved, name: str, recorder: Recorder) -> None:
    """Break an image at last; its next pull has to be told."""
    moved.pull(name)
    digest = _IMAGES[0].layers[0].digest
    faults.remove_record(moved.daemon, digest, namespace=MOBY_NAMESPACE if moved.docker else CRI_NAMESPACE)
    moved.pull(name)
    pulled = time.monotonic()
    try:
        found = moved.told.get(timeout=60)
    except queue.Empty:
        recorder.fail(f"{moved.name}: a removed record was not told", digest.encode(), suffix=".txt")
        return
    if found["subject"]["digest"] != digest:
        raise Failed(f"{moved.name}: told of {found['subject']}")
    recorder.add(f"{moved.name}: a removed record was told within {math.ceil(time.monotonic() - pulled)} s")


@contextmanager
def _watching(daemon: Containerd, folder: Path) -> Iterator[queue.Queue[dict[str, Any]]]:
    """Run the watch; its lines as they come."""
    told: queue.Queue[dict[str, Any]] = queue.Queue()
    line = [sys.executable, "-m", "auditor", "watch", "--address", str(daemon.socket), "--every", "1m"]
    with (
        (folder / "watch.log").open("w") as log,
        subprocess.Popen(
            [*line, "--format", "json"], stdout=subprocess.PIPE, stderr=log, text=True, cwd=ROOT, env=environment()
        ) as process,
    ):

        def read() -> None:
            assert process.stdout is not None
            for text in process.stdout:
                told.put(json.loads(text))

        reader = threading.Thread(target=read)
        reader.start()
        try:
            yield told
        finally:
            process.terminate()
            reader.join()
