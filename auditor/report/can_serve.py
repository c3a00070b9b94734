"""What a peer-to-peer mirror such as Spegel could serve from this node. No I/O.

A mirror serves the blobs of containerd's content store by digest. Layers that `discard_unpacked_layers` removed, that a
lazy snapshotter never fetched, or that are damaged cannot be served (spegel issue 1513).
"""

from __future__ import annotations

from collections.abc import Sequence

from auditor.checks.evidence import Evidence
from auditor.model.findings import Finding
from auditor.model.readiness import CanServe, NotReady
from auditor.report.image_tree import trees
from auditor.report.needed_blobs import needed_blobs, not_ready


def can_serve(evidence: Evidence, findings: Sequence[Finding]) -> CanServe:
    """Return how many images and bytes could be served, and why others could not.

    Args:
        evidence: The evidence of an audit.
        findings: Its findings.

    """
    usable: dict[str, int] = {}
    absent: dict[str, int] = {}
    lacking: list[NotReady] = []
    images = trees(evidence, findings)
    for tree in images:
        blobs = needed_blobs(tree)
        usable.update({blob.digest: blob.size for blob in blobs if not blob.why})
        absent.update({blob.digest: blob.size for blob in blobs if blob.why})
        if any(blob.why for blob in blobs):
            lacking.append(not_ready(tree, tuple(blob for blob in blobs if blob.why)))
    return CanServe(
        images=len(images),
        servable=len(images) - len(lacking),
        bytes=sum(usable.values()),
        bytes_absent=sum(size for digest, size in absent.items() if digest not in usable),
        not_servable=tuple(lacking),
    )
