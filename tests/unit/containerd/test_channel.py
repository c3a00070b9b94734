from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from auditor.containerd import connect
from auditor.containerd.channel import close_channel
from auditor.containerd.discover import USUAL_SOCKETS, discover, discover_all, notes, socket_path
from auditor.errors import StoreTimeout, StoreUnreachable, UsageError
from tests.contract.small_containerd import SmallContainerd, World


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for the name of a socket, which pytest's own folders are not always."""
    with tempfile.TemporaryDirectory(prefix="a-") as path:
        yield Path(path)


def listener(path: Path, kind: int = socket.SOCK_STREAM, *, backlog: int = 5) -> socket.socket:
    server = socket.socket(socket.AF_UNIX, kind)
    server.bind(str(path))
    if kind != socket.SOCK_DGRAM:
        server.listen(backlog)
    return server


# Discovery


def place(root: Path, usual: str) -> Path:
    path = root / usual
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


@pytest.mark.parametrize("usual", USUAL_SOCKETS)
def test_each_usual_socket_is_found(folder: Path, usual: str) -> None:
    path = place(folder, usual)
    assert discover(None, environ={}, root=folder) == path


def test_the_first_usual_socket_wins(folder: Path) -> None:
    paths = [place(folder, usual) for usual in reversed(USUAL_SOCKETS)]
    assert discover(None, environ={}, root=folder) == paths[-1]


def test_what_is_said_wins_over_the_environment_and_that_over_what_exists(folder: Path) -> None:
    place(folder, USUAL_SOCKETS[0])
    environ = {"CONTAINERD_ADDRESS": "/from/env.sock"}
    assert discover("/said.sock", environ=environ, root=folder) == Path("/said.sock")
    assert discover(None, environ=environ, root=folder) == Path("/from/env.sock")
    assert discover("", environ={"CONTAINERD_ADDRESS": ""}, root=folder) == folder / USUAL_SOCKETS[0]


def test_no_socket_at_all_says_how_to_name_one(folder: Path) -> None:
    with pytest.raises(StoreUnreachable) as raised:
        discover(None, environ={}, root=folder)
    assert "--address" in raised.value.hint


def test_a_socket_without_daemon_is_passed_over_for_one_with_a_daemon(folder: Path) -> None:
    first, live = folder / USUAL_SOCKETS[0], folder / USUAL_SOCKETS[4]
    for path in (first, live):
        path.parent.mkdir(parents=True)
    listener(first).close()
    with listener(live):
        assert discover(None, environ={}, root=folder) == live
        assert notes([live], environ={}, root=folder) == (f"no daemon listens on {first}",)


def test_other_daemons_are_named_once(folder: Path) -> None:
    first, second = folder / USUAL_SOCKETS[0], folder / USUAL_SOCKETS[1]
    third = folder / USUAL_SOCKETS[4]
    for path in (first, second, third):
        path.parent.mkdir(parents=True)
    with listener(first), listener(second):
        third.symlink_to(second)
        assert discover(None, environ={}, root=folder) == first
        (note,) = notes([first], environ={}, root=folder)
    assert f"--address {second}" in note


def test_the_daemon_of_a_user_is_found(folder: Path) -> None:
    path = place(folder / "user", "containerd/containerd.sock")
    assert discover(None, environ={"XDG_RUNTIME_DIR": str(folder / "user")}, root=folder) == path


def test_the_daemons_of_other_users_are_found(folder: Path) -> None:
    path = place(folder / "run/user/1000", "docker/containerd/containerd.sock")
    assert discover(None, environ={}, root=folder) == path


def test_all_daemons_are_those_that_listen_each_once(folder: Path) -> None:
    first, dead, link = (folder / usual for usual in USUAL_SOCKETS[:3])
    user = folder / "run/user/1000/containerd/containerd.sock"
    for path in (first, dead, link, user):
        path.parent.mkdir(parents=True, exist_ok=True)
    listener(dead).close()
    with listener(first), listener(user):
        link.symlink_to(first)
        assert discover_all(environ={}, root=folder) == (first, user)
    with pytest.raises(StoreUnreachable, match=f"no daemon listens on {first}"):
        discover_all(environ={}, root=folder)


def test_all_daemons_where_there_is_no_socket(folder: Path) -> None:
    place(folder, "run/user/7/podman/podman.sock")
    with pytest.raises(StoreUnreachable) as raised:
        discover_all(environ={"XDG_RUNTIME_DIR": "/nowhere"}, root=folder)
    assert "is podman's socket" in raised.value.hint


