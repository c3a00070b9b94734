"""A record without a file: what fails because of it, and which pull fetched the blob."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from auditor.checks.blob_case import Case
from auditor.checks.evidence import Evidence, NamespaceView

#: containerd's label with the repositories that a blob was fetched from, by host; core/remotes/docker/handler.go.
_FETCHED_FROM: Final = "containerd.io/distribution.source."


def repositories(evidence: Evidence, case: Case) -> tuple[str, ...]:
    """Return the repositories that the blob's records name, such as `registry.example/team/app`, sorted."""
    found: set[str] = set()
    for view in _views(evidence, case):
        for label, value in view.labels(case.digest).items():
            if label.startswith(_FETCHED_FROM):
                host = label.removeprefix(_FETCHED_FROM)
                found.update(f"{host}/{name}" for name in value.split(",") if name)
    return tuple(sorted(found))


def consequence(evidence: Evidence, case: Case) -> str:
    """Return what fails, as a clause.

    A layer that is unpacked for each of its images is not read by a pull; each other blob is (1.6, 1.7, 2.1).
    """
    if not case.images:
        fetched = repositories(evidence, case)
        origin = f" of {fetched[0]}" if fetched else ""
        return f"no image uses it: probably an interrupted pull{origin}; pulls that need it fail"
    unpacked = [snapshotters for view in _views(evidence, case) for snapshotters in _snapshotters(view, case)]
    if unpacked and all(unpacked) and all(image.role == "layer" for image in case.images):
        return "the image is unpacked and runs, exporting it fails, and pulling it again changes nothing"
    return "pulling or unpacking the image fails (blob not found)"


def _views(evidence: Evidence, case: Case) -> Iterator[NamespaceView]:
    return (view for view in evidence.views if view.name in case.namespaces)


def _snapshotters(view: NamespaceView, case: Case) -> Iterator[tuple[str, ...]]:
    """Yield the snapshotters that have the layer's snapshot, for each manifest that has the layer."""
    for _, node in view.manifests():
        inside = view.content(node.digest)
        for layer in inside.layers if inside is not None else ():
            if layer.descriptor.digest == case.digest:
                yield view.unpacked_on(layer.chain_id)
