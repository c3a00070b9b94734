"""Verify blobs and compare snapshots: read each once, within a budget, with results kept between runs."""

from __future__ import annotations

from auditor.scrub.run import Comparison, scrub, verify_blobs
from auditor.scrub.schedule import (
    Coverage,
    SnapshotCoverage,
    coverage,
    current,
    plan,
    plan_with_snapshots,
    snapshot_coverage,
)
from auditor.scrub.snapshot_state import SnapshotState
from auditor.scrub.targets import (
    SnapshotTarget,
    Target,
    largest_first,
    layers_of,
    snapshot_targets,
    targets_of,
    wanted,
)

__all__ = [
    "Comparison",
    "Coverage",
    "SnapshotCoverage",
    "SnapshotState",
    "SnapshotTarget",
    "Target",
    "coverage",
    "current",
    "largest_first",
    "layers_of",
    "plan",
    "plan_with_snapshots",
    "scrub",
    "snapshot_coverage",
    "snapshot_targets",
    "targets_of",
    "verify_blobs",
    "wanted",
]
