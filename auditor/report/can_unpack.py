"""Which images could be unpacked for another snapshotter, or again, without a registry. No I/O.

An image has to be pulled again where a layer's blob is not here: after a change of the snapshotter, or of
`discard_unpacked_layers`, which does not bring blobs back (containerd issue 13658).
"""

from __future__ import annotations

from collections.abc import Sequence

from auditor.checks.evidence import Evidence
from auditor.model.findings import Finding
from auditor.model.readiness import CanUnpack, NotReady
from auditor.report.image_tree import trees
from auditor.report.needed_blobs import Needed, needed_blobs, not_ready


def can_unpack(evidence: Evidence, findings: Sequence[Finding], snapshotter: str) -> CanUnpack:
    """Return how many images are unpacked, could be, or have to be pulled again.

    Args:
        evidence: The evidence of an audit.
        findings: Its findings.
        snapshotter: The snapshotter's name; it need not be configured yet.

    """
    images = trees(evidence, findings)
    unpacked = can = 0
    missing: dict[str, int] = {}
    again: list[NotReady] = []
    for tree in images:
        blobs = needed_blobs(tree)
        lacking = tuple(blob for blob in blobs if blob.why)
        if _is_unpacked(blobs, snapshotter):
            unpacked += 1
        elif lacking:
            again.append(not_ready(tree, lacking))
            missing.update({blob.digest: blob.size for blob in lacking})
        else:
            can += 1
    return CanUnpack(
        snapshotter=snapshotter,
        configured=any(known.name == snapshotter for known in evidence.info.snapshotters),
        images=len(images),
        unpacked=unpacked,
        can=can,
        bytes_to_pull=sum(missing.values()),
        pull_again=tuple(again),
    )


def _is_unpacked(blobs: Sequence[Needed], snapshotter: str) -> bool:
    """Whether every layer has its snapshot; an image without layers has nothing to unpack."""
    layers = [blob for blob in blobs if blob.kind.startswith("layer")]
    return bool(layers) and all(snapshotter in blob.unpacked for blob in layers)
