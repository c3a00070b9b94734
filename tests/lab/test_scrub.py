"""The standing job on live daemons: killed, doubled, cut short, with its memory lost, and always right about bytes."""

from __future__ import annotations

import fcntl
import os
import pty
import random
import select
import shutil
import signal
import sqlite3
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from auditor.model.findings import Coverage, Report
from tests import images
from tests.lab.checked import Run, auditor, auditor_here, loud, quiet, signalled, the
from tests.lab.conftest import StartDaemon
from tests.lab.kit import faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry
from tests.lab.repaired import repair
from tests.lab.test_snapshot_files import directory
from tests.program import ROOT, command, environment

LAYERS = tuple(images.layer({f"noise-{n}": images.noise(f"scrub-{n}", 40_000)}) for n in range(24))
IMAGE = images.image(LAYERS)
OTHER = images.image([images.layer(images.files("scrub-other", kilobytes=16))])
THIRD = images.image([images.layer(images.files("scrub-third", kilobytes=16))])
EVERYTHING = {*IMAGE.blobs, *OTHER.blobs}


@pytest.fixture
def pulled(daemon: Containerd, registry: Registry) -> Containerd:
    return stocked(daemon, registry)


@pytest.fixture
def one(start_daemon: StartDaemon, registry: Registry) -> Containerd:
    """Stock one daemon only, for what has nothing to do with its version."""
    return stocked(start_daemon(VERSIONS[-1]), registry)


def stocked(daemon: Containerd, registry: Registry) -> Containerd:
    daemon.cri_pull(registry.push(IMAGE, "lab/scrub:1"))
    daemon.cri_pull(registry.push(OTHER, "lab/scrub-other:1"))
    return daemon


def state_of(daemon: Containerd) -> Path:
    return daemon.base / "scrubbed" / "state.db"


def arguments(daemon: Containerd, *more: str | Path, address: Path | None = None) -> tuple[str | Path, ...]:
    return ("scrub", "--format", "json", "--address", address or daemon.socket, "--state", state_of(daemon), *more)


def scrub(daemon: Containerd, *more: str | Path, address: Path | None = None) -> Run:
    return auditor_here(*arguments(daemon, *more, address=address))


def coverage(report: Report) -> Coverage:
    assert report.coverage is not None
    return report.coverage


def verified(daemon: Containerd) -> dict[str, float]:
    """By digest, when it was read to its end."""
    try:
        with closing(sqlite3.connect(f"file:{state_of(daemon)}?mode=ro", uri=True)) as database:
            return dict(database.execute("SELECT digest, read_at FROM proofs WHERE read_at IS NOT NULL"))
    except sqlite3.OperationalError:
        return {}


def remember(daemon: Containerd, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(state_of(daemon))) as database, database:
        database.execute(statement, values)


def fresh_reads(report: Report) -> int:
    """Bytes read beyond the documents that each run reads."""
    documents = sum(len(data) for image in (IMAGE, OTHER) for data in (image.manifest, image.config))
    return report.summary.bytes.read - documents


def test_everything_is_proven_and_nothing_of_it_is_read_again(pulled: Containerd) -> None:
    first = scrub(pulled)
    assert (first.status, loud(first.report)) == (0, set())
    found = coverage(first.report)
    assert (found.blobs, found.proven_blobs, found.known_bad) == (len(EVERYTHING), len(EVERYTHING), 0)
    assert found.proven_bytes == found.bytes == first.report.summary.bytes.present
    assert found.oldest_proof_at is not None
    assert first.report.started_at <= found.oldest_proof_at <= first.report.finished_at

    again = scrub(pulled).report
    assert fresh_reads(again) == 0
    assert coverage(again) == found


def test_the_memory_is_of_the_store_and_not_of_the_way_to_it(pulled: Containerd) -> None:
    """The same daemon through a link to its socket, without its files in sight, is the same store."""
    scrub(pulled)
    link = pulled.base / "link.sock"
    link.symlink_to(pulled.socket)
    again = scrub(pulled, "--content-root", "none", address=link).report
    assert (fresh_reads(again), coverage(again).proven_blobs) == (0, len(EVERYTHING))
    pulled.restart()
    assert fresh_reads(scrub(pulled).report) == 0


def test_another_daemon_is_another_store(start_daemon: StartDaemon, registry: Registry) -> None:
    first, second = (stocked(start_daemon("2.1"), registry) for _ in range(2))
    scrub(first)
    assert fresh_reads(scrub(first, address=second.socket).report) > 0


