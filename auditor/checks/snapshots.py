"""Snapshots: unpacked images, labels that name a missing snapshot, and broken snapshot chains."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Final

from auditor.checks.documents import LAYER_COUNT_MISMATCH
from auditor.checks.evidence import Evidence, NamespaceView, image_ref
from auditor.checks.layer_state import State, absences, faults
from auditor.checks.rule import Hit, Rule, blob_subject
from auditor.model.command_line import command
from auditor.model.findings import Fact, Severity, Subject
from auditor.model.image_graph import Content, ImageGraph, ManifestNode
from auditor.model.store import Snapshot

BROKEN_SNAPSHOT_CHAIN = Rule(
    code="broken-snapshot-chain",
    severity=Severity.CRITICAL,
    means="The top snapshot of an image exists; a snapshot below it is missing or has the wrong parent.",
    impact="Containers of the image do not start: `failed to stat parent`, `parent snapshot … does not exist`.",
    remedy="Drain the node, remove the image and its containers, and pull the image again.",
)
SNAPSHOT_MISSING = Rule(
    code="snapshot-missing",
    severity=Severity.WARNING,
    means="The config's label marks the image as unpacked; the snapshot does not exist.",
    impact="All blobs exist, so the image is unpacked again on demand; until then a start takes longer, or fails in "
    "clients that rely on the label.",
    remedy="Unpack the image again: `ctr snapshots unpack DIGEST`, or start a container of it.",
)
NOT_UNPACKED = Rule(
    code="not-unpacked",
    severity=Severity.INFO,
    means="An image is complete and no snapshotter has unpacked it.",
    impact="No fault: it was imported or fetched, not run.",
    remedy="Nothing.",
)
RULES = (BROKEN_SNAPSHOT_CHAIN, SNAPSHOT_MISSING, NOT_UNPACKED)


#: States of layers that cannot have been unpacked.
_NOT_HERE = frozenset({State.INCOMPLETE, State.IN_PROGRESS, State.NOT_PULLED, State.NOT_FETCHED})


def check(evidence: Evidence) -> Iterator[Hit]:
    """Check the snapshots of each manifest whose chainIDs are known."""
    for view in evidence.views:
        snapshots = view.inventory.snapshots
        links = {of: {(each.parent, name) for name, each in held.items()} for of, held in snapshots.items() if held}
        for graph, node, inside in view.readable if snapshots else ():
            if inside.chain and view.has(inside.manifest.config.digest) and not _unpacked(view, inside, links):
                yield from _manifest(evidence, view, graph, node, inside)


def _unpacked(view: NamespaceView, inside: Content, links: Mapping[str, set[tuple[str, str]]]) -> bool:
    """Whether an image is unpacked, and nothing is wrong with its snapshots.

    Its top snapshot exists; the snapshotters that have it have each snapshot of the chain, with its parent, so that
    `_broken` finds nothing; and each snapshot that the config's labels name exists, so that `_missing` finds nothing.

    Args:
        view: The image's namespace.
        inside: What the manifest names.
        links: By snapshotter, each snapshot after its parent.

    """
    top, chain = inside.chain[-1], tuple(pairwise(("", *inside.chain)))
    claims, snapshots = view.claims(inside.manifest.config.digest), view.inventory.snapshots
    return (
        top in view.snapshot_names
        and all(known.issuperset(chain) for of, known in links.items() if top in snapshots[of])
        and all(name in snapshots.get(of, {name}) for of, name in claims.items())
    )


def _manifest(
    evidence: Evidence, view: NamespaceView, graph: ImageGraph, node: ManifestNode, inside: Content
) -> Iterator[Hit]:
    broken = tuple(_broken(evidence, view, graph, node, inside))
    yield from broken
    if broken or not (node.wanted or view.claims(inside.manifest.config.digest)):
        return
    found = absences(evidence, view, graph, node)
    if any(state.state in _NOT_HERE for state in found):
        return
    missing = tuple(_missing(evidence, view, graph, node, inside))
    yield from missing
    if not missing and not view.unpacked_on(inside.chain[-1]) and not faults(found) and node.wanted:
        yield _not_unpacked(evidence, view, graph, node, inside)


def _not_unpacked(
    evidence: Evidence, view: NamespaceView, graph: ImageGraph, node: ManifestNode, inside: Content
) -> Hit:
    ref = image_ref(graph.group, "manifest", node=node)
    subject = blob_subject("manifest", node.digest)
    entries, ids = len(inside.layers), len(inside.chain)
    if entries == ids or not _takes_all_for_layers(evidence.info.version):
        text = "complete, and not unpacked on any snapshotter"
        return NOT_UNPACKED.hit(view.name, subject, text, part="", images=(ref,))
    text = (
        f"containerd {evidence.info.version} takes each of the {entries} entries of its layer list for a layer, "
        f"and its config has {ids} diff_ids"
    )
    hint = "Update containerd to 1.6.25, 1.7.7 or later, which pass over entries that are no layers."
    facts: dict[str, Fact] = {"layers": entries, "diff_ids": ids, "config": str(inside.manifest.config.digest)}
    return LAYER_COUNT_MISMATCH.hit(view.name, subject, text, part="manifest", images=(ref,), facts=facts, hint=hint)


_RELEASE: Final = r"v?(\d+)\.(\d+)\.(\d+)"


def _takes_all_for_layers(version: str) -> bool:
    """Whether a containerd unpacks whatever a manifest lists as a layer; image.go `getLayers` before 1.6.25, 1.7.7."""
    found = re.match(_RELEASE, version)
    release = tuple(int(part) for part in found.groups()) if found is not None else ()
    return () < release < (1, 6, 25) or (1, 7) <= release < (1, 7, 7)


def _missing(
    evidence: Evidence, view: NamespaceView, graph: ImageGraph, node: ManifestNode, inside: Content
) -> Iterator[Hit]:
    config = inside.manifest.config.digest
    for snapshotter, name in sorted(view.claims(config).items()):
        held = view.inventory.snapshots.get(snapshotter)
        if held is None or name in held or (view.name, snapshotter, name) in evidence.unpaired:
            continue
        unpack = ("snapshots", "--snapshotter", snapshotter, "unpack")
        yield SNAPSHOT_MISSING.hit(
            view.name,
            Subject(kind="snapshot", name=f"{snapshotter}/{name}"),
            f"marked as unpacked on {snapshotter}, but snapshot {name[:19]} does not exist",
            part="",
            cause="removed",
            images=(image_ref(graph.group, "snapshot", node=node),),
            facts={"snapshotter": snapshotter, "chain_id": name, "config": str(config)},
            hint=command("ctr", "-n", view.name, *unpack, graph.group.target.digest),
        )


def _broken(
    evidence: Evidence, view: NamespaceView, graph: ImageGraph, node: ManifestNode, inside: Content
) -> Iterator[Hit]:
    for snapshotter, held in sorted(view.inventory.snapshots.items()):
        known = evidence.info.snapshotter(snapshotter)
        if inside.chain[-1] not in held or (known is not None and known.lazy):
            continue
        fault = _first_fault(inside, held)
        if fault is None:
            continue
        index, words = fault
        name = inside.chain[index]
        facts: dict[str, Fact] = {"snapshotter": snapshotter, "chain_id": str(name), "layer_index": index}
        yield BROKEN_SNAPSHOT_CHAIN.hit(
            view.name,
            Subject(kind="snapshot", name=f"{snapshotter}/{name}"),
            f"snapshot chain on {snapshotter} is broken at layer {index + 1}: {words}",
            part="",
            images=(image_ref(graph.group, "snapshot", node=node, layer=index),),
            facts=facts,
        )


def _first_fault(inside: Content, held: Mapping[str, Snapshot]) -> tuple[int, str] | None:
    """Return the index of the lowest layer whose snapshot is missing or misplaced, and the fault in words."""
    for index, name in enumerate(inside.chain):
        snapshot = held.get(name)
        parent = inside.chain[index - 1] if index else ""
        if snapshot is None:
            return index, "the snapshot does not exist"
        if snapshot.parent != parent and _below_init(held, snapshot.parent) != parent:
            return index, f"its parent is {snapshot.parent[:19] or 'none'} instead of {parent[:19] or 'none'}"
    return None


def _below_init(held: Mapping[str, Snapshot], name: str) -> str:
    """Return the parent of Docker's snapshot with a container's mount points; else the name itself.

    `docker commit` commits on top of it (moby daemon/containerd/image_snapshot.go `prepareInitLayer`).
    """
    return held[name].parent if name.endswith("-init") and name in held else name
