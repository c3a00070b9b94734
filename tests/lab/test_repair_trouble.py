"""Repairs under which something gives way: the daemon, the disk, the image, the registry; or that meet another one."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from auditor import containerd
from auditor.audit import audit, collect
from auditor.containerd.find_content_root import ContentRootOption
from auditor.errors import ReadFailed
from auditor.model.blob_source import Hints, Offer, Source
from auditor.model.digest import Digest
from auditor.model.findings import Verify
from auditor.model.store import Store
from auditor.repair.apply import Outcome
from auditor.repair.context import RepairContext
from auditor.repair.needs import Need
from auditor.repair.session import Repair, RepairOptions
from auditor.scrub import verify_blobs, wanted
from auditor.sources.credentials import load_docker_config
from auditor.sources.http import Limits
from auditor.sources.registry import RegistrySource
from auditor.sources.retry import SYSTEM
from tests import images
from tests.images import sha256
from tests.lab.checked import auditor
from tests.lab.conftest import StartDaemon
from tests.lab.hostile import Hostile
from tests.lab.killing import killer
from tests.lab.kit import faults
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import rooted
from tests.lab.kit.registry import Registry
from tests.lab.repaired import dump, ours, repair
from tests.program import ROOT, command, environment

LAYERS = [images.layer(images.files(f"trouble-{number}", kilobytes=600)) for number in range(3)]
IMAGE = images.image(LAYERS)
LAYER = LAYERS[1].digest
OTHER = images.image([LAYERS[0], images.layer(images.files("trouble-other"))])
FILE: ContentRootOption = "auto"
API: ContentRootOption = None


@pytest.fixture
def pulled(daemon: Containerd, registry: Registry) -> Containerd:
    daemon.cri_pull(registry.push(IMAGE, "lab/trouble:1"))
    daemon.cri_pull(registry.push(OTHER, "lab/trouble-other:1"))
    daemon.force_gc()
    return daemon


@dataclass
class Meddling:
    """A source that does something when its bytes are half read."""

    blobs: dict[str, bytes]
    meddle: Callable[[], None]
    name: str = "meddling"
    opened: list[Digest] = field(default_factory=list)

    def describe(self) -> str:
        return "bytes in memory"

    def offers(self, digest: Digest, *, size: int, media_type: str, hints: Hints) -> Offer | None:
        if digest not in self.blobs:
            return None
        return Offer(self.name, digest, size, media_type, self.name, certain=True, hints=hints)

    def open(self, offer: Offer) -> AbstractContextManager[Iterator[bytes]]:
        self.opened.append(offer.digest)
        return self._pieces(self.blobs[offer.digest])

    @contextmanager
    def _pieces(self, data: bytes) -> Iterator[Iterator[bytes]]:
        def pieces() -> Iterator[bytes]:
            yield data[: len(data) // 2]
            self.meddle()
            yield data[len(data) // 2 :]

        yield pieces()


def look(store: Store) -> audit.AuditResult:
    return audit.audit(
        store,
        collect.Request(verify=Verify.DIGESTS),
        clock=lambda: datetime.now(UTC),
        pause=time.sleep,
        read=lambda evidence: audit.Reading({p.digest: p for p in verify_blobs(store, wanted(evidence), jobs=2)}),
    )


def run(
    daemon: Containerd, sources: Sequence[Source], *, root: ContentRootOption = "auto", discarded: bool = False
) -> tuple[Outcome, ...]:
    """Repair in this process from the sources given."""
    with containerd.connect_writable(daemon.socket, content_root=root) as store:
        options = RepairOptions(jobs=2, include_discarded=discarded)
        work = Repair(store, audit=look, sources=lambda _evidence: sources, options=options)
        with work.exclusive():
            work.recover()
            seen = work.audit()
            return work.apply(seen, work.plan(seen)).outcomes


def flip(daemon: Containerd, digest: str) -> None:
    faults.flip(daemon, digest, offset=daemon.blob_path(digest).stat().st_size // 2)


# The image goes


@pytest.mark.parametrize("root", [FILE, API])
def test_an_image_deleted_while_its_blob_is_replaced(pulled: Containerd, root: ContentRootOption) -> None:
    flip(pulled, LAYER)
    source = Meddling(dict(IMAGE.blobs), lambda: delete_image(pulled))
    (outcome,) = run(pulled, [source], root=root)
    assert source.opened
    assert outcome.result == "gone", outcome
    assert "removed meanwhile" in outcome.message
    pulled.force_gc()
    assert pulled.blobs() == set(OTHER.blobs)
    assert not ours(pulled)


def test_an_image_deleted_while_its_blob_is_fetched(pulled: Containerd) -> None:
    faults.remove_record(pulled, LAYER)
    pulled.force_gc()
    (outcome,) = run(pulled, [Meddling(dict(IMAGE.blobs), lambda: delete_image(pulled))])
    assert outcome.result == "repaired"
    pulled.force_gc()
    assert pulled.blobs() == set(OTHER.blobs)
    assert not ours(pulled)


def delete_image(daemon: Containerd) -> None:
    """Remove all names of the image, and collect what only it used."""
    for name in daemon.images():
        if "trouble@" in name or "trouble:1" in name or name == IMAGE.config_digest:
            daemon.ctr("images", "rm", "--sync", name)


# The daemon goes


@pytest.mark.parametrize("root", [FILE, API])
def test_containerd_killed_in_the_middle_of_the_bytes(pulled: Containerd, root: ContentRootOption) -> None:
    faults.remove_record(pulled, LAYERS[2].digest)
    flip(pulled, LAYER)
    pulled.force_gc()
    before = dump(pulled)
    with suppress(Exception):
        run(pulled, [Meddling(dict(IMAGE.blobs), pulled.kill)], root=root)
    pulled.start()
    now = dump(pulled)
    assert now.without([LAYER, LAYERS[2].digest]).records == before.without([LAYER, LAYERS[2].digest]).records
    assert now.snapshots == before.snapshots
    outcomes = run(pulled, [Meddling(dict(IMAGE.blobs), lambda: None)], root=root)
    assert {outcome.result for outcome in outcomes} <= {"repaired"}
    assert all(sha256(pulled.blob_path(digest).read_bytes()) == digest for digest in IMAGE.blobs)
    assert not ours(pulled)


@pytest.mark.sweep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", ["1.6", "2.1"])
def test_containerd_killed_at_steps_of_a_swap(
    version: str, start_daemon: StartDaemon, registry: Registry, base: Path, request: pytest.FixtureRequest
) -> None:
    daemon = start_daemon(version)
    daemon.cri_pull(registry.push(IMAGE, "lab/trouble:1"))
    daemon.force_gc()
    whole = dump(daemon)
    arguments = ("repair", "--address", str(daemon.socket), "--yes", "--content-root", "none")
    with killer(base) as killing:
        for last in range(1, 1000, 1 if request.config.getoption("--wide") else 5):
            faults.empty_file(daemon, IMAGE.digest)
            ended = killing.run(*arguments, last=last, victim=daemon.pid)
            if ended.status == 0 and ended.steps < last:
                break
            assert ended.status in (0, 1, 3), killing.said
            daemon.stop()
            daemon.start()
            now = dump(daemon)
            assert now.without([IMAGE.digest]).records == whole.without([IMAGE.digest]).records, last
            assert now.snapshots == whole.snapshots
            assert killing.run(*arguments).status == 0, killing.said
            assert dump(daemon) == whole, last
            assert not ours(daemon)
        else:
            pytest.fail("it never came to its end")


# The disk is full


@pytest.fixture
def small(request: pytest.FixtureRequest, base: Path, registry: Registry) -> Iterator[Containerd]:
    """A daemon whose whole root is on a file system of 24 MiB."""
    folder = base / "small"
    (folder / "root").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m,nr_inodes=2000", "lab", folder / "root"], check=True)
    try:
        with Containerd(request.param, folder) as daemon:
            daemon.cri_pull(registry.push(IMAGE, "lab/trouble:1"))
            daemon.force_gc()
            yield daemon
    finally:
        subprocess.run(["umount", "--lazy", folder / "root"], check=True)


@pytest.mark.in_turn
@pytest.mark.parametrize("small", ["1.6", "1.7", "2.1"], indirect=True)
@pytest.mark.parametrize("fault", ["absent", "flipped"])
@pytest.mark.parametrize("root", ["auto", "none"])
def test_a_full_disk_is_a_sentence_and_nothing_is_lost(small: Containerd, fault: str, root: str) -> None:
    if fault == "absent":
        faults.remove_record(small, LAYER)
        small.force_gc()
    else:
        flip(small, LAYER)
    before = dump(small)
    filler = small.root / "filler"
    fill(filler)
    done = repair(small, "--verify", "digests", "--content-root", root)
    assert done.status == 1, done.run
    assert done.results == {LAYER: "failed"}, done.messages
    assert "no space left" in done.messages.lower()
    filler.unlink()
    assert dump(small) == before
    assert not ours(small)
    assert repair(small, "--verify", "digests", "--content-root", root).status == 0


def fill(path: Path) -> None:
    """Leave room for records, not for the bytes of a layer."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    free = 96 << 10
    os.truncate(path, path.stat().st_size - free)