def test_killed_ten_times_at_random_it_finishes_with_every_blob_proven_once(pulled: Containerd) -> None:
    chance = random.Random(11)
    seen: dict[str, float] = {}
    for _ in range(10):
        before = len(verified(pulled))
        with signalled(*arguments(pulled, "--limit-rate", "300KiB", "--no-progress")) as run:
            while run.poll() is None and len(verified(pulled)) == before:
                time.sleep(0.005)
            time.sleep(chance.random() * 0.2)
            run.send_signal(signal.SIGKILL)
            run.wait()
        seen = assert_kept(seen, verified(pulled))
    assert len(seen) < len(EVERYTHING), "the kills came too late to mean anything"
    last = scrub(pulled)
    assert (last.status, loud(last.report)) == (0, set())
    assert set(assert_kept(seen, verified(pulled))) == EVERYTHING
    assert coverage(last.report).proven_blobs == len(EVERYTHING)


def assert_kept(before: dict[str, float], now: dict[str, float]) -> dict[str, float]:
    """What was proven stays proven, and was not proven again."""
    assert {digest: now.get(digest) for digest in before} == before
    return now


def test_of_two_at_once_the_second_says_so_and_leaves(pulled: Containerd) -> None:
    with signalled(*arguments(pulled, "--limit-rate", "100KiB", "--no-progress")) as run:
        while run.poll() is None and not verified(pulled):
            time.sleep(0.01)
        second = auditor(*arguments(pulled))
        assert (second.status, second.out) == (3, "")
        assert second.err.splitlines() == [
            f"auditor: {state_of(pulled)} is in use by process {run.pid}",
            "hint: wait for that scrub to end, or use another --state",
        ]
        assert run.poll() is None


def corrupt(path: Path) -> None:
    """Keep the header, which says whose file it is, and overwrite the rest."""
    path.write_bytes(path.read_bytes()[:100] + images.noise("state", 8192))


