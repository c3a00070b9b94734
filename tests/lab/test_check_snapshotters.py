"""Stores of each built-in snapshotter: an intact one has no finding over info, and each fault its code."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.checked import check, loud
from tests.lab.conftest import StartDaemon
from tests.lab.kit import bug, faults, snapshotters
from tests.lab.kit.registry import Registry

STORES = [(version, name) for version, names in snapshotters.BUILT_IN.items() for name in names]


@pytest.mark.parametrize(("version", "snapshotter"), STORES)
def test_the_bug_a_removed_record_and_a_flipped_byte(
    start_daemon: StartDaemon, base: Path, registry: Registry, version: str, snapshotter: str
) -> None:
    daemon = start_daemon(version, **snapshotters.options(snapshotter, version, base))
    pair = bug.pair(shared=1, own=1, name=f"on-{snapshotter}", kilobytes=16)
    daemon.cri_pull(registry.push(pair.first, f"lab/on-{snapshotter}:first"))
    intact = check(daemon, "--verify", "snapshots")
    assert loud(intact.report) == set()
    assert intact.status == 0
    assert set(pair.first.chain_ids) <= set(daemon.snapshots())
    daemon.cri_pull(registry.push(pair.second, f"lab/on-{snapshotter}:second"))
    skipped = ("snapshot-without-blob", pair.skipped[0])
    assert loud(check(daemon).report) == {skipped}
    top = pair.first.layers[-1].digest
    faults.flip(daemon, top)
    assert loud(check(daemon, "--verify", "digests").report) == {skipped, ("digest-mismatch", top)}
    faults.remove_record(daemon, top)
    assert loud(check(daemon).report) == {skipped, ("snapshot-without-blob", top)}
