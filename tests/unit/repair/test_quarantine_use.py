"""Old files are unused only where that is proven: each way in which a container may still use them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from auditor.repair.mounts import Mount, Overlay
from auditor.repair.quarantine import Entry, Record
from auditor.repair.quarantine_use import Node, why_kept

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
THEN = 100.0
POINT = "/run/k8s.io/web/rootfs"
WORK = "/r/snapshots/9/work"
BEFORE, AGAIN = Overlay("0:49", WORK, 5), Overlay("0:49", WORK, 6)
MOUNT = Mount("0:49", "/", POINT, ("/r/snapshots/7/fs",), WORK)
DEVICE = os.makedev(0, 49)
USED = "container k8s.io/web uses it"


def entry(tmp_path: Path, **fields: object) -> Entry:
    files = tmp_path / "token/fs"
    files.mkdir(parents=True)
    record = Record(
        namespace="k8s.io",
        snapshotter="overlayfs",
        chain="sha256:1",
        layer="sha256:2",
        key="auditor-rebuild-1",
        target="/r/snapshots/7",
        inode=files.stat().st_ino,
        boot="boot",
        containers=("k8s.io/web",),
        started_at=NOW,
        exchanged_at=NOW,
        uptime=THEN,
        overlays=(BEFORE,),
    )
    return Entry(tmp_path / "token", msgspec.structs.replace(record, **fields))


def node(*mounts: Mount, now: Overlay = BEFORE, start: float | None = None, **fields: object) -> Node:
    oldest = {} if start is None else {DEVICE: start}
    made = Node(boot="boot", mounts=mounts, oldest=oldest, stamp=lambda _: now)
    return msgspec.structs.replace(made, **fields)


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        (node(), ""),
        (node(MOUNT), USED),
        # Mounted again after the exchange, and no process in it is older.
        (node(MOUNT, now=AGAIN, start=THEN + 1), ""),
        (node(MOUNT, now=AGAIN), ""),
        # Either sign alone proves nothing.
        (node(MOUNT, now=AGAIN, start=THEN - 1), USED),
        (node(MOUNT, start=THEN + 1), USED),
        (node(MOUNT, now=Overlay("0:49")), USED),
        # Overlays that did not exist at the exchange.
        (node(msgspec.structs.replace(MOUNT, device="0:50")), ""),
        # Overlays on other snapshots.
        (node(msgspec.structs.replace(MOUNT, lower=("/r/snapshots/8/fs",))), ""),
        (node(msgspec.structs.replace(MOUNT, lower=("7/fs",))), USED),
        (node(msgspec.structs.replace(MOUNT, point="/elsewhere")), "the mount /elsewhere uses it"),
        (node(Mount("8:1", "/r/auditor-quarantine/token/fs", "/b")), "the mount /b uses it"),
        (node(Mount("8:1", "/r/auditor-quarantine/token2/fs", "/b")), ""),
        # An overlay that was unmounted lazily.
        (node(open=frozenset({DEVICE})), "a process has files open in a container that was unmounted"),
        # The number belongs to a visible, later overlay.
        (node(msgspec.structs.replace(MOUNT, lower=("/r/snapshots/8/fs",)), open=frozenset({DEVICE})), ""),
        (node(MOUNT, boot="another"), ""),
        (node(MOUNT, boot=""), USED),
    ],
)
def test_what_the_node_shows(tmp_path: Path, there: Node, reason: str) -> None:
    assert why_kept(entry(tmp_path), there) == reason


def test_what_cannot_be_seen_is_kept(tmp_path: Path) -> None:
    kept = entry(tmp_path)
    assert "not visible" in why_kept(kept, node(mounts=None))
    unknown = Entry(kept.folder, msgspec.structs.replace(kept.record, overlays=None))
    assert "not known" in why_kept(unknown, node())
    assert why_kept(unknown, node(boot="another")) == ""


def test_an_interrupted_rebuild_is_kept(tmp_path: Path) -> None:
    kept = entry(tmp_path)
    for fields in ({"exchanged_at": None}, {"inode": 1}):
        record = msgspec.structs.replace(kept.record, **fields)
        assert "interrupted" in why_kept(Entry(kept.folder, record), node(boot="another"))


def test_a_view_without_a_work_directory_is_kept(tmp_path: Path) -> None:
    view = Overlay("0:49")
    kept = entry(tmp_path, overlays=(view,))
    assert why_kept(kept, node(msgspec.structs.replace(MOUNT, work=""), now=view, start=THEN + 1)) == USED


def test_a_deletion_that_was_begun_is_finished(tmp_path: Path) -> None:
    kept = entry(tmp_path)
    kept.files.rename(kept.folder / "dropped")
    assert why_kept(kept, node(MOUNT)) == ""
    new = Entry(kept.folder, msgspec.structs.replace(kept.record, exchanged_at=None))
    assert "interrupted" in why_kept(new, node())