def from_the_future(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("PRAGMA user_version = 99")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def gone(path: Path) -> None:
    shutil.rmtree(path.parent)


@pytest.mark.parametrize("damage", [corrupt, cut, from_the_future, gone])
def test_a_memory_that_cannot_be_used_costs_work_and_nothing_else(one: Containerd, damage: object) -> None:
    assert callable(damage)
    scrub(one)
    damage(state_of(one))
    again = auditor(*arguments(one))
    assert (again.status, loud(again.report)) == (0, set())
    assert fresh_reads(again.report) > 0
    assert coverage(again.report).proven_blobs == len(EVERYTHING)
    assert bool(again.err) is (damage is not gone)
    third = auditor(*arguments(one))
    assert (third.status, fresh_reads(third.report)) == (0, 0)


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "lab", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_for_the_memory_is_a_sentence(one: Containerd) -> None:
    with mounted(state_of(one).parent, "size=16k"):
        ran = auditor(*arguments(one))
    assert (ran.status, ran.out) == (3, "")
    sentence, hint = ran.err.splitlines()[-2:]
    assert sentence.startswith(f"auditor: the state file {state_of(one)} cannot be used: ")
    assert hint == "hint: --state FILE names another place"


def test_a_folder_that_cannot_be_written_is_a_sentence(one: Containerd) -> None:
    with mounted(state_of(one).parent, "ro"):
        ran = auditor(*arguments(one))
    assert (ran.status, ran.out) == (3, "")
    assert "Read-only file system" in ran.err
    assert len(ran.err.splitlines()) == 2


def test_a_budget_that_ends_is_no_fault_and_the_next_run_goes_on(pulled: Containerd) -> None:
    short = scrub(pulled, "--max-duration", "1s", "--limit-rate", "300KiB")
    assert (short.status, loud(short.report), short.report.complete) == (0, set(), True)
    part = coverage(short.report)
    assert 0 < part.proven_blobs < part.blobs
    assert part.proven_blobs == len(verified(pulled))
    before = verified(pulled)
    rest = scrub(pulled)
    assert coverage(rest.report).proven_blobs == part.blobs
    assert_kept(before, verified(pulled))


def test_the_rate_is_never_exceeded(pulled: Containerd) -> None:
    rate = 400 << 10
    report = scrub(pulled, "--limit-rate", "400KiB").report
    read = coverage(report).bytes
    assert read > 2 * rate
    assert read / report.duration_seconds <= rate * 1.05


def test_what_is_bad_is_said_by_every_run_until_it_is_read_and_found_right(pulled: Containerd) -> None:
    bad = LAYERS[7].digest
    kept = pulled.blob_path(bad).read_bytes()
    faults.flip(pulled, bad)
    first = scrub(pulled)
    assert (first.status, loud(first.report)) == (1, {("digest-mismatch", bad)})
    assert {image.target for image in the(first.report, "digest-mismatch").images} == {IMAGE.digest}
    assert coverage(first.report).known_bad == 1

    new = scrub(pulled, "--new-only")
    assert (new.status, loud(new.report), fresh_reads(new.report)) == (1, {("digest-mismatch", bad)}, 0)
    told = the(new.report, "digest-mismatch")
    assert "read_at" in told.facts
    assert "not in this run" in told.message

    known = scrub(pulled, "--known-bad")
    assert (known.status, loud(known.report)) == (1, {("digest-mismatch", bad)})
    assert fresh_reads(known.report) == len(kept)
    assert "read_at" not in the(known.report, "digest-mismatch").facts

    faults.overwrite(pulled, bad, kept)
    mended = scrub(pulled, "--known-bad")
    assert (mended.status, loud(mended.report)) == (0, set())
    assert coverage(mended.report).known_bad == 0
    assert coverage(mended.report).proven_blobs == len(EVERYTHING)


def test_new_only_reads_what_came_since(pulled: Containerd, registry: Registry) -> None:
    scrub(pulled)
    pulled.cri_pull(registry.push(THIRD, "lab/scrub-third:1"))
    report = scrub(pulled, "--new-only").report
    assert set(verified(pulled)) == EVERYTHING | set(THIRD.blobs)
    assert coverage(report).proven_blobs == len(EVERYTHING) + len(THIRD.blobs)


def test_what_left_the_store_is_forgotten(pulled: Containerd) -> None:
    scrub(pulled)
    pulled.cri_remove_image(OTHER.config_digest)
    pulled.force_gc()
    report = scrub(pulled).report
    assert set(verified(pulled)) == set(IMAGE.blobs)
    assert coverage(report).blobs == len(IMAGE.blobs)


def test_one_namespace_alone_forgets_nothing_of_the_others(pulled: Containerd) -> None:
    scrub(pulled)
    digest = faults.add_blob(pulled, b"of another namespace", namespace="other")
    report = scrub(pulled, "--namespace", "other").report
    assert coverage(report).blobs == 1
    assert set(verified(pulled)) == EVERYTHING | {digest}


def test_a_clock_that_was_put_back_does_not_hide_a_blob(one: Containerd) -> None:
    scrub(one)
    future = time.time() + 30 * 86400
    remember(one, "UPDATE proofs SET read_at = ?, tried_at = ? WHERE digest = ?", future, future, LAYERS[3].digest)
    remember(one, "UPDATE proofs SET read_at = read_at + 3600 WHERE digest = ?", LAYERS[4].digest)
    report = scrub(one).report
    assert fresh_reads(report) == LAYERS[3].size
    assert verified(one)[LAYERS[3].digest] <= time.time()


def test_what_is_older_than_asked_for_is_proven_again(one: Containerd) -> None:
    scrub(one)
    remember(one, "UPDATE proofs SET read_at = read_at - 7200 WHERE digest = ?", LAYERS[3].digest)
    report = scrub(one, "--max-age", "2h").report
    assert fresh_reads(report) == LAYERS[3].size
    assert fresh_reads(scrub(one, "--max-age", "0s").report) > len(LAYERS) * 40_000


def test_layers_are_decompressed_where_asked_and_not_called_proven_before(pulled: Containerd) -> None:
    scrub(pulled)
    deeper = scrub(pulled, "--verify", "layers", "--max-duration", "0s").report
    assert coverage(deeper).proven_blobs == len(EVERYTHING) - len(LAYERS) - len(OTHER.layers)
    assert coverage(scrub(pulled, "--verify", "layers").report).proven_blobs == len(EVERYTHING)


def test_unrelated_damage_found_over_several_runs_makes_the_storage_suspect(
    pulled: Containerd, registry: Registry
) -> None:
    pulled.cri_pull(registry.push(THIRD, "lab/scrub-third:1"))
    for image in (IMAGE, OTHER):
        faults.flip(pulled, image.layers[0].digest)
    assert {code for code, _ in loud(scrub(pulled).report)} == {"digest-mismatch"}
    faults.flip(pulled, THIRD.layers[0].digest)
    remember(pulled, "DELETE FROM proofs WHERE digest = ?", THIRD.layers[0].digest)
    found = scrub(pulled, "--new-only").report
    assert ("suspect-storage", "content") in loud(found)


def test_a_blob_that_cannot_be_read_ends_neither_the_run_nor_its_memory(pulled: Containerd) -> None:
    """Through the API, a pipe makes the daemon wait for ever: this blob is unreadable, the rest is proven."""
    for layer in (LAYERS[0], LAYERS[1]):
        pulled.blob_path(layer.digest).unlink()
    os.mkfifo(pulled.blob_path(LAYERS[0].digest))
    pulled.blob_path(LAYERS[1].digest).mkdir()
    ran = scrub(pulled, "--content-root", "none", "--timeout", "1")
    assert loud(ran.report) == {("blob-unreadable", LAYERS[0].digest), ("blob-file-missing", LAYERS[1].digest)}
    assert (ran.status, ran.report.complete) == (1, False)
    found = coverage(ran.report)
    assert (found.proven_blobs, found.known_bad) == (len(EVERYTHING) - 2, 2)
    # Let go of the daemon's thread.
    os.close(os.open(pulled.blob_path(LAYERS[0].digest), os.O_RDWR | os.O_NONBLOCK))


def test_progress_is_drawn_on_a_terminal_and_gone_in_the_end(one: Containerd) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    line = command(*arguments(one, "--limit-rate", "300KiB"))
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=slave, cwd=ROOT, env=environment({"TERM": "xterm"})
    ) as run:
        os.close(slave)
        drawn = drained(master)
    text = drawn.decode()
    assert run.returncode == 0
    assert "scrubbing" in text
    assert "MiB" in text or "KiB" in text
    assert "/s" in text
    assert "0:00:0" in text
    assert text.rstrip().endswith(("\x1b[2K", "\x1b[?25h", "\x1b[1A\x1b[2K"))


