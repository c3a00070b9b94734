"""What is remembered between runs, and that losing or breaking it costs work and nothing else."""

from __future__ import annotations

import fcntl
import os
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from auditor.errors import StateError
from auditor.model.digest import Digest
from auditor.model.store import (
    LayerVerification,
    LayerVerificationKind,
    SourceKind,
    StoreInfo,
    Verification,
    VerificationKind,
)
from auditor.scrub.state import State, identity
from auditor.scrub.state_file import APPLICATION_ID, VERSION, quarantine

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
ONE, TWO = Digest.of(b"1"), Digest.of(b"2")
LAYER = LayerVerification(LayerVerificationKind.SOUND, diff_id=TWO, size=9, compression="gzip")


def sound(digest: Digest) -> Verification:
    return Verification(digest, VerificationKind.SOUND, size=1, actual=digest, layer=LAYER)


def corrupt(digest: Digest) -> Verification:
    return Verification(digest, VerificationKind.CORRUPT, size=1, actual=TWO, detail="one bit differs")


def test_an_outcome_is_remembered_whole_but_as_one_of_another_run(tmp_path: Path) -> None:
    path = tmp_path / "new" / "state.db"
    with State.open(path, store="a") as state:
        state.record(sound(ONE), at=NOW)
    with State.open(path, store="a") as state:
        known = state.remembered()[ONE]
        assert state.notes == ()
    assert known.verification == Verification(
        ONE, VerificationKind.SOUND, size=1, actual=ONE, layer=LAYER, fresh=False, read_at=NOW
    )
    assert (known.read_at, known.bad_since, known.bad) == (NOW, None, False)


def test_it_is_remembered_since_when_a_blob_is_bad(tmp_path: Path) -> None:
    with State.open(tmp_path / "s", store="a") as state:
        state.record(corrupt(ONE), at=NOW)
        state.record(corrupt(ONE), at=NOW + timedelta(days=1))
        known = state.remembered()[ONE]
        assert (known.bad, known.bad_since, known.read_at) == (True, NOW, NOW + timedelta(days=1))
        state.record(sound(ONE), at=NOW + timedelta(days=2))
        assert state.remembered()[ONE].bad_since is None


def test_what_was_begun_and_not_finished_is_remembered_without_an_outcome(tmp_path: Path) -> None:
    with State.open(tmp_path / "s", store="a") as state:
        state.begin(ONE, at=NOW)
        known = state.remembered()[ONE]
        assert (known.tried_at, known.read_at, known.verification) == (NOW, None, None)
        state.record(sound(ONE), at=NOW)
        state.begin(ONE, at=NOW + timedelta(days=1))
        assert state.remembered()[ONE].read_at == NOW


def test_what_left_the_store_is_forgotten(tmp_path: Path) -> None:
    with State.open(tmp_path / "s", store="a") as state:
        for digest in (ONE, TWO):
            state.record(sound(digest), at=NOW)
        state.forget_absent([TWO])
        assert set(state.remembered()) == {TWO}
        state.record(Verification(TWO, VerificationKind.GONE), at=NOW)
        assert state.remembered() == {}


def test_two_stores_in_one_file_do_not_mix(tmp_path: Path) -> None:
    with State.open(tmp_path / "s", store="a") as state:
        state.record(sound(ONE), at=NOW)
    with State.open(tmp_path / "s", store="b") as state:
        assert state.remembered() == {}
        state.forget_absent([])
    with State.open(tmp_path / "s", store="a") as state:
        assert set(state.remembered()) == {ONE}


def test_a_store_is_known_by_its_id_then_by_its_content_then_by_its_address() -> None:
    bare = StoreInfo(kind=SourceKind.CONTAINERD, address="/run/c.sock")
    rooted = StoreInfo(kind=SourceKind.CONTAINERD, address="/run/c.sock", content_root=Path("/var/lib/c"))
    named = StoreInfo(kind=SourceKind.CONTAINERD, address="/else", content_root=Path("/var/lib/c"), id="u-1")
    assert [identity(info) for info in (bare, rooted, named)] == [
        "containerd:/run/c.sock",
        "containerd:/var/lib/c",
        "containerd:u-1",
    ]