@pytest.mark.parametrize(("usual", "name"), [("run/podman/podman.sock", "podman"), ("run/crio/crio.sock", "CRI-O")])
def test_a_node_without_containerd_is_told_whose_socket_it_has(folder: Path, usual: str, name: str) -> None:
    place(folder, usual)
    with pytest.raises(StoreUnreachable) as raised:
        discover(None, environ={}, root=folder)
    assert f"{folder / usual} is {name}'s socket" in raised.value.hint


@pytest.mark.parametrize("address", ["/a/b.sock", "unix:///a/b.sock", "unix:/a/b.sock"])
def test_addresses_are_paths_or_unix_urls(address: str) -> None:
    assert socket_path(address) == Path("/a/b.sock")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "npipe://./pipe/containerd", "http://x", "unix://", "unix:"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(UsageError):
        socket_path(address)


# What is wrong with a socket


def unreachable(path: Path) -> StoreUnreachable:
    with pytest.raises(StoreUnreachable) as raised:
        connect(path, timeout=5)
    assert raised.value.hint
    return raised.value


def test_an_absent_socket(folder: Path) -> None:
    assert "there is no socket" in unreachable(folder / "none.sock").message


def test_a_socket_that_a_dead_daemon_left(folder: Path) -> None:
    listener(folder / "c.sock").close()
    assert "nothing listens" in unreachable(folder / "c.sock").message


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_something_that_is_no_socket(folder: Path, kind: str) -> None:
    (folder / "file").touch()
    assert "is not a socket" in unreachable(folder / "file" if kind == "file" else folder).message


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who is refused")
def test_a_socket_that_is_not_ours_to_open(folder: Path) -> None:
    with closing(listener(folder / "c.sock")):
        (folder / "c.sock").chmod(0o600)
        folder.chmod(0o755)
        os.seteuid(65534)
        try:
            error = unreachable(folder / "c.sock")
        finally:
            os.seteuid(0)
    assert "permission denied on" in error.message
    assert "root" in error.hint


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_a_socket_of_another_kind(folder: Path, kind: int) -> None:
    with closing(listener(folder / "c.sock", kind)):
        assert "no stream socket" in unreachable(folder / "c.sock").message


def test_a_path_that_is_too_long_for_a_socket(folder: Path) -> None:
    deep = folder / ("a" * 120)
    deep.mkdir()
    here = os.open(deep, os.O_PATH)
    try:
        with closing(listener(Path(f"/proc/self/fd/{here}/c.sock"))):
            assert "longer than 107 bytes" in unreachable(deep / "c.sock").message
    finally:
        os.close(here)


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", b""])
def test_another_program(folder: Path, words: bytes) -> None:
    with closing(listener(folder / "c.sock")) as server:

        def answer() -> None:
            with closing(server.accept()[0]):
                pass  # our own try of the socket
            with closing(server.accept()[0]) as client:
                client.recv(1 << 16)
                client.sendall(words)

        thread = threading.Thread(target=answer)
        thread.start()
        message = unreachable(folder / "c.sock").message
        thread.join()
    assert "does not answer as containerd does" in message


def test_another_grpc_server(folder: Path) -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_insecure_port(f"unix:{folder}/c.sock")
    server.start()
    try:
        assert "is not containerd" in unreachable(folder / "c.sock").message
    finally:
        server.stop(grace=None).wait()


def test_a_daemon_that_says_nothing(folder: Path) -> None:
    with closing(listener(folder / "c.sock")), pytest.raises(StoreTimeout, match="did not answer within"):
        connect(folder / "c.sock", timeout=0.2)


def test_a_daemon_whose_queue_is_full(folder: Path) -> None:
    with closing(listener(folder / "c.sock", backlog=0)), closing(socket.socket(socket.AF_UNIX)) as waiting:
        waiting.connect(str(folder / "c.sock"))
        with pytest.raises(StoreTimeout, match="accepts no connection"):
            connect(folder / "c.sock", timeout=0.2)


def test_a_daemon_that_comes_back_is_found_again(folder: Path) -> None:
    with SmallContainerd(folder, World()) as server, connect(server.socket, timeout=10) as store:
        assert store.namespaces() == ("default",)
    with SmallContainerd(folder, World(namespace="later")) as server, connect(server.socket, timeout=10) as store:
        assert store.namespaces() == ("later",)


def test_a_call_that_a_signal_interrupts_as_it_begins_does_not_hold_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_state: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("grpc._channel._run_channel_spin_thread", interrupted)
    channel = grpc.insecure_channel("unix:/nowhere")
    with pytest.raises(KeyboardInterrupt):
        channel.unary_stream("/service/Method", None, None)(b"")
    before = set(threading.enumerate())
    close_channel(channel, patience=0.05)
    assert [thread.name for thread in set(threading.enumerate()) - before] == ["close"], "grpc still waits"
