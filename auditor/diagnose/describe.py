"""Collect the facts about one object: a blob, a chainID, a diffID or an image; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from auditor.checks.evidence import NamespaceView, image_ref
from auditor.checks.layer_state import LayerState, State
from auditor.diagnose.blob_facts import bytes_of, bytes_of_all, file, path
from auditor.diagnose.evidence_index import EvidenceIndex, LayerUse, codes
from auditor.diagnose.model import ObjectFacts, Platform, Use, Where
from auditor.diagnose.snapshot_chains import lone, members
from auditor.model.digest import Digest
from auditor.model.gc_reachability import expired
from auditor.model.image_graph import ImageGraph, children
from auditor.model.store import Ingest, SourceKind

_BY_DESIGN = {
    State.NOT_PULLED: "it belongs to a platform that was not pulled",
    State.DISCARDED: "the node discards layers after unpacking them, or they were pruned",
    State.LAZY: "its snapshotter reads it from the registry when needed",
    State.UNTOLD: "its proxy snapshotter may have fetched it by itself",
    State.IN_PROGRESS: "a pull is in progress",
    State.FOREIGN: "registries do not carry layers of its type",
    State.EMBEDDED: "its descriptor carries the data itself",
}
#: Maximum of uses listed for one object; the others are counted.
_MOST_USES = 20


def known(index: EvidenceIndex, digest: Digest, *, asked: str = "") -> ObjectFacts | None:
    """Return the facts about a digest; None where no record, document or snapshot has it.

    Args:
        index: The evidence.
        digest: A digest, chainID or diffID.
        asked: The prefix that the user gave, if it was completed.

    """
    if digest in index.layers:
        return _layer(index, digest, asked)
    if digest in index.descriptors or index.recorded(digest) or any(_all_ingests(index, digest)):
        return _blob(index, digest, asked)
    if digest in index.chain_ids:
        return _chain(index, digest, asked)
    if digest in index.diff_ids:
        return _diff(index, digest, asked)
    if index.snapshot(digest):
        return _lone_chain(index, digest, asked)
    return None


def _blob(index: EvidenceIndex, digest: Digest, asked: str) -> ObjectFacts:
    users = index.evidence.users.get(digest, ())
    descriptor = index.descriptors.get(digest)
    media, size = (descriptor.media_type, descriptor.size) if descriptor else ("", None)
    return ObjectFacts(
        kind=users[0].role if users else "blob",
        id=str(digest),
        asked=asked,
        media_type=media,
        size=size,
        where=tuple(_where(index, digest)),
        path=path(index, digest),
        file=file(index, digest),
        bytes=bytes_of(index, digest),
        uses=tuple(Use(image=user, media_type=media, size=size) for user in users[:_MOST_USES]),
        more_uses=max(0, len(users) - _MOST_USES),
        by_design=_absent_by_design(index, digest),
        findings=codes(index.about(digest)),
    )


def _absent_by_design(index: EvidenceIndex, digest: Digest) -> str:
    """Return why an absent child of an index, or its config, is absent by design; empty where it is not."""
    absent = [code for code in codes(index.about(digest)) if code.startswith("missing-")]
    for view in index.evidence.views:
        for _, node in view.manifests():
            inside = view.content(node.digest)
            named = node.digest == digest or (inside is not None and inside.manifest.config.digest == digest)
            if not named or view.has(digest) or absent:
                continue
            if node.attestation:
                return "it is an attestation, which a pull skips"
            return "it belongs to a platform that was not pulled"
    return ""


def _layer(index: EvidenceIndex, digest: Digest, asked: str) -> ObjectFacts:
    places = index.layers[digest]
    found = [(place, index.state(place)) for place in places[:_MOST_USES]]
    worst = next((item for item in found if item[1].state.fault), found[0])
    layer = worst[0].layer
    return ObjectFacts(
        kind="layer",
        id=str(digest),
        asked=asked,
        media_type=layer.descriptor.media_type,
        size=layer.descriptor.size,
        where=tuple(_where(index, digest)),
        path=path(index, digest),
        file=file(index, digest),
        bytes=bytes_of(index, digest),
        uses=tuple(_use(place, state) for place, state in found),
        more_uses=max(0, len(places) - _MOST_USES),
        twins=tuple(map(str, index.evidence.twins(layer))),
        snapshots=tuple(members(index, worst[0])),
        by_design="" if worst[1].state.fault else _BY_DESIGN.get(worst[1].state, ""),
        findings=codes(index.about(digest)),
        diff_id=str(layer.diff_id or ""),
        chain_id=str(layer.chain_id or ""),
    )


def _use(place: LayerUse, state: LayerState) -> Use:
    return Use(
        image=image_ref(place.graph.group, "layer", node=place.node, layer=place.layer.index),
        layers=place.total,
        state=str(state.state),
        media_type=place.layer.descriptor.media_type,
        size=place.layer.descriptor.size,
    )


def _through(index: EvidenceIndex, places: Sequence[LayerUse]) -> tuple[Use, ...]:
    return tuple(_use(place, index.state(place)) for place in places[:_MOST_USES])


def _blobs_behind(index: EvidenceIndex, places: Sequence[LayerUse]) -> tuple[str, ...]:
    """Return the codes of the findings about the layers behind a chainID or a diffID."""
    digests = dict.fromkeys(place.layer.descriptor.digest for place in places)
    return codes(tuple(finding for digest in digests for finding in index.about(digest)))


def _chain(index: EvidenceIndex, chain_id: Digest, asked: str) -> ObjectFacts:
    places = index.chain_ids[chain_id]
    return ObjectFacts(
        kind="chainID",
        id=str(chain_id),
        asked=asked,
        uses=_through(index, places),
        more_uses=max(0, len(places) - _MOST_USES),
        snapshots=tuple(members(index, places[0])),
        findings=tuple(dict.fromkeys((*codes(index.about(chain_id)), *_blobs_behind(index, places)))),
        diff_id=str(places[0].layer.diff_id or ""),
        chain_id=str(chain_id),
    )


def _lone_chain(index: EvidenceIndex, name: Digest, asked: str) -> ObjectFacts:
    return ObjectFacts(
        kind="chainID", id=str(name), asked=asked, snapshots=tuple(lone(index, name)), chain_id=str(name)
    )


def _diff(index: EvidenceIndex, diff_id: Digest, asked: str) -> ObjectFacts:
    places = index.diff_ids[diff_id]
    return ObjectFacts(
        kind="diffID",
        id=str(diff_id),
        asked=asked,
        uses=_through(index, places),
        more_uses=max(0, len(places) - _MOST_USES),
        twins=tuple(map(str, index.evidence.layers_by_diff_id.get(diff_id, ()))),
        findings=_blobs_behind(index, places),
        diff_id=str(diff_id),
    )


def images(index: EvidenceIndex, name: str) -> Iterator[ObjectFacts]:
    """Yield the facts about the images that a name matches."""
    for view, walked in index.image(name):
        target = walked.group.target
        yield ObjectFacts(
            kind="image",
            id=f"{view.name}/{walked.group.name}",
            asked=name,
            names=walked.group.names,
            media_type=target.media_type,
            size=target.size,
            where=tuple(where for where in _where(index, target.digest) if where.namespace == view.name),
            path=path(index, target.digest),
            file=file(index, target.digest),
            bytes=bytes_of_all(index, blobs_of(view, walked)),
            uses=(Use(image=image_ref(walked.group, "image"), media_type=target.media_type, size=target.size),),
            platforms=tuple(_platforms(view, walked)),
            findings=codes(index.about_image(view.name, target.digest)),
        )


def complete_platforms(index: EvidenceIndex, namespace: str, name: str) -> tuple[str, ...]:
    """Return the platforms of an image whose manifest and layers all have records."""
    found = (entry for entry in images(index, name) if entry.id == f"{namespace}/{name}")
    return tuple(
        p.platform for e in found for p in e.platforms if p.platform and p.layers and p.layers == p.layers_present
    )


def blobs_of(view: NamespaceView, walked: ImageGraph) -> list[Digest]:
    """Return the digests of an image: its documents, then the children of its wanted manifests."""
    found = [walked.group.target.digest, *(index.digest for index in walked.indexes)]
    for node in walked.manifests:
        inside = view.content(node.digest)
        found.append(node.digest)
        if inside is not None and node.wanted:
            found.extend(child.digest for child in children(inside.manifest))
    return list(dict.fromkeys(found))


def _platforms(view: NamespaceView, walked: ImageGraph) -> Iterator[Platform]:
    for node in walked.manifests:
        inside = view.content(node.digest)
        layers = inside.layers if inside is not None else ()
        named = "attestation" if node.attestation else str(node.platform or "")
        yield Platform(
            platform=named,
            manifest=str(node.digest),
            present=view.has(node.digest),
            wanted=node.wanted,
            layers=len(layers),
            layers_present=sum(view.has(layer.descriptor.digest) for layer in layers),
            unpacked=view.unpacked_on(inside.chain[-1]) if inside is not None and inside.chain else (),
        )


def _where(index: EvidenceIndex, digest: Digest) -> Iterator[Where]:
    collected = index.evidence.info.kind is not SourceKind.ARCHIVE
    for view in index.evidence.views:
        blob = view.blob(digest)
        ingests = tuple(_ingests(view, digest))
        if blob is None and not ingests and digest not in view.named:
            continue
        yield Where(
            namespace=view.name,
            recorded=blob is not None,
            size=blob.size if blob is not None else None,
            created_at=blob.created_at.isoformat() if blob is not None and blob.created_at else "",
            updated_at=blob.updated_at.isoformat() if blob is not None and blob.updated_at else "",
            labels=dict(sorted(blob.labels.items())) if blob is not None else {},
            protected=view.reach.blob(digest) if blob is not None and collected else None,
            leases=tuple(_leases(index, view, digest)),
            ingests=tuple(map(_ingest, ingests)),
        )


def _all_ingests(index: EvidenceIndex, digest: Digest) -> Iterator[Ingest]:
    return (ingest for view in index.evidence.views for ingest in _ingests(view, digest))


def _ingests(view: NamespaceView, digest: Digest) -> Iterator[Ingest]:
    return (i for i in view.inventory.ingests if digest in i.ref or i.expected == digest)


def _ingest(ingest: Ingest) -> str:
    total = f" of {ingest.total}" if ingest.total else ""
    moved = f", updated at {ingest.updated_at:%Y-%m-%dT%H:%M:%SZ}" if ingest.updated_at else ""
    return f"{ingest.ref}: {ingest.offset}{total} bytes{moved}"


def _leases(index: EvidenceIndex, view: NamespaceView, digest: Digest) -> Iterator[str]:
    for lease in index.leases.get(view.name, view.inventory.leases):
        if any(resource.id == digest for resource in lease.resources or ()):
            yield f"{lease.id} (expired)" if expired(lease, view.now) else lease.id