def drained(descriptor: int) -> bytes:
    """Everything that is written to a terminal until its last user closes it."""
    found = b""
    with closing(os.fdopen(descriptor, "rb", buffering=0)) as terminal:
        while select.select([terminal], [], [], 60)[0]:
            try:
                piece = terminal.read(4096)
            except OSError:
                break
            if not piece:
                break
            found += piece
    return found


def test_there_is_no_progress_where_nobody_looks(one: Containerd) -> None:
    ran = auditor(*arguments(one, "--limit-rate", "500KiB"))
    assert (ran.status, ran.err) == (0, "auditor: limits: reading 500.0 KiB/s, age 7d\n")
    assert not {code for code, _ in quiet(ran.report)} & {"blob-unreadable"}


def test_snapshots_are_compared_within_the_same_budget_and_memory(one: Containerd) -> None:
    number = len(IMAGE.layers) + len(OTHER.layers)
    first = scrub(one, "--snapshots")
    assert (first.status, loud(first.report)) == (0, set()), first.err
    found = coverage(first.report)
    assert (found.snapshots, found.compared_snapshots, found.proven_blobs) == (number, number, len(EVERYTHING))
    assert fresh_reads(first.report) <= found.bytes, "a layer was read for its blob and again for its snapshot"
    again = scrub(one, "--snapshots").report
    assert (fresh_reads(again), coverage(again)) == (0, found)

    folder = directory(one, IMAGE, 3)
    damaged = folder / "noise-3"
    right = damaged.read_bytes()
    damaged.write_bytes(b"")
    assert loud(scrub(one, "--snapshots", "--max-age", "0s", "--max-duration", "0s").report) == set(), "not yet read"
    seen = scrub(one, "--snapshots", "--max-age", "0s")
    name = f"overlayfs/{IMAGE.chain_ids[3]}"
    assert (seen.status, loud(seen.report)) == (1, {("snapshot-damaged", name)})
    assert coverage(seen.report).compared_snapshots == number - 1
    kept = scrub(one, "--snapshots", "--max-duration", "0s")
    assert (kept.status, loud(kept.report)) == (1, {("snapshot-damaged", name)}), "damage is remembered"
    assert loud(scrub(one).report) == set()

    done = repair(one, "--snapshots")
    assert (done.status, (folder / "noise-3").read_bytes()) == (0, right)
    mended = scrub(one, "--snapshots", "--max-duration", "0s")
    assert loud(mended.report) == set(), "results of the exchanged directory are not used"
    assert coverage(mended.report).compared_snapshots == number - 1
    assert coverage(scrub(one, "--snapshots", "--new-only").report).compared_snapshots == number

    shutil.rmtree(folder)
    gone = scrub(one, "--snapshots", "--max-duration", "0s")
    assert loud(gone.report) == {("snapshot-directory-missing", name)}
