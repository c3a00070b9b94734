"""A check lists the daemon's records in a process of its own: the report is as without it, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from auditor.containerd import relay
from auditor.containerd._proto import images_pb2, snapshots_pb2, types_pb2
from tests import images, program
from tests.contract.daemon import BLOBS, Daemon

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with one core there is no such process")


IMAGES = [images.image([images.layer(images.files(f"{name}", kilobytes=4))]) for name in ("one", "two")]
CHILD = "containerd.io/gc.ref.content"


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """A daemon with two sound images, each under two names."""
    with tempfile.TemporaryDirectory(prefix="a-") as folder, ExitStack() as stack:
        made = Daemon(stack, Path(folder))
        made.export(relay.SNAPSHOTTER, "overlayfs")
        made.world.snapshots["overlayfs"] = [snapshots_pb2.Info(name="top")]
        made.world.images.clear()
        made.world.infos.clear()
        for number, image in enumerate(IMAGES):
            target = types_pb2.Descriptor(
                media_type=image.target.media_type, digest=image.digest, size=len(image.manifest)
            )
            for name in (f"example/{number}:1", f"sha256:{number}"):
                made.world.images.append(images_pb2.Image(name=name, target=target))
            for digest, data in image.blobs.items():
                below = {f"{CHILD}.config": image.config_digest, f"{CHILD}.l.0": image.layers[0].digest}
                made.world.add(digest, data, **(below if digest == image.digest else {}))
        made.put_files()
        for image in IMAGES:
            for digest, data in image.blobs.items():
                path_of(made, digest).write_bytes(data)
        for digest in BLOBS:
            path_of(made, digest).unlink()
        yield made


def path_of(daemon: Daemon, digest: str) -> Path:
    return daemon.root / "blobs" / digest.replace(":", "/")


def start(daemon: Daemon, *words: str, one_core: bool = False, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(("taskset", "-c", "0") if one_core else ()),
            *program.command("check", "--address", daemon.server.socket, *words),
        ],
        cwd=program.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **({"env": program.environment()} | options),
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def report(done: tuple[int, str, str]) -> tuple[int, dict[str, Any], str]:
    """Status, report without its times, and stderr."""
    status, out, err = done
    found = json.loads(out)
    for key in ("started_at", "finished_at", "duration_seconds"):
        del found[key]
    return status, found, err


def wait_for(found: Callable[[], Any]) -> Any:
    end = time.monotonic() + 30
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.01)
    return value


def children(process: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@contextmanager
def held(daemon: Daemon) -> Iterator[threading.Event]:
    """Let the listing of snapshots wait; the event is set once it does."""
    waits, released = threading.Event(), threading.Event()

    def hold(_context: Any) -> None:
        waits.set()
        released.wait(60)

    daemon.world.on_snapshots = hold
    try:
        yield waits
    finally:
        daemon.world.on_snapshots = None
        released.set()


def test_the_report_is_the_same_without_the_process(daemon: Daemon) -> None:
    words = ("--format", "json")
    status, found, err = with_it = report(finish(start(daemon, *words)))
    assert with_it == report(finish(start(daemon, *words, one_core=True)))
    assert (status, err, found["summary"]["images"]) == (0, "", {"total": 2, "sound": 2, "damaged": 0})


@pytest.mark.parametrize("words", [("--namespace", "default"), ("--verify", "digests"), ("--snapshotter", "overlayfs")])
def test_so_it_is_with_other_options(daemon: Daemon, words: tuple[str, ...]) -> None:
    words = (*words, "--format", "json", "--verbose")
    assert report(finish(start(daemon, *words))) == report(finish(start(daemon, *words, one_core=True)))


@pytest.mark.parametrize("what", ["manifest", "config", "layer"])
def test_faults_are_found_with_it(daemon: Daemon, what: str) -> None:
    image = IMAGES[0]
    digest = {"manifest": image.digest, "config": image.config_digest, "layer": image.layers[0].digest}[what]
    path_of(daemon, digest).write_bytes(bytes(len(image.blobs[digest])))
    words = ("--verify", "digests", "--format", "json")
    status, found, _ = with_it = report(finish(start(daemon, *words)))
    assert with_it == report(finish(start(daemon, *words, one_core=True)))
    assert status == 1
    assert {finding["severity"] for finding in found["findings"]} & {"critical", "error"}


def test_a_process_that_is_killed_is_done_without(daemon: Daemon) -> None:
    wanted = report(finish(start(daemon, "--format", "json")))
    with held(daemon) as waits:
        process = start(daemon, "--format", "json")
        assert waits.wait(30)
        (listing,) = children(process.pid)
        os.kill(listing, signal.SIGKILL)
    assert report(finish(process)) == wanted


@pytest.mark.parametrize("words", [(), ("--verify", "digests"), ("--content-root", "none")])
def test_one_that_is_killed_before_it_gets_its_task_is_done_without(daemon: Daemon, words: tuple[str, ...]) -> None:
    wanted = report(finish(start(daemon, "--format", "json", *words)))
    process = start(daemon, "--format", "json", *words)
    (listing,) = wait_for(lambda: children(process.pid))
    os.kill(listing, signal.SIGKILL)
    assert report(finish(process)) == wanted


def test_one_that_cannot_import_grpc_leaves_the_message_to_the_check(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "grpc").mkdir()
    (tmp_path / "grpc" / "__init__.py").write_text("raise ImportError('damaged file')")
    env = program.environment({"PYTHONPATH": f"{tmp_path}:{program.ROOT}"})
    status, out, err = finish(start(daemon, env=env))
    assert (status, out) == (3, "")
    assert "a part of the program cannot be loaded: damaged file" in err
    err = finish(start(daemon, env={**env, "AUDITOR_DEBUG": "1"}))[2]
    assert err.count("ImportError: damaged file") >= 2


@pytest.mark.parametrize("words", [("--bogus",), ("--output", "/nonexistent/x"), ("--content-root", "/tmp"), ()])
def test_a_check_that_ends_early_waits_for_it(daemon: Daemon, words: tuple[str, ...]) -> None:
    daemon.server.__exit__(None, None, None)
    process = start(daemon, *words)
    (listing,) = wait_for(lambda: children(process.pid) or (process.poll() is not None and [0]))
    assert finish(process)[0] in (2, 3)
    assert not Path(f"/proc/{listing}").exists() or listing == 0


def test_no_other_file_stays_open_in_it(daemon: Daemon, tmp_path: Path) -> None:
    with held(daemon) as waits, (tmp_path / "lock").open("w") as lock:
        process = start(daemon, pass_fds=(lock.fileno(),))
        assert waits.wait(30)
        (listing,) = children(process.pid)
        names = [str(path.readlink()) for path in Path(f"/proc/{listing}/fd").iterdir()]
    assert str(tmp_path / "lock") not in names
    assert names.count("/dev/null") >= 3
    assert finish(process)[0] == 0


def test_ctrl_c_ends_both_without_a_word_too_many(daemon: Daemon) -> None:
    with held(daemon) as waits:
        process = start(daemon, start_new_session=True)
        assert waits.wait(30)
        (listing,) = children(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        assert finish(process) == (130, "", "auditor: interrupted\n")
        wait_for(lambda: not Path(f"/proc/{listing}").exists())


def test_a_signal_to_the_check_alone_ends_both(daemon: Daemon) -> None:
    with held(daemon) as waits:
        process = start(daemon)
        assert waits.wait(30)
        (listing,) = children(process.pid)
        process.send_signal(signal.SIGTERM)
        assert finish(process)[0] == 143
        wait_for(lambda: not Path(f"/proc/{listing}").exists())


def test_who_reads_the_output_of_a_killed_check_does_not_wait(daemon: Daemon) -> None:
    with held(daemon) as waits:
        process = start(daemon)
        assert waits.wait(30)
        (listing,) = children(process.pid)
        process.kill()
        assert finish(process)[0] == -signal.SIGKILL
        assert Path(f"/proc/{listing}").exists()
    wait_for(lambda: not Path(f"/proc/{listing}").exists())


def test_a_daemon_that_ends_meanwhile_is_named(daemon: Daemon) -> None:
    with held(daemon) as waits:
        process = start(daemon)
        assert waits.wait(30)
        daemon.server.__exit__(None, None, None)
        status, out, err = finish(process)
    assert (status, out) == (3, "")
    assert "hint: " in err


def test_a_sound_store_is_checked_without_a_connection(daemon: Daemon) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "auditor", "check", "--address", str(daemon.server.socket)]
    done = subprocess.run(command, cwd=program.ROOT, capture_output=True, text=True, check=False)
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert (done.returncode, "auditor.containerd.listed_store" in loaded, "grpc" in loaded) == (0, True, False)


@pytest.mark.parametrize("words", [("--help",), ("-h",), ("--root", "/nonexistent"), ("--root=/nonexistent",)])
def test_without_a_daemon_there_is_no_process(words: tuple[str, ...]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "auditor", "check", *words]
    done = subprocess.run(command, cwd=program.ROOT, capture_output=True, text=True, check=False)
    assert "auditor.cli.app" in done.stderr
    assert "auditor.containerd.listing_process" not in done.stderr
