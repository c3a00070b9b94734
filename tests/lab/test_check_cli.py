"""The program among people and machines that do not behave: each case has its exit status and one sentence."""

from __future__ import annotations

import http.server
import os
import re
import signal
import socket as sockets
import socketserver
import stat
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import pytest

from auditor.model.readiness import CanServe, CanUnpack
from tests import images
from tests.lab.checked import Run, auditor, auditor_here, check, signalled
from tests.lab.conftest import StartDaemon
from tests.lab.kit import faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import rooted
from tests.lab.kit.registry import Registry
from tests.program import ROOT, command, environment

NEWEST = VERSIONS[-1]
IMAGE = images.image([images.layer(images.files(f"cli-{number}", kilobytes=16)) for number in range(2)])
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")


@pytest.fixture
def node(start_daemon: StartDaemon, registry: Registry) -> Containerd:
    """Start the newest daemon with one sound image."""
    daemon = start_daemon(NEWEST)
    daemon.cri_pull(registry.push(IMAGE, "lab/cli:1"))
    return daemon


def assert_says(ran: Run, status: int, *words: str) -> None:
    """One sentence and at most one hint on stderr, nothing on stdout."""
    lines = ran.err.splitlines()
    assert (ran.status, ran.out) == (status, "")
    assert lines[0].startswith("auditor: ")
    assert [line.partition(" ")[0] for line in lines[1:]] in ([], ["hint:"])
    for word in words:
        assert word in ran.err, ran.err


# What was asked for is not there


def test_an_image_that_is_not_there(daemon: Containerd, registry: Registry) -> None:
    reference = registry.push(IMAGE, "lab/cli:1")
    daemon.cri_pull(reference)
    ran = check(daemon, reference.replace("lab/cli", "lab/clj"))
    assert_says(ran, 3, "no image is named", f"did you mean {reference}")


def test_a_namespace_that_is_not_there(node: Containerd) -> None:
    assert_says(check(node, "--namespace", "k8s"), 3, "there is no namespace 'k8s'", "did you mean k8s.io?")
    assert_says(check(node, "--namespace", "k8s.io", "-n", "nope"), 3, "there is no namespace 'nope'")


def test_a_namespace_with_nothing_in_it(node: Containerd) -> None:
    node.ctr("namespaces", "create", "hollow")
    assert_says(check(node, "--namespace", "hollow"), 3, "namespace 'hollow' is empty: nothing was examined")
    assert check(node).status == 0


def test_a_daemon_with_nothing_in_it(daemon: Containerd) -> None:
    assert_says(check(daemon), 3, "there is no image and no blob to examine")


def test_what_the_node_could_serve_or_unpack(node: Containerd) -> None:
    arguments = ("check", "--address", node.socket, "--can-serve", "--can-unpack")
    whole = auditor_here(*arguments, "nydus")
    assert whole.status == 0
    assert "could serve to other nodes: 1 of 1 image" in whole.out
    assert "for snapshotter nydus: 0 of 1 image unpacked, 1 can be unpacked from blobs here" in whole.out
    faults.remove_record(node, IMAGE.layers[0].digest)
    node.force_gc()
    less = auditor_here(*arguments, "overlayfs", "--format", "json").report
    assert isinstance(less.can_serve, CanServe)
    assert (less.can_serve.servable, less.can_serve.bytes_absent) == (0, IMAGE.layers[0].size)
    assert isinstance(less.can_unpack, CanUnpack)
    assert (less.can_unpack.unpacked, less.can_unpack.configured) == (1, True)


def test_a_snapshotter_that_is_not_there(node: Containerd) -> None:
    assert_says(check(node, "--snapshotter", "overlay"), 3, "no snapshotter 'overlay'", "did you mean overlayfs?")


def test_a_platform_that_no_image_has(node: Containerd, registry: Registry) -> None:
    """All that would be examined is nothing, and that is not the same as sound."""
    index = images.index([IMAGE, images.image([], platform="linux/arm64")])
    reference = registry.push(index, "lab/cli-index:1")
    node.ctr("images", "pull", "--plain-http", reference, namespace="default")
    assert_says(check(node, "-n", "default", "--platform", "linux/s390x"), 3, "no image is for linux/s390x")
    assert check(node, "-n", "default", "--platform", "linux/amd64").status == 0
    assert_says(check(node, "--platform", "no/such/plat/form"), 2, "is not a platform")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("check", "--no-such"), "auditor check --help"),
        (("check", "--verify", "everything"), "auditor check --help"),
        (("chekc",), "did you mean check?"),
        (("check", "--timeout", "soon"), "write 5s"),
    ],
    ids=["option", "choice", "command", "number"],
)
def test_wrong_usage(arguments: tuple[str, ...], hint: str) -> None:
    assert_says(auditor_here(*arguments), 2, f"hint: {hint}")


