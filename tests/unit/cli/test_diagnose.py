"""The command itself: what it reads, what it refuses, with which status it ends."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from auditor import containerd
from auditor.cli import app
from auditor.errors import StoreUnreachable

A = f"sha256:{'a1' * 32}"
Ask = Callable[..., tuple[int, str, str]]


class Input:
    """Standard input with these bytes, and no terminal."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)

    def isatty(self) -> bool:
        return False


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    def run(*words: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", Input(stdin))
        status = app.main(["diagnose", *words])
        told = capsys.readouterr()
        assert "a bug in auditor" not in told.err, told.err
        return status, told.out, told.err

    return run


def test_a_known_message_alone(ask: Ask) -> None:
    status, out, _ = ask("--message-only", f"ctr: content digest {A}: not found")
    assert status == 0
    assert "missing-blobs bug" in out.splitlines()[3]


def test_an_unknown_one_alone(ask: Ask) -> None:
    status, out, _ = ask("--message-only", "something else")
    assert status == 3
    assert "no cause can be named" in out


def test_where_no_daemon_is_found_the_text_is_explained_and_nothing_was_examined(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object, **__: object) -> Path:
        raise StoreUnreachable("no daemon is here")

    monkeypatch.setattr(containerd, "discover", none)
    status, out, err = ask(f"ctr: content digest {A}: not found", "--format", "json")
    assert status == 3
    assert "note: no daemon is here" in err
    told = json.loads(out)
    assert told["verdict"]["message"] == "missing-blob"
    assert told["looked_at"] == ""


def test_a_daemon_that_is_named_must_be_there(ask: Ask, tmp_path: Path) -> None:
    status, out, err = ask("--address", str(tmp_path / "none.sock"), "sha256:abcd")
    assert (status, out) == (3, "")
    assert "hint:" in err


@pytest.mark.parametrize("words", [(), ("-",), ("",), ("  ",)])
def test_nothing_was_asked(ask: Ask, words: tuple[str, ...]) -> None:
    status, out, err = ask(*words, "--message-only", stdin=b" \n")
    assert (status, out) == (2, "")
    assert "hint:" in err


def test_an_archive_that_is_not_there(ask: Ask, tmp_path: Path) -> None:
    assert ask("--archive", str(tmp_path / "none.tar"), "x")[0] == 2
    (tmp_path / "some.tar").write_bytes(b"")
    assert ask("--archive", str(tmp_path / "some.tar"), "--message-only", "x")[0] == 2


def test_standard_input(ask: Ask) -> None:
    log = b"quiet\n" * 20_000 + f"ctr: content digest {A}: not found\n".encode() * 3 + b"quiet\n" * 20_000
    status, out, _ = ask("--message-only", "--format", "json", stdin=log)
    told = json.loads(out)
    assert (status, told["lines"]) == (0, 40_003)
    assert told["messages"][0]["id"] == "missing-blob"
    assert told["messages"][0]["lines"] == 3


@pytest.mark.parametrize("junk", [bytes(range(256)) * 40, b"\xff\xfe" * 100_000, b"\0" * 200_000])
def test_junk(ask: Ask, junk: bytes) -> None:
    status, out, _ = ask("--message-only", stdin=junk)
    assert status == 3
    assert "no cause can be named" in out


def test_credentials_come_through_in_no_format(ask: Ask) -> None:
    words = f'crictl pull --creds robot:hunter2 r.corp/x:1: Authorization: Basic aHVudGVyMg== content digest {A}: not found'  # fmt: skip  # noqa: E501, Q000
    for style in ("text", "json", "markdown"):
        _, out, _ = ask("--message-only", "--format", style, words)
        assert "hunter2" not in out
        assert "aHVudGVyMg" not in out
    assert "r.corp" not in out


def test_a_file_is_written_whole(ask: Ask, tmp_path: Path) -> None:
    target = tmp_path / "told.md"
    status, out, _ = ask("--message-only", "-f", "markdown", "-o", str(target), "no space left on device")
    assert (status, out) == (0, "")
    assert "**Cause:**" in target.read_text()
