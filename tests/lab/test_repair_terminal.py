"""The question before anything is written, asked and answered on a real terminal."""

from __future__ import annotations

import os
import pty
from pathlib import Path

import pytest

from tests import images
from tests.lab.conftest import StartDaemon
from tests.lab.kit import faults
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry
from tests.lab.repaired import Dump, dump, ours
from tests.program import ROOT, command, environment

IMAGE = images.image([images.layer(images.files(f"terminal-{number}")) for number in range(2)])
LOST = IMAGE.layers[1].digest


@pytest.fixture
def daemon(start_daemon: StartDaemon, registry: Registry) -> Containerd:
    started = start_daemon("2.1")
    started.cri_pull(registry.push(IMAGE, "lab/terminal:1"))
    faults.remove_record(started, LOST)
    return started


@pytest.fixture
def before(daemon: Containerd) -> Dump:
    return dump(daemon)


def talk(line: list[str], answer: bytes) -> tuple[int, str]:
    """Run a program on a terminal of its own and answer its question; the exit status and all that it showed."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(line[0], line, environment())
    shown = b""
    answered = False
    while part := _read(terminal):
        shown += part
        if not answered and b"[y/N]" in shown:
            os.write(terminal, answer)
            answered = True
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that nobody is left at the other end
        return b""


def line(socket: Path) -> list[str]:
    return command("repair", "--address", socket)


def test_yes_repairs(daemon: Containerd) -> None:
    status, shown = talk(line(daemon.socket), b"y\n")
    assert status == 0, shown
    assert shown.index("plan:") < shown.index("[y/N]") < shown.index("1 repaired")
    assert LOST in daemon.blobs()


@pytest.mark.parametrize("answer", [b"n\n", b"\n"])
def test_anything_else_writes_nothing_and_leaves_the_status_of_the_check(
    daemon: Containerd, before: Dump, answer: bytes
) -> None:
    status, shown = talk(line(daemon.socket), answer)
    assert status == 1, shown
    assert "nothing was done" in shown
    assert dump(daemon) == before


def test_control_c_at_the_question_leaves_nothing(daemon: Containerd, before: Dump) -> None:
    status, shown = talk(line(daemon.socket), b"\x03")
    assert status == 130, shown
    assert "Traceback" not in shown
    assert dump(daemon) == before
    assert not ours(daemon)
