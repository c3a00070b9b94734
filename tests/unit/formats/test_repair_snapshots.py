"""Rebuilds of snapshots as text: what is to be done, what was done, and what the user has to do."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from auditor.formats.quarantine import EntryRow, QuarantineDocument
from auditor.formats.quarantine import render as render_quarantine
from auditor.formats.repair import PlanRows, render_outcomes, render_plan
from auditor.formats.repair_snapshots import SnapshotOutcomeRow, SnapshotRow

CHAIN, LAYER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
ROW = SnapshotRow(
    namespace="k8s.io",
    snapshotter="overlayfs",
    chain_id=CHAIN,
    layer=LAYER,
    directory="/r/snapshots/7/fs",
    codes=("snapshot-damaged", "snapshot-extra-files"),
    message="differs\x1b",
    images=("app:1", "app:2"),
    containers=("k8s.io/web",),
    rebuild="exchange",
)
DONE = SnapshotOutcomeRow(
    namespace="k8s.io",
    snapshotter="overlayfs",
    chain_id=CHAIN,
    layer=LAYER,
    result="rebuilt",
    message="done",
    images=("app:1",),
    restart=("k8s.io/web",),
    quarantine="/r/auditor-quarantine/1",
)
KEPT = EntryRow(
    id="0123",
    namespace="k8s.io",
    snapshotter="overlayfs",
    chain_id=CHAIN,
    layer=LAYER,
    path="/r/auditor-quarantine/0123/fs",
    size=2048,
    since=datetime(2026, 11, 28, 12, tzinfo=UTC),
    reason="container k8s.io/web uses it",
)


def test_a_plan_of_snapshots_alone() -> None:
    shown = render_plan(PlanRows(snapshots=(ROW,)), verbose=True)
    assert "nothing that can be repaired" not in shown
    assert "exchange" in shown
    assert "snapshot-damaged, snapshot-extra-files" in shown
    assert "app:1 and 1 more" in shown
    assert "used by container k8s.io/web" in shown
    assert "\x1b" not in shown
    assert "fetch, exchange" in render_plan(PlanRows(snapshots=(msgspec.structs.replace(ROW, fetches=True),)))


def test_outcomes_name_the_containers_to_restart_and_the_old_files() -> None:
    shown = render_outcomes((), (), snapshots=(DONE,))
    assert "nothing was done" not in shown
    assert "1 rebuilt" in shown
    assert "restart 1 container; until then the old files are in use:\n  k8s.io/web" in shown
    assert "auditor quarantine drop" in shown
    in_pod = msgspec.structs.replace(DONE, pods={"k8s.io/web": "default/shop"})
    assert "  k8s.io/web of pod default/shop\n" in render_outcomes((), (), snapshots=(in_pod,))


def test_a_failure_has_its_reason_and_hint() -> None:
    failed = msgspec.structs.replace(DONE, result="failed", message="why", hint="so", restart=(), quarantine="")
    shown = render_outcomes((), (), snapshots=(failed,))
    assert "why" in shown
    assert "hint: so" in shown
    assert "restart" not in shown
    assert "quarantine" not in shown


def test_the_quarantine() -> None:
    assert render_quarantine(QuarantineDocument(action="list")) == "the quarantine is empty\n"
    unused = msgspec.structs.replace(KEPT, id="4567", reason="")
    listed = render_quarantine(QuarantineDocument(action="list", entries=(KEPT, unused)))
    assert "kept: container k8s.io/web uses it" in listed
    assert listed.splitlines()[-1] == "2 entries, 4.0 KiB; 1 unused, 2.0 KiB: auditor quarantine drop"
    dropped = msgspec.structs.replace(unused, dropped=True)
    done = render_quarantine(QuarantineDocument(action="drop", entries=(dropped,)))
    assert done.splitlines()[-1] == "1 entry, 2.0 KiB; 1 deleted, 2.0 KiB freed"
    assert '"schema"' in render_quarantine(QuarantineDocument(action="list"), as_json=True)