def test_a_second_run_says_so_and_leaves(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with State.open(path, store="a"), pytest.raises(StateError, match=f"in use by process {os.getpid()}"):
        State.open(path, store="a")
    State.open(path, store="a").close()


def test_the_lock_goes_with_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "s"
    script = (
        "import os, sys; from pathlib import Path; from auditor.scrub.state import State\n"
        "state = State.open(Path(sys.argv[1]), store='a'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -9
    State.open(path, store="a").close()


def _fill(state: State) -> None:
    for number in range(500):
        state.record(sound(Digest.of(b"%d" % number)), at=NOW)


def _filled(path: Path) -> None:
    with State.open(path, store="a") as state:
        _fill(state)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[: len(data) // 2 + 100],
    "a page of zeros": lambda data: data[:4096] + bytes(4096) + data[8192:],
    "noise": lambda data: data[:100] + random.Random(1).randbytes(len(data) - 100),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_kept_aside_and_costs_only_what_it_knew(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state.db"
    _filled(path)
    broken = DAMAGE[damage](path.read_bytes())
    path.write_bytes(broken)
    with State.open(path, store="a") as state:
        assert state.remembered() == {}
        (note,) = state.notes
        assert "state.db.corrupt-1" in note
        state.record(sound(ONE), at=NOW)
    assert (tmp_path / "state.db.corrupt-1").read_bytes() == broken
    with State.open(path, store="a") as state:
        assert (set(state.remembered()), state.notes) == ({ONE}, ())


def test_an_empty_file_is_an_empty_state(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.touch()
    with State.open(path, store="a") as state:
        assert (state.remembered(), state.notes) == ({}, ())


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_live_database_of_another_program_is_refused_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "firefox.sqlite"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA journal_mode = WAL")
    other.execute("CREATE TABLE bookmarks (url TEXT)")
    other.execute("INSERT INTO bookmarks VALUES ('kept')")
    before = _snapshot(tmp_path)
    assert before["firefox.sqlite-wal"]
    with pytest.raises(StateError, match="not made by auditor"):
        State.open(path, store="a")
    assert _snapshot(tmp_path) == before
    other.close()
    with sqlite3.connect(path) as again:
        assert again.execute("SELECT url FROM bookmarks").fetchall() == [("kept",)]
    again.close()


@pytest.mark.parametrize("data", [b"garbage" * 999, b"\0" * 16 + b"\xed\xda\x0c\xed" * 99, b"SQLite format 3\0"])
def test_a_file_that_is_no_state_is_refused_and_left_unchanged(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "meta.db").write_bytes(data)
    with pytest.raises(StateError, match="not made by auditor"):
        State.open(tmp_path / "meta.db", store="a")
    assert _snapshot(tmp_path) == {"meta.db": data}


def test_a_state_of_the_first_version_is_read(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with State.open(path, store="a") as state:
        state.record(sound(ONE), at=NOW)
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA application_id = 0")
        raw.execute("DROP TABLE snapshots")
    raw.close()
    for _ in range(2):
        with State.open(path, store="a") as state:
            assert (set(state.remembered()), state.notes) == ({ONE}, ())


def test_the_write_ahead_log_of_an_absent_database_is_kept(tmp_path: Path) -> None:
    (tmp_path / "s-wal").write_bytes(b"rows")
    with pytest.raises(StateError, match="belongs to a database that is missing"):
        State.open(tmp_path / "s", store="a")
    assert _snapshot(tmp_path) == {"s-wal": b"rows"}


def test_links_are_not_followed(tmp_path: Path) -> None:
    _filled(tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "other-wal").symlink_to("real")
    for name in ("link", "other"):
        with pytest.raises(StateError, match="not a regular file"):
            State.open(tmp_path / name, store="a")


def test_a_lock_file_of_another_program_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "s.lock").write_bytes(b"owner: apt")
    with pytest.raises(StateError, match="not a lock file of auditor"):
        State.open(tmp_path / "s", store="a")
    assert (tmp_path / "s.lock").read_bytes() == b"owner: apt"


def test_a_pid_file_and_a_pipe_are_no_locks(tmp_path: Path) -> None:
    (tmp_path / "daemon.pid").write_bytes(b"123")
    (tmp_path / "s.lock").hardlink_to(tmp_path / "daemon.pid")
    os.mkfifo(tmp_path / "t.lock")
    for name in ("s", "t"):
        with pytest.raises(StateError, match="not a lock file of auditor"):
            State.open(tmp_path / name, store="a")
    assert (tmp_path / "daemon.pid").read_bytes() == b"123"


@pytest.mark.parametrize("path", ["", "/"])
def test_a_path_without_a_name_is_refused(path: str) -> None:
    with pytest.raises(StateError, match="is a folder"):
        State.open(Path(path), store="a")


def test_a_damaged_state_is_kept_with_its_companions(tmp_path: Path) -> None:
    for name in ("s", "s-wal", "s-shm", "s-journal", "s.corrupt-1-wal"):
        (tmp_path / name).write_bytes(name.encode())
    assert quarantine(tmp_path / "s") == tmp_path / "s.corrupt-2"
    assert _snapshot(tmp_path) == {
        "s.corrupt-1-wal": b"s.corrupt-1-wal",
        "s.corrupt-2": b"s",
        "s.corrupt-2-wal": b"s-wal",
        "s.corrupt-2-shm": b"s-shm",
        "s.corrupt-2-journal": b"s-journal",
    }


def test_rows_that_make_no_sense_are_proven_again(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with State.open(path, store="a") as state:
        state.record(sound(ONE), at=NOW)
    with sqlite3.connect(path) as raw:
        rows = [
            ("a", "no digest", NOW.timestamp(), b"{}"),
            ("a", TWO, "yesterday", b"{"),
            ("a", ONE[:-1] + "0", 1e300, None),
        ]
        raw.executemany("INSERT INTO proofs (store, digest, read_at, proof) VALUES (?, ?, ?, ?)", rows)
    raw.close()
    with State.open(path, store="a") as state:
        assert set(state.remembered()) == {ONE}


def test_a_file_of_a_newer_version_is_left_alone_and_ours_lies_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as newer:
        newer.execute("CREATE TABLE proofs (everything TEXT)")
        newer.execute(f"PRAGMA user_version = {VERSION + 1}")
        newer.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    newer.close()
    before = path.read_bytes()
    for _ in range(2):
        with State.open(path, store="a") as state:
            assert "newer version" in state.notes[0]
            assert state.path == tmp_path / f"state.db.v{VERSION}"
            state.record(sound(ONE), at=NOW)
    assert path.read_bytes() == before
    with State.open(path, store="a") as state:
        assert set(state.remembered()) == {ONE}


@pytest.mark.parametrize("place", ["folder", "file/below", "loop"])
def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path, place: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(StateError, match=r"the state file .* cannot be used: ") as raised:
        State.open(tmp_path / place, store="a")
    assert "--state" in raised.value.hint
    # Whoever could not open it does not hold it either.
    for lock in tmp_path.glob("*.lock"):
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    state = State.open(tmp_path / "s", store="a")
    with state:
        state._connection.execute("PRAGMA max_page_count = 4")
        with pytest.raises(StateError, match="cannot be used: database or disk is full"):
            _fill(state)
        assert state.remembered()
