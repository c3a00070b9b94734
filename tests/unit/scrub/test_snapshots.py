"""Snapshots in a scrub: their place in the schedule, and what is remembered of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from auditor.model.digest import Digest
from auditor.model.image_graph import Layer
from auditor.model.oci import Descriptor
from auditor.model.snapshot_files import Difference, Differences, Kind, SnapshotFiles, Usage
from auditor.model.store import Snapshot, Verification, VerificationKind
from auditor.scrub import SnapshotCoverage, SnapshotTarget, Target, plan_with_snapshots, snapshot_coverage
from auditor.scrub.snapshot_state import RememberedSnapshot, SnapshotState
from auditor.scrub.state import Remembered, State
from auditor.scrub.targets import snapshot_targets
from auditor.snapshots.presence import Needed

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
INTACT = SnapshotFiles(id="7", path="/s/7/fs", recorded=Usage(5, 1), differences=Differences(expected=3))
#: Names need not be UTF-8.
DAMAGED = SnapshotFiles(id="7", path="/s/7/fs", differences=Differences((Difference(b"a\xff", Kind.EMPTY),), 3))
UNREAD = SnapshotFiles(id="7", path="/s/7/fs", reason="not permitted to read /s/7/fs/a; run as root")
UNJUDGED = SnapshotFiles(id="7", path="/s/7/fs", reason="its layer's blob is absent")


def snapshot(name: str, *, size: int = 10, directory: str = "7 1") -> SnapshotTarget:
    record = Snapshot(namespace="n", snapshotter="overlayfs", name=name, kind="committed", parent="")
    descriptor = Descriptor(digest=Digest.of(name.encode()), size=size, media_type="")
    layer = Layer(index=0, descriptor=descriptor, diff_id=None, chain_id=None)
    return SnapshotTarget(Needed(record, layer, 0), SnapshotFiles(id="7", path="/s/7/fs"), directory)


def known(files: SnapshotFiles | None, *, days: float, directory: str = "7 1") -> RememberedSnapshot:
    at = NOW - days * DAY
    return RememberedSnapshot(directory=directory, tried_at=at, read_at=at if files else None, files=files)


def order(*, known_bad: bool = False, new_only: bool = False, max_age: timedelta | None = None) -> list[str]:
    """The schedule of some snapshots and blobs, by name."""
    blobs = {Digest.of(name.encode()): name for name in ("blob-bad", "blob-new", "blob-old")}
    old = Verification(Digest.of(b"blob-old"), VerificationKind.SOUND)
    bad = Verification(Digest.of(b"blob-bad"), VerificationKind.CORRUPT)
    due = plan_with_snapshots(
        [Target(digest, 20, ("n",)) for digest in blobs],
        {each.digest: Remembered(each.digest, read_at=NOW - 3 * DAY, verification=each) for each in (old, bad)},
        [snapshot(name) for name in ("bad", "new", "older", "old", "tried", "unjudged", "unread", "made-again")],
        {
            ("n", "overlayfs", name): each
            for name, each in {
                "bad": known(DAMAGED, days=1),
                "older": known(INTACT, days=9),
                "old": known(INTACT, days=3),
                "tried": known(None, days=1),
                "unjudged": known(UNJUDGED, days=2),
                "unread": known(UNREAD, days=2),
                "made-again": known(INTACT, days=1, directory="8 1"),
            }.items()
        },
        now=NOW,
        max_age=max_age,
        known_bad=known_bad,
        new_only=new_only,
    )
    return [blobs[each.digest] if isinstance(each, Target) else each.key[2] for each in due]


def test_blobs_and_snapshots_have_one_order() -> None:
    assert order() == [
        *("blob-bad", "bad"),  # damaged, the longest ago first
        *("made-again", "new", "blob-new", "unread", "tried"),  # new; what was tried and has no result comes last
        *("older", "old", "blob-old", "unjudged"),  # of the same age, the snapshot before the blob
    ]


def test_of_one_age_the_larger_snapshot_comes_first_then_the_name() -> None:
    targets = [snapshot("old"), snapshot("b"), snapshot("a"), snapshot("large", size=20)]
    due = plan_with_snapshots([], {}, targets, {targets[0].key: known(INTACT, days=3)}, now=NOW)
    assert [each.key[2] for each in due if isinstance(each, SnapshotTarget)] == ["large", "a", "b", "old"]


def test_of_one_attempt_the_time_of_a_result_that_settles_nothing_does_not_count() -> None:
    targets = [snapshot("tried"), snapshot("read")]
    memory = {targets[0].key: known(None, days=1), targets[1].key: known(UNREAD, days=1)}
    assert plan_with_snapshots([], {}, targets, memory, now=NOW) == targets[::-1]


@pytest.mark.parametrize(("options", "due"), [({}, False), ({"layers": False}, False), ({"layers": True}, True)])
def test_a_layer_that_was_only_hashed_is_due_where_layers_are_decompressed(options: dict[str, bool], due: bool) -> None:
    layer = Target(Digest.of(b"layer"), 20, ("n",), layer=True)
    hashed = Remembered(layer.digest, read_at=NOW, verification=Verification(layer.digest, VerificationKind.SOUND))
    found = plan_with_snapshots([layer], {layer.digest: hashed}, [], {}, now=NOW, max_age=DAY, **options)
    assert found == [layer] * due


def test_what_was_compared_within_the_time_is_not_due() -> None:
    assert order(max_age=2.5 * DAY)[-3:] == ["older", "old", "blob-old"]


def test_only_what_was_damaged_or_never_read() -> None:
    assert order(known_bad=True) == ["blob-bad", "bad"]
    assert order(new_only=True) == ["made-again", "new", "blob-new", "unread", "tried"]


def test_the_coverage_counts_intact_snapshots_whose_directory_is_the_same() -> None:
    targets = [snapshot("a"), snapshot("b"), snapshot("c", directory="9 9"), snapshot("d")]
    memory = {
        target.key: known(files, days=days)
        for target, files, days in zip(targets, (INTACT, DAMAGED, INTACT, UNJUDGED), (4, 3, 2, 1), strict=True)
    }
    assert snapshot_coverage(targets, memory) == SnapshotCoverage(4, 1, NOW - 4 * DAY)
    assert snapshot_coverage([], memory) == SnapshotCoverage()


def test_a_target_is_a_directory_that_exists(tmp_path: Path) -> None:
    wanted = {snapshot(name).key: snapshot(name).needed for name in ("a", "b", "c", "d", "e")}
    a, b, c, d, e = wanted
    looked = {
        a: SnapshotFiles(id="1", path=str(tmp_path)),
        b: SnapshotFiles(id="2", path=str(tmp_path / "gone")),
        c: SnapshotFiles(id="3", path=str(tmp_path), missing=True),
        d: SnapshotFiles(id="4", path=str(tmp_path), reason="another snapshotter"),
        e: SnapshotFiles(id="5", path=str(tmp_path)),
    }
    inode = tmp_path.stat().st_ino
    assert list(snapshot_targets(wanted, looked)) == [
        SnapshotTarget(wanted[a], looked[a], f"1 {inode}"),
        SnapshotTarget(wanted[e], looked[e], f"5 {inode}"),
    ]


@pytest.mark.parametrize(("recorded", "size"), [(None, 10), (Usage(5, 1), 15)])
def test_a_comparison_reads_the_blob_and_the_files(recorded: Usage | None, size: int) -> None:
    target = msgspec.structs.replace(snapshot("a"), files=SnapshotFiles(id="7", path="/s", recorded=recorded))
    assert (target.bytes, target.layer) == (size, Digest.of(b"a"))


@pytest.mark.parametrize("files", [INTACT, DAMAGED, UNJUDGED])
def test_a_result_is_remembered_whole(tmp_path: Path, files: SnapshotFiles) -> None:
    with State.open(tmp_path / "s", store="a") as state:
        SnapshotState(state).begin(snapshot("a"), at=NOW)
        SnapshotState(state).record(snapshot("a"), files, at=NOW + DAY)
    with State.open(tmp_path / "s", store="a") as state:
        (found,) = SnapshotState(state).remembered().values()
        assert found == RememberedSnapshot(
            directory="7 1",
            tried_at=NOW,
            read_at=NOW + DAY,
            bad_since=NOW + DAY if files is DAMAGED else None,
            files=files,
        )
        assert (found.bad, found.compared) == (files is DAMAGED, files is INTACT)
    with State.open(tmp_path / "s", store="b") as state:
        assert SnapshotState(state).remembered() == {}


def test_the_time_of_the_first_damage_is_kept(tmp_path: Path) -> None:
    with State.open(tmp_path / "s", store="a") as state:
        memory = SnapshotState(state)
        memory.record(snapshot("a"), DAMAGED, at=NOW)
        memory.record(snapshot("a"), DAMAGED, at=NOW + DAY)
        (found,) = memory.remembered().values()
        assert (found.bad_since, found.read_at) == (NOW, NOW + DAY)
        memory.record(snapshot("a"), INTACT, at=NOW + 2 * DAY)
        (found,) = memory.remembered().values()
        assert found.bad_since is None


def test_results_of_another_directory_are_dropped(tmp_path: Path) -> None:
    with State.open(tmp_path / "s", store="a") as state:
        memory = SnapshotState(state)
        memory.record(snapshot("a"), DAMAGED, at=NOW)
        memory.begin(snapshot("a"), at=NOW + DAY)
        assert [each.files for each in memory.remembered().values()] == [DAMAGED]
        memory.begin(snapshot("a", directory="9 9"), at=NOW + DAY)
        assert list(memory.remembered().values()) == [RememberedSnapshot(directory="9 9", tried_at=NOW + DAY)]


def test_snapshots_that_left_the_store_are_forgotten(tmp_path: Path) -> None:
    with State.open(tmp_path / "s", store="a") as state:
        memory = SnapshotState(state)
        for name in ("a", "b"):
            memory.record(snapshot(name), INTACT, at=NOW)
        memory.forget_absent([snapshot("b").key])
        assert set(memory.remembered()) == {snapshot("b").key}


def test_an_older_file_gets_the_table_and_keeps_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "s"
    digest = Digest.of(b"1")
    with State.open(path, store="a") as state:
        state.record(Verification(digest, VerificationKind.SOUND), at=NOW)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("DROP TABLE snapshots")
    with State.open(path, store="a") as state:
        SnapshotState(state).record(snapshot("a"), INTACT, at=NOW)
        assert (set(state.remembered()), len(SnapshotState(state).remembered()), state.notes) == ({digest}, 1, ())


def test_a_table_of_another_form_is_damage_and_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with State.open(path, store="a"):
        pass
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("DROP TABLE snapshots")
        raw.execute("CREATE TABLE snapshots (store TEXT)")
    with State.open(path, store="a") as state:
        assert SnapshotState(state).remembered() == {}
        assert "its table of snapshots has other columns" in state.notes[0]
    assert (tmp_path / "s.corrupt-1").exists()


def test_a_row_that_cannot_be_parsed_is_compared_again(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with State.open(path, store="a") as state:
        SnapshotState(state).record(snapshot("a"), INTACT, at=NOW)
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE snapshots SET found = ?", (b'{"id": 5}',))
    with State.open(path, store="a") as state:
        assert SnapshotState(state).remembered() == {}
