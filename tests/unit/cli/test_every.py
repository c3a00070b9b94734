"""`check --every` and `scrub --every`: rounds, what they leave for those who watch, and the end by SIGTERM."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

import pytest

from auditor.cli.app import main
from auditor.cli.runs import metrics_server
from auditor.cli.runs.every import repeat, schedule
from auditor.cli.runs.metrics_server import Board, serving
from auditor.errors import StoreUnreachable, UsageError
from auditor.model.findings import Report
from tests.unit import reports

HOUR = timedelta(hours=1)


def get(place: str, path: str, method: str = "GET") -> tuple[int, str, str]:
    connection = http.client.HTTPConnection(place, timeout=10)
    connection.request(method, path)
    answer = connection.getresponse()
    found = (answer.status, answer.headers["Content-Type"], answer.read().decode())
    connection.close()
    return found


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Board:
    return Board(patience=HOUR, clock=clock)


@pytest.fixture
def place(board: Board) -> Iterator[str]:
    with serving("127.0.0.1:0", board) as found:
        assert found is not None
        yield found


def test_metrics_are_what_was_posted_last(board: Board, place: str) -> None:
    assert get(place, "/metrics") == (200, metrics_server.METRICS_TYPE, "")
    board.post("a 1\n", status=0)
    assert get(place, "/metrics?x=1") == (200, metrics_server.METRICS_TYPE, "a 1\n")
    assert get(place, "/metrics", "HEAD")[2] == ""
    assert get(place, "/other")[0] == 404


def test_health_is_the_loop_s_and_not_the_store_s(board: Board, clock: Clock, place: str) -> None:
    assert get(place, "/healthz")[0] == 200
    board.post("", status=1)
    assert get(place, "/healthz")[::2] == (200, "ok; the last round ended with 1\n")
    clock.now = 3601
    assert get(place, "/healthz")[0] == 503
    board.beat()
    assert get(place, "/healthz")[0] == 200


def test_a_client_that_says_nothing_keeps_nobody_waiting(place: str) -> None:
    host, _, port = place.rpartition(":")
    with socket.create_connection((host, int(port))):
        assert get(place, "/healthz")[0] == 200


@pytest.mark.parametrize(
    ("text", "found"), [("127.0.0.1:80", ("127.0.0.1", 80)), (":9469", ("", 9469)), ("[::1]:1", ("::1", 1))]
)
def test_addresses(text: str, found: tuple[str, int]) -> None:
    assert metrics_server.address(text) == found


@pytest.mark.parametrize("text", ["", "9469", "host:", "host:x", "host:65536", "host:-1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError):
        metrics_server.address(text)


def test_an_address_that_is_taken_is_said(place: str) -> None:
    with pytest.raises(UsageError, match="cannot listen"), serving(place, Board(patience=HOUR, clock=Clock())):
        pass


class Rounds:
    """A check that ends as told, and what the loop slept; SIGTERM comes after the last."""

    def __init__(self, *ends: Report | Exception) -> None:
        self.ends = list(ends)
        self.slept: list[float] = []

    def once(self) -> tuple[Report, int]:
        end = self.ends.pop(0)
        if isinstance(end, Exception):
            raise end
        return end, 0

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if not self.ends:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)

    def run(self, *, every: str = "6h", jitter: str = "30m", chance: float = 0.5) -> int:
        plan = schedule(every, jitter)
        return repeat(
            self.once, plan, listen=None, command="check", address="/s", chance=lambda: chance, sleep=self.sleep
        )


def test_rounds_begin_at_their_time_with_jitter_before_the_first_too_until_sigterm() -> None:
    rounds = Rounds(reports.sound(), reports.sound())
    before = signal.getsignal(signal.SIGTERM)
    assert rounds.run() == 0
    assert rounds.slept == pytest.approx([900, 6 * 3600 + 900, 6 * 3600 + 900], abs=30)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_round_that_fails_is_said_and_the_next_one_comes(capfd: pytest.CaptureFixture[str]) -> None:
    rounds = Rounds(StoreUnreachable("nobody answers"), reports.sound())
    assert rounds.run() == 0
    assert "nobody answers" in capfd.readouterr().err
    assert rounds.ends == []


def test_wrong_usage_ends_the_loop() -> None:
    with pytest.raises(UsageError):
        Rounds(UsageError("never right")).run()


@pytest.mark.parametrize("command", ["check", "scrub"])
@pytest.mark.parametrize("arguments", [["--jitter", "5m"], ["--listen", ":1"], ["--every", "0s"], ["--every", "often"]])
def test_options_that_make_no_sense_are_wrong_usage(
    command: str, arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--address", "/nowhere.sock", *arguments]) == 2
    assert capfd.readouterr().err.startswith("auditor: ")


def test_open_connections_take_no_more_than_their_number(place: str) -> None:
    host, _, port = place.partition(":")
    held = [socket.create_connection((host, int(port))) for _ in range(metrics_server.CONNECTIONS)]
    for each in held:
        each.sendall(b"GET /metrics HTTP/1.0\r\n")
    with socket.create_connection((host, int(port))) as further:
        further.settimeout(10)
        assert further.recv(1) == b""
    for each in held:
        each.close()


def test_a_client_that_drips_is_disconnected(monkeypatch: pytest.MonkeyPatch, board: Board) -> None:
    monkeypatch.setattr(metrics_server, "_PATIENCE", 0.3)
    with serving("127.0.0.1:0", board) as place:
        assert place is not None
        host, _, port = place.partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as client:
            dripping = threading.Event()
            drips = threading.Thread(target=_drip, args=(client, dripping))
            drips.start()
            assert client.recv(1) == b""
            dripping.set()
            drips.join()


def _drip(client: socket.socket, ended: threading.Event) -> None:
    """Send a byte of a request line every 20 ms."""
    with suppress(OSError):
        while not ended.wait(0.02):
            client.sendall(b"G")
