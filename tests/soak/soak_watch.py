"""A store that moves under `auditor watch`: pulls, tags, removals, imports, collections; nothing is told of it.

At the end a record is removed and the image pulled again, which has to be told: a watch that looks at nothing fails.
"""

from __future__ import annotations

import json
import queue
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import grpc

from tests import images
from tests.lab.checked import ROOT, environment
from tests.lab.kit import faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry
from tests.soak.record import Failed, Outcome, Recorder, peak_mib

_IMAGES: Final = [
    images.image([images.layer(images.files(f"watch-{number // 3}-{layer}", kilobytes=200)) for layer in range(2)])
    if number % 3
    else images.image([images.layer(images.files(f"watch-own-{number}", kilobytes=400))])
    for number in range(9)
]


def run(seconds: float, folder: Path) -> Outcome:
    """Watch one daemon of a random release while images come and go."""
    recorder = Recorder("watch", seconds)
    chance = random.SystemRandom()
    version = chance.choice(VERSIONS)
    with Registry(folder / "registry") as registry, Containerd(version, folder) as daemon:
        names = [registry.push(built, f"lab/watch-{number}:1") for number, built in enumerate(_IMAGES)]
        with _watching(daemon, folder) as told:
            for _ in recorder.rounds():
                recorder.add(f"{version}: {_move(daemon, names, chance)}")
                time.sleep(chance.choice((0, 0, 0.5, 3)))  # bursts, and pauses in which images settle
                with suppress(queue.Empty):
                    recorder.fail("told of a sound store", json.dumps(told.get_nowait()).encode(), suffix=".json")
            _require_told(daemon, names[0], told, recorder)
    recorder.peak_mib = peak_mib()
    return recorder.outcome()


def _move(daemon: Containerd, names: list[str], chance: random.Random) -> str:
    """Do one thing that clients do; what the daemon refuses meanwhile is no matter."""
    name = chance.choice(names)
    what = chance.choice(("pull", "pull", "pull", "ctr pull", "remove", "tag", "collect"))
    with suppress(grpc.RpcError, subprocess.CalledProcessError):
        match what:
            case "pull":
                daemon.cri_pull(name)
            case "ctr pull":
                daemon.ctr("images", "pull", "--plain-http", name, check=False)
            case "remove":
                daemon.ctr("images", "rm", *chance.choice(((), ("--sync",))), name, check=False)
            case "tag":
                daemon.ctr("images", "tag", "--force", name, f"{name}-{chance.randrange(3)}", check=False)
            case _:
                daemon.force_gc()
    return what


def _require_told(daemon: Containerd, name: str, told: queue.Queue[dict[str, Any]], recorder: Recorder) -> None:
    """Break an image at last; its next pull has to be told."""
    daemon.cri_pull(name)
    digest = _IMAGES[0].layers[0].digest
    faults.remove_record(daemon, digest)
    daemon.cri_pull(name)
    try:
        found = told.get(timeout=60)
    except queue.Empty:
        recorder.fail("a removed record was not told", digest.encode(), suffix=".txt")
        return
    if found["subject"]["digest"] != digest:
        raise Failed(f"told of {found['subject']}")
    recorder.add("a removed record was told")


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
