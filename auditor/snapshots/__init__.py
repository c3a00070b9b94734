"""Compare unpacked layers with the layers that they came from."""

from __future__ import annotations

from auditor.model.snapshot_files import Difference, Differences, Kind
from auditor.snapshots.compare import compare
from auditor.snapshots.play import Played, play
from auditor.snapshots.tree import Node, NodeKind

__all__ = ["Difference", "Differences", "Kind", "Node", "NodeKind", "Played", "compare", "play"]