# Sockets


def test_no_socket(base: Path) -> None:
    ran = auditor("check", "--address", base / "absent.sock")
    assert_says(ran, 3, f"there is no socket at {base}/absent.sock", "is containerd running?")


def test_the_environment_names_the_socket(node: Containerd) -> None:
    env = {"CONTAINERD_ADDRESS": str(node.socket), "CONTAINERD_NAMESPACE": "k8s.io"}
    ran = auditor("check", env=env)
    assert (ran.status, ran.err) == (0, "")
    assert str(node.socket) in ran.out
    assert_says(auditor("check", env={**env, "CONTAINERD_NAMESPACE": "other"}), 3, "there is no namespace 'other'")


def test_a_socket_that_a_dead_daemon_left(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(NEWEST)
    daemon.kill()
    assert daemon.socket.is_socket()
    assert_says(auditor("check", "--address", daemon.socket), 3, f"nothing listens at {daemon.socket}")


def test_a_file_that_is_no_socket(base: Path) -> None:
    (base / "file").write_text("")
    assert_says(auditor_here("check", "--address", base / "file"), 3, "is not a socket")


def test_the_socket_of_another_program(base: Path) -> None:
    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

        def get_request(self) -> tuple[sockets.socket, tuple[str, int]]:
            return super().get_request()[0], ("local", 0)

        def handle_error(self, request: object, client_address: object) -> None:
            """The client hangs up, which is what it should do."""

    class Silent(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with Server(str(base / "http.sock"), Silent) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        ran = auditor("check", "--timeout", "5", "--address", base / "http.sock")
        server.shutdown()
    assert_says(ran, 3, "does not answer as containerd does", "--address")


@pytest.fixture
def as_nobody(base: Path) -> Iterator[Callable[..., Run]]:
    """Run the program as a user without rights, from a place that such a user can reach: a home is often closed."""
    tree = base / "tree"
    tree.mkdir()
    base.chmod(0o755)
    subprocess.run(["mount", "--bind", ROOT, tree], check=True)

    def run(*arguments: str | Path) -> Run:
        line = [*NOBODY, tree / ".venv/bin/python", "-m", "auditor", *arguments]
        env = environment({"PYTHONPATH": str(tree)})
        done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=tree, env=env)
        assert "Traceback" not in done.stderr, done.stderr
        return Run(done.returncode, done.stdout, done.stderr)

    yield run
    subprocess.run(["umount", "--lazy", tree], check=True)


def test_a_socket_that_is_not_ours_to_open(node: Containerd, as_nobody: Callable[..., Run]) -> None:
    """By its own mode, and by the folder it lies in."""
    for folder in (node.base, node.base.parent):
        folder.chmod(0o755)
    assert_says(as_nobody("check", "--address", node.socket), 3, "permission denied on", "run as root")
    node.base.chmod(0o700)
    assert_says(as_nobody("check", "--address", node.socket), 3, "permission denied on", "run as root")


def test_files_that_are_not_ours_to_read(node: Containerd, as_nobody: Callable[..., Run]) -> None:
    """Whoever may open the socket may read every blob through it."""
    for folder in (node.base, node.base.parent):
        folder.chmod(0o755)
    node.socket.chmod(0o666)
    ran = as_nobody("check", "--verbose", "--address", node.socket)
    assert ran.status == 0, ran.err
    assert "the daemon's files are not visible here" in ran.err
    faults.empty_file(node, IMAGE.digest)
    ran = as_nobody("check", "--address", node.socket)
    assert (ran.status, "size-mismatch" in ran.out) == (1, True)


# A daemon that hangs or dies


@contextmanager
def stopped(daemon: Containerd) -> Iterator[None]:
    os.kill(daemon.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(daemon.pid, signal.SIGCONT)


def test_a_daemon_that_hangs(node: Containerd) -> None:
    with stopped(node):
        ran = auditor("check", "--timeout", "0.5", "--address", node.socket)
    assert_says(ran, 3, "did not answer within 0.5 s", "--timeout")


class Relay:
    """Passes bytes on to a daemon and back until it has given `limit` of them, then holds still or hangs up."""

    def __init__(self, daemon: Containerd, path: Path, *, limit: int, hang_up: bool) -> None:
        self.path = path
        self.reached = threading.Event()
        self._target = daemon.socket
        self._left = limit
        self._hang_up = hang_up
        self._open: list[sockets.socket] = []
        self._listener = sockets.socket(sockets.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._listener, *self._open):
            with suppress(OSError):
                end.shutdown(sockets.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = sockets.socket(sockets.AF_UNIX)
                server.connect(str(self._target))
                self._open += [client, server]
                threading.Thread(target=self._pump, args=(client, server, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client, True), daemon=True).start()

    def _pump(self, source: sockets.socket, sink: sockets.socket, counted: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if counted:
                    data, self._left = data[: self._left], self._left - len(data)
                sink.sendall(data)
                if counted and self._left <= 0:
                    self.reached.set()
                    if self._hang_up:
                        sink.shutdown(sockets.SHUT_RDWR)
                    return
            sink.shutdown(sockets.SHUT_WR)


# Bytes of answers after which it happens: in the greeting, the version, the plugins, the lists, the blobs.
POINTS = (20, 2_000, 6_000, 8_500)
API = ("--content-root", "none")


@pytest.mark.parametrize("limit", POINTS)
@pytest.mark.parametrize("hang_up", [False, True], ids=["hangs", "dies"])
def test_a_daemon_that_ends_in_the_middle(node: Containerd, base: Path, limit: int, hang_up: bool) -> None:
    with Relay(node, base / "relay.sock", limit=limit, hang_up=hang_up) as relay:
        ran = auditor_here("check", *API, "--timeout", "1", "--address", relay.path)
        assert relay.reached.is_set()
    assert_says(ran, 3)


@pytest.mark.parametrize("limit", POINTS)
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_ends_what_waits(
    node: Containerd, base: Path, limit: int, number: signal.Signals, status: int
) -> None:
    """At once, however long an answer may take."""
    with (
        Relay(node, base / "relay.sock", limit=limit, hang_up=False) as relay,
        signalled("check", *API, "--timeout", "1000", "--address", relay.path) as running,
    ):
        while not relay.reached.wait(0.1):
            assert running.poll() is None
        running.send_signal(number)
        out, err = running.communicate()
    assert (running.returncode, out) == (status, "")
    assert err == "auditor: interrupted\n"


def test_an_interruption_before_anything_has_begun() -> None:
    """While the program is still being loaded, too, there is no traceback."""
    with signalled("check", "--address", "/nonexistent") as running:
        while "msgspec" not in Path("/proc", str(running.pid), "maps").read_text():
            assert running.poll() is None
        running.send_signal(signal.SIGINT)
        _, err = running.communicate()
    assert (running.returncode, err) == (130, "auditor: interrupted\n")


# Where the result goes


@pytest.mark.parametrize("damaged", [False, True], ids=["sound", "damaged"])
def test_a_reader_that_ends_early(node: Containerd, damaged: bool) -> None:
    """`| head -1`: what could not be delivered is not sound, and what is wrong stays wrong."""
    if damaged:
        faults.empty_file(node, IMAGE.digest)
    with signalled("check", "--verbose", "--format", "json", "--address", node.socket) as running:
        assert running.stdout is not None
        running.stdout.close()
        assert running.stderr is not None
        err = running.stderr.read()
        running.wait()
    assert "Traceback" not in err
    assert "auditor: the result could not be printed: Broken pipe" in err
    assert running.returncode == (1 if damaged else 3)


def test_head(node: Containerd) -> None:
    line = f"{' '.join(command('check', '--address', node.socket))} | head -1"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, cwd=ROOT, env=environment(), check=True)
    assert done.stdout.startswith("No problems found ")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_a_full_standard_output(node: Containerd) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("check", "--address", node.socket),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(),
            check=False,
        )
    assert done.returncode == 3
    assert done.stderr.startswith("auditor: the result could not be printed: No space left on device\nhint: ")


@pytest.fixture
def tiny_disk(base: Path) -> Iterator[Path]:
    """Mount a disk of two pages."""
    folder = base / "tiny"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk(node: Containerd, tiny_disk: Path) -> None:
    target = tiny_disk / "report.json"
    target.write_text("the old report")
    (tiny_disk / "filler").write_bytes(bytes(4096))
    ran = check(node, "--output", target)
    assert_says(ran, 3, f"{target} could not be written: No space left on device", "is as it was")
    assert target.read_text() == "the old report"
    assert sorted(path.name for path in tiny_disk.iterdir()) == ["filler", "report.json"]
    faults.empty_file(node, IMAGE.digest)
    assert check(node, "--output", target).status == 1


def test_a_missing_folder(node: Containerd, base: Path) -> None:
    ran = check(node, "--output", base / "none" / "report.json")
    assert_says(ran, 2, f"there is no folder {base}/none")
    assert_says(check(node, "--output", base), 2, "is a folder")


def test_a_report_is_replaced_whole(node: Containerd, base: Path) -> None:
    folder = base / "reports"
    folder.mkdir()
    target = folder / "report.json"
    target.write_text("the old report")
    before = target.stat().st_ino
    with target.open() as reader:
        ran = check(node, "--output", target, apart=True)
        assert reader.read() == "the old report"
    assert ran.status == 0
    assert ran.out.startswith("1 image: 1 sound")
    assert Run(0, target.read_text(), "").report.summary.images.total == 1
    assert (target.stat().st_ino == before, stat.S_IMODE(target.stat().st_mode)) == (False, 0o644)
    assert [path.name for path in folder.iterdir()] == ["report.json"]


def test_quiet_is_for_cron(node: Containerd) -> None:
    ran = auditor_here("check", "--quiet", "--address", node.socket)
    assert (ran.status, ran.out, ran.err) == (0, "", "")
    faults.empty_file(node, IMAGE.digest)
    ran = auditor_here("check", "--quiet", "--address", node.socket)
    assert (ran.status, "size-mismatch" in ran.out) == (1, True)


def test_no_colour_and_no_progress_where_nobody_looks(node: Containerd) -> None:
    faults.empty_file(node, IMAGE.digest)
    ran = auditor("check", "--verbose", "--address", node.socket)
    assert "\x1b" not in ran.out + ran.err


def test_colour_on_a_terminal(node: Containerd) -> None:
    faults.empty_file(node, IMAGE.digest)
    assert "\x1b[1;31mCRITICAL\x1b[0m" in on_a_terminal("check", "--address", str(node.socket))
    plain = on_a_terminal("check", "--address", str(node.socket), env={"NO_COLOR": "1"})
    assert not re.search(r"\x1b\[[0-9;]*m", plain), plain


def on_a_terminal(*arguments: str, env: dict[str, str] | None = None) -> str:
    ours, theirs = os.openpty()
    with subprocess.Popen(
        command(*arguments), stdout=theirs, stderr=theirs, stdin=theirs, cwd=ROOT, env=environment(env)
    ) as running:
        os.close(theirs)
        out = b""
        with suppress(OSError):  # the terminal is gone when the program is
            while data := os.read(ours, 1 << 16):
                out += data
    os.close(ours)
    assert running.returncode == 1
    return out.decode()


# Hostile names

HOSTILE = (
    "evil/\x1b]0;owned\x07\x1b[31mred:1",
    "bidi/\u202egnp.exe\u2066:1",
    "c1/\x9b31m:1",
    "new/line\nauditor: all is well:1",
    "tab/\there\r:1",
    "zero/\u200bwidth\ufeff:1",
    f"long/{'x' * 4000}:1",
    "-rf",
    "[bold]markup[/bold]:1",
)


@pytest.fixture
def hostile(daemon: Containerd, registry: Registry) -> Containerd:
    reference = registry.push(IMAGE, "lab/cli:1")
    daemon.ctr("images", "pull", "--plain-http", reference, namespace="default")
    loose = [] if daemon.version.startswith("1.") else ["--skip-reference-check"]
    for one in HOSTILE:
        daemon.ctr("images", "tag", *loose, "--", reference, one, namespace="default")
    daemon.ctr("images", "rm", reference, namespace="default")
    faults.empty_file(daemon, IMAGE.digest)
    return daemon


def hidden(text: str) -> set[str]:
    """What a terminal would obey or hide."""
    return {char for char in text if char != "\n" and unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp")}


def test_hostile_names_are_never_printed_raw(hostile: Containerd) -> None:
    for run in (
        auditor_here("check", "--verbose", "--address", hostile.socket),
        check(hostile),
        auditor_here("tree", "--address", hostile.socket, IMAGE.digest),
        check(hostile, "\x1b[31mnone"),
        check(hostile, "-n", "\u202enone"),
    ):
        assert run.status in (1, 3)
        assert hidden(run.out + run.err) == set()
        assert not any(line.startswith("auditor: all is well") for line in run.out.splitlines())
    names = check(hostile).report.images[0].names
    assert set(names) == set(HOSTILE)


def test_hostile_names_can_be_asked_for(hostile: Containerd) -> None:
    for one in HOSTILE:
        ran = check(hostile, "--", one)
        assert ran.status == 1, ran.err
        assert ran.report.summary.images.total == 1


def test_hostile_names_do_not_stretch_the_table(hostile: Containerd) -> None:
    ran = auditor_here("check", "--verbose", "--address", hostile.socket)
    assert max(map(len, ran.out.splitlines())) < 600


# The machine


def test_the_program_is_installed() -> None:
    done = subprocess.run([Path(sys.executable).with_name("auditor"), "--version"], capture_output=True, check=True)
    assert done.stdout.startswith(b"auditor ")


def test_the_daemons_files_on_another_mount(node: Containerd) -> None:
    """Where the content root that the daemon names is another's, its files are not believed."""
    apart = ("unshare", "--mount", "--propagation", "private")
    hide = f'mount -t tmpfs none {node.root} && exec "$@"'
    through = (*rooted(node.base / "tree"), *apart, "sh", "-c", hide, "sh")
    ran = auditor("check", "--verbose", "--address", node.socket, through=through)
    assert (ran.status, "over the API" in ran.err) == (0, True)