# The disk cannot read what was written


@pytest.mark.parametrize("root", [FILE, API])
def test_what_cannot_be_read_back_is_a_failure_and_the_next_run_finishes(
    start_daemon: StartDaemon, registry: Registry, monkeypatch: pytest.MonkeyPatch, root: ContentRootOption
) -> None:
    daemon = start_daemon("2.1")
    daemon.cri_pull(registry.push(IMAGE, "lab/trouble:1"))
    daemon.force_gc()
    whole = dump(daemon)
    flip(daemon, LAYER)
    before = dump(daemon)

    def fail(_context: RepairContext, _namespace: str, _need: Need) -> None:
        raise ReadFailed("input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(RepairContext, "read_back", fail)
        (outcome,) = run(daemon, [Meddling(dict(IMAGE.blobs), lambda: None)], root=root)
    assert outcome.result == "failed"
    assert "cannot be read back" in outcome.message
    assert dump(daemon).without([LAYER]).files == before.without([LAYER]).files
    assert sha256(daemon.blob_path(LAYER).read_bytes()) in (LAYER, f"sha256:{before.files[LAYER][0]}")
    repair(daemon, "--verify", "digests")
    assert dump(daemon).files == whole.files
    assert not ours(daemon)


# The disk has no inodes, or is read-only


@pytest.mark.parametrize("small", ["2.1"], indirect=True)
def test_a_disk_without_inodes_is_a_sentence_and_nothing_is_lost(small: Containerd) -> None:
    flip(small, LAYER)
    before = dump(small)
    folder = small.root / "fillers"
    folder.mkdir()
    with suppress(OSError):
        for number in range(1 << 16):
            (folder / str(number)).touch()
    done = repair(small, "--verify", "digests")
    assert done.status == 3, done.run  # the lock, an ingest, needs inodes
    assert "no space left" in done.run.err
    shutil.rmtree(folder)
    assert dump(small) == before
    assert not ours(small)
    assert repair(small, "--verify", "digests").status == 0


def test_a_content_root_that_is_read_only_is_repaired_over_the_api(
    start_daemon: StartDaemon, registry: Registry
) -> None:
    daemon = start_daemon("2.1")
    daemon.cri_pull(registry.push(IMAGE, "lab/trouble:1"))
    daemon.force_gc()
    whole = dump(daemon)
    flip(daemon, LAYER)
    root = daemon.content_root
    bound = f'mount --bind {root} {root} && mount -o remount,ro,bind {root} && exec "$@"'
    line = ("repair", "--address", daemon.socket, "--yes", "--verify", "digests", "--quiet")
    done = auditor(*line, through=[*rooted(daemon.base / "tree"), "unshare", "-m", "sh", "-c", bound, "sh"])
    assert done.status == 0, done.err
    assert dump(daemon) == whole
    assert not ours(daemon)


# Two namespaces that share nothing


ISOLATED = "[plugins.'io.containerd.metadata.v1.bolt']\n  content_sharing_policy = 'isolated'\n"


def test_two_namespaces_under_the_isolated_policy(start_daemon: StartDaemon, registry: Registry) -> None:
    daemon = start_daemon("2.1", extra_config=ISOLATED)
    reference = registry.push(IMAGE, "lab/trouble:1")
    daemon.cri_pull(reference)
    daemon.ctr("images", "pull", "--plain-http", reference, namespace="second")
    for namespace in ("k8s.io", "second"):
        daemon.force_gc(namespace)
    whole = dump(daemon)
    faults.remove_record(daemon, LAYER, namespace="second")
    daemon.force_gc("second")
    flip(daemon, IMAGE.config_digest)
    assert repair(daemon, "--verify", "digests").status == 0
    now = dump(daemon)
    label = "containerd.io/uncompressed"
    lost = {key for key, (_, labels) in whole.records.items() if labels != now.records[key][1]}
    assert lost <= {("second", LAYER)}
    assert [
        name for name, _ in whole.records["second", LAYER][1] if name not in dict(now.records["second", LAYER][1])
    ] in (
        [],
        [label],
    )
    assert now.files == whole.files
    assert not ours(daemon)


# Another repair


def test_a_second_repair_says_that_there_is_another(pulled: Containerd) -> None:
    flip(pulled, LAYER)
    before = dump(pulled)
    with containerd.connect_writable(pulled.socket) as store, store.exclusive("repair"):
        done = repair(pulled, "--verify", "digests")
        assert done.status == 3
        assert "another repair of this daemon is running" in done.run.err
    assert dump(pulled) == before
    assert repair(pulled, "--verify", "digests").status == 0


def test_a_second_repair_is_kept_out_of_the_middle_of_the_first(pulled: Containerd) -> None:
    flip(pulled, LAYER)
    line = command("repair", "--address", pulled.socket, "--yes", "--quiet")
    others: list[int] = []

    def another() -> None:
        others.append(subprocess.run(line, cwd=ROOT, env=environment(), check=False).returncode)

    (outcome,) = run(pulled, [Meddling(dict(IMAGE.blobs), another)])
    assert outcome.result == "repaired"
    assert others == [3]


def test_a_daemon_that_goes_does_not_take_the_outcomes_along(pulled: Containerd, base: Path) -> None:
    flip(pulled, LAYER)
    with killer(base) as killing:
        line = ("repair", "--address", pulled.socket, "--yes", "--verify", "digests", "--content-root", "none")
        ended = killing.run(*line, last=6, victim=pulled.pid)
        assert ended.status == 1, killing.said
        assert "could not be checked again" in killing.said
        assert "1 failed" in killing.said
    pulled.restart()


def test_repairs_at_once_do_not_hurt_each_other(pulled: Containerd) -> None:
    whole = dump(pulled)
    for digest in (LAYER, IMAGE.config_digest, LAYERS[2].digest):
        flip(pulled, digest)
    line = command("repair", "--address", pulled.socket, "--yes", "--verify", "digests", "--content-root", "none")
    running = [
        subprocess.Popen(line, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(3)
    ]
    assert {process.wait() for process in running} <= {0, 1, 3}
    assert repair(pulled, "--verify", "digests").status == 0
    assert dump(pulled) == whole
    assert not ours(pulled)


def test_a_pull_of_the_same_image_meanwhile(pulled: Containerd, registry: Registry) -> None:
    flip(pulled, LAYER)
    reference = registry.reference("lab/trouble:1")
    pulls: list[threading.Thread] = []

    def pull() -> None:
        pulls.append(threading.Thread(target=pulled.cri_pull, args=(reference,)))
        pulls[-1].start()

    run(pulled, [Meddling(dict(IMAGE.blobs), pull)], root=None)
    for thread in pulls:
        thread.join()
    assert repair(pulled, "--verify", "digests").status == 0
    assert all(sha256(pulled.blob_path(digest).read_bytes()) == digest for digest in IMAGE.blobs)


# Nobody to ask


def test_without_a_terminal_or_a_yes_it_refuses(pulled: Containerd) -> None:
    flip(pulled, LAYER)
    before = dump(pulled)
    done = subprocess.run(
        command("repair", "--address", pulled.socket),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert dump(pulled) == before


def test_a_dry_run_writes_nothing(pulled: Containerd) -> None:
    flip(pulled, LAYER)
    faults.remove_record(pulled, LAYERS[2].digest)
    before = dump(pulled)
    done = repair(pulled, "--dry-run", "--verify", "digests", yes=False)
    assert done.status == 1
    assert done.planned == {LAYER: ("replace", "file"), LAYERS[2].digest: ("fetch", "commit")}
    assert done.document["dry_run"] is True
    assert dump(pulled) == before


# A hostile registry

FAILS = (
    "flipped short short-chunked empty long long-chunked endless unauthorized-basic unauthorized-bearer forbidden "
    "absent error-for-ever cut-for-ever cut-then-wrong-bytes redirect-file redirect-circle redirect-for-ever "
    "token-hangs silent dripping-body no-http"
).split()
MENDS = "good busy-then-fine error-then-fine cut-then-range cut-then-range-ignored".split()


@pytest.mark.sweep
@pytest.mark.timeout(600)
@pytest.mark.parametrize("root", [FILE, API])
def test_hostile_registries_end_in_clear_outcomes_and_the_store_untouched(
    start_daemon: StartDaemon, registry: Registry, root: ContentRootOption, request: pytest.FixtureRequest
) -> None:
    every = (*FAILS, *MENDS)
    behaviours = every if request.config.getoption("--wide") else every[(FILE, API).index(root) :: 2]
    daemon = start_daemon("2.1")
    reference = registry.push(IMAGE, "lab/trouble:1")
    daemon.ctr("images", "pull", "--plain-http", reference, namespace="default")
    hostile = Hostile(LAYERS[1].blob)
    with hostile.serving():
        name = f"{hostile.host}/good:v1"
        daemon.ctr("images", "tag", reference, name, namespace="default")
        daemon.ctr("images", "rm", "--sync", reference, namespace="default")
        whole = dump(daemon)
        for behaviour in behaviours:
            other = f"{hostile.host}/{behaviour}:v1"
            if other != name:
                daemon.ctr("images", "tag", name, other, namespace="default")
                daemon.ctr("images", "rm", name, namespace="default")
                name = other
            if root is None:
                faults.remove_record(daemon, LAYER, namespace="default")
                daemon.force_gc("default")
            else:
                flip(daemon, LAYER)
            before = dump(daemon)
            source = RegistrySource(
                hosts_dir=None,
                credentials=load_docker_config(None),
                limits=Limits(connect=5, stall=1, total=10),
                timing=replace(SYSTEM, sleep=lambda _seconds: None),
            )
            (outcome,) = run(daemon, [source], root=root)
            if behaviour in FAILS:
                assert outcome.result == "failed", (behaviour, outcome.message)
                assert outcome.message
                assert dump(daemon) == before, behaviour
                (mended,) = run(daemon, [Meddling(dict(IMAGE.blobs), lambda: None)], root=root)
                assert mended.result == "repaired"
            else:
                assert outcome.result == "repaired", (behaviour, outcome.message)
            assert dump(daemon).files == whole.files, behaviour
            assert not ours(daemon)
