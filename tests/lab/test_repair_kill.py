"""kill -9 of a repair at every step of every procedure: no blob is worse than before, and a new run finishes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import pytest

from auditor import containerd
from tests import images
from tests.images import sha256
from tests.lab.conftest import StartDaemon
from tests.lab.killing import Killer, killer
from tests.lab.kit import faults
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.registry import Registry
from tests.lab.repaired import Dump, dump, ours

LAYERS = [images.layer(images.files(f"kill-{number}", kilobytes=8)) for number in range(3)]
IMAGE = images.image(LAYERS)
INDEX = images.index([IMAGE])
SECOND = "second"
LAYER, CONFIG, MANIFEST = LAYERS[1].digest, IMAGE.config_digest, IMAGE.digest


@dataclass(frozen=True)
class Procedure:
    """A way to repair: what is broken, and how the auditor is called."""

    name: str
    version: str
    target: str
    plant: Callable[[Containerd, str], None]
    arguments: Sequence[str] = ()
    namespaces: int = 1


def flip(daemon: Containerd, digest: str) -> None:
    faults.flip(daemon, digest)


def lose(daemon: Containerd, digest: str) -> None:
    faults.remove_record(daemon, digest)
    with containerd.connect_writable(daemon.socket) as store:
        store.collect_garbage(CRI_NAMESPACE)


API = ("--content-root", "none")
PROCEDURES = [
    Procedure("fetch a layer", "2.1", LAYER, lose),
    Procedure("adopt a layer", "1.6", LAYER, lose, namespaces=2),
    Procedure("replace a layer's file", "1.7", LAYER, flip),
    Procedure("replace a lost file", "2.1", LAYER, faults.delete_file),
    Procedure("replace a manifest's file", "2.1", MANIFEST, flip, namespaces=2),
    Procedure("swap a layer", "1.6", LAYER, flip, API),
    Procedure("swap a manifest in two namespaces", "2.1", MANIFEST, flip, API, 2),
    Procedure("swap a config in two namespaces", "1.7", CONFIG, flip, API, 2),
]


@dataclass
class Stage:
    """A daemon with an image in it, whole, and what kills repairs of it; `wide` demands every step."""

    daemon: Containerd
    registry: Registry
    killer: Killer
    whole: Dump
    namespaces: Sequence[str]
    wide: bool

    def steps(self, procedure: Procedure, *, apart: int) -> Iterator[int]:
        """Yield the steps to end at: each one, or one in `apart`, with another first step for each procedure."""
        return count(1) if self.wide else count(1 + PROCEDURES.index(procedure) % apart, apart)

    def collect(self) -> None:
        with containerd.connect_writable(self.daemon.socket) as store:
            for namespace in self.namespaces:
                store.collect_garbage(namespace)


@pytest.fixture
def stage(request: pytest.FixtureRequest, start_daemon: StartDaemon, base: Path) -> Iterator[tuple[Procedure, Stage]]:
    procedure: Procedure = request.param
    with Registry(base / "registry") as registry, killer(base) as killing:
        daemon = start_daemon(procedure.version)
        reference = registry.push(INDEX, "lab/kill:1")
        daemon.cri_pull(reference)
        namespaces = [CRI_NAMESPACE]
        if procedure.namespaces == 2:
            daemon.ctr("images", "pull", "--plain-http", reference, namespace=SECOND)
            namespaces.append(SECOND)
        made = Stage(daemon, registry, killing, dump(daemon), namespaces, request.config.getoption("--wide"))
        made.collect()
        made.whole = dump(daemon)
        yield procedure, made


def wait_for_guards(daemon: Containerd) -> None:
    """Return when no second process is left that goes on with what a kill cut off."""
    while any(_guards(path, str(daemon.socket)) for path in Path("/proc").glob("[0-9]*/cmdline")):
        time.sleep(0.02)


def _guards(path: Path, socket: str) -> bool:
    try:
        words = path.read_bytes().split(b"\0")
    except OSError:
        return False
    return any(word.endswith(b"repair_watchdog.py") for word in words) and socket.encode() in words


def without_diff_id(found: Dump, digest: str) -> Dump:
    """A dump less the label that went with the record, and that only unpacking brings back."""
    records = {
        key: (size, tuple(pair for pair in labels if key[1] != digest or pair[0] != "containerd.io/uncompressed"))
        for key, (size, labels) in found.records.items()
    }
    return replace(found, records=records)


def check_state(procedure: Procedure, stage: Stage, before: Dump) -> None:
    """After a kill: the blob is as it was or right, and nothing else is less than it was."""
    target, daemon = procedure.target, stage.daemon
    now = without_diff_id(dump(daemon), target)
    before, whole = without_diff_id(before, target), without_diff_id(stage.whole, target)
    for key, record in whole.records.items():
        if key[1] != target:
            assert now.records.get(key) == record, key
    for digest, file in before.files.items():
        if digest != target:
            assert now.files[digest] == file
    assert now.images == whole.images
    assert now.snapshots == whole.snapshots
    for namespace in stage.namespaces:
        was = before.records.get((namespace, target))
        assert now.records.get((namespace, target)) in (was, whole.records[namespace, target])
    path = daemon.blob_path(target)
    good = path.is_file() and sha256(path.read_bytes()) == target
    assert good or now.files.get(target) == before.files.get(target)


def check_whole(procedure: Procedure, stage: Stage) -> None:
    """Everything is as it was before it was broken."""
    target = procedure.target
    assert without_diff_id(dump(stage.daemon), target) == without_diff_id(stage.whole, target)


def command(procedure: Procedure, stage: Stage, *more: str) -> list[str]:
    address = ("--address", str(stage.daemon.socket))
    return ["repair", *address, "--yes", "--verify", "digests", "--jobs", "1", *procedure.arguments, *more]


@pytest.mark.sweep
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("stage", PROCEDURES, indirect=True, ids=lambda p: f"{p.name} on {p.version}".replace(" ", "-"))
def test_a_repair_killed_at_any_step_leaves_the_store_no_worse(stage: tuple[Procedure, Stage]) -> None:
    procedure, made = stage
    last = 0
    for last in made.steps(procedure, apart=5):
        procedure.plant(made.daemon, procedure.target)
        before = dump(made.daemon)
        ended = made.killer.run(*command(procedure, made), last=last, real_watchdog=made.wide or last // 5 % 4 == 2)
        if ended.status == 0:
            break
        assert ended.status == -signal.SIGKILL, (last, made.killer.said)
        wait_for_guards(made.daemon)
        check_state(procedure, made, before)
        made.collect()
        check_state(procedure, made, before)
        finished = made.killer.run(*command(procedure, made))
        assert finished.status == 0, (last, made.killer.said)
        check_whole(procedure, made)
        assert not ours(made.daemon), last
    check_whole(procedure, made)
    assert last > 8
    print(f"{procedure.name} on {procedure.version}: {last - 1} steps")


@pytest.mark.sweep
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "stage", [PROCEDURES[0], PROCEDURES[2], PROCEDURES[-2]], indirect=True, ids=lambda p: p.name.replace(" ", "-")
)
def test_a_repair_that_is_asked_to_end_takes_everything_of_its_own_along(stage: tuple[Procedure, Stage]) -> None:
    procedure, made = stage
    for last in made.steps(procedure, apart=7):
        procedure.plant(made.daemon, procedure.target)
        before = dump(made.daemon)
        ended = made.killer.run(*command(procedure, made), last=last, number=signal.SIGTERM)
        assert ended.status in (0, 143), (last, made.killer.said)
        check_state(procedure, made, before)
        assert not ours(made.daemon), last
        assert made.killer.run(*command(procedure, made)).status == 0
        check_whole(procedure, made)
        if ended.status == 0 and ended.steps < last:
            break
