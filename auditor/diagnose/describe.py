"""All that is known of one object: of a digest, of a chainID or a diffID, of an image; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from auditor.checks.evidence import NamespaceView, image_ref
from auditor.checks.layer_state import LayerState, State
from auditor.diagnose.blob_facts import bytes_of, bytes_of_all, file, path
from auditor.diagnose.evidence_index import Catalogue, Place, codes
from auditor.diagnose.model import Known, Platform, Use, Where
from auditor.diagnose.snapshot_chains import lone, members
from auditor.model.digest import Digest
from auditor.model.gc_reachability import expired
from auditor.model.image_graph import ImageGraph, children
from auditor.model.store import Ingest, SourceKind

_BY_DESIGN = {
    State.NOT_PULLED: "it belongs to a platform that was not pulled",
    State.DISCARDED: "the node discards layers after unpacking them, or they were pruned",
    State.LAZY: "its snapshotter reads it from the registry when needed",
    State.IN_PROGRESS: "a pull is working on it",
    State.FOREIGN: "registries do not carry layers of its type",
    State.EMBEDDED: "its descriptor carries the data itself",
}
#: Images that are told for one object before the rest is only counted.
_MOST_USES = 20


def known(catalogue: Catalogue, digest: Digest, *, asked: str = "") -> Known | None:
    """All that is known of a digest; None where nobody has or names it."""
    if digest in catalogue.layers:
        return _layer(catalogue, digest, asked)
    if digest in catalogue.descriptors or catalogue.recorded(digest) or any(_all_ingests(catalogue, digest)):
        return _blob(catalogue, digest, asked)
    if digest in catalogue.chain_ids:
        return _chain(catalogue, digest, asked)
    if digest in catalogue.diff_ids:
        return _diff(catalogue, digest, asked)
    if catalogue.snapshot(digest):
        return _lone_chain(catalogue, digest, asked)
    return None


def _blob(catalogue: Catalogue, digest: Digest, asked: str) -> Known:
    users = catalogue.evidence.users.get(digest, ())
    descriptor = catalogue.descriptors.get(digest)
    media, size = (descriptor.media_type, descriptor.size) if descriptor else ("", None)
    return Known(
        kind=users[0].role if users else "blob",
        id=str(digest),
        asked=asked,
        media_type=media,
        size=size,
        where=tuple(_where(catalogue, digest)),
        path=path(catalogue, digest),
        file=file(catalogue, digest),
        bytes=bytes_of(catalogue, digest),
        uses=tuple(Use(image=user, media_type=media, size=size) for user in users[:_MOST_USES]),
        more_uses=max(0, len(users) - _MOST_USES),
        by_design=_unwanted(catalogue, digest),
        findings=codes(catalogue.about(digest)),
    )


def _unwanted(catalogue: Catalogue, digest: Digest) -> str:
    """Why an index's child, or the config of one, that is absent need not be here."""
    absent = [code for code in codes(catalogue.about(digest)) if code.startswith("missing-")]
    for view in catalogue.evidence.views:
        for _, node in view.manifests():
            inside = view.content(node.digest)
            named = node.digest == digest or (inside is not None and inside.manifest.config.digest == digest)
            if not named or view.has(digest) or absent:
                continue
            if node.attestation:
                return "it is an attestation, and pulls leave those behind"
            return "it belongs to a platform that was not pulled"
    return ""


def _layer(catalogue: Catalogue, digest: Digest, asked: str) -> Known:
    places = catalogue.layers[digest]
    found = [(place, catalogue.state(place)) for place in places[:_MOST_USES]]
    worst = next((item for item in found if item[1].state.fault), found[0])
    layer = worst[0].layer
    return Known(
        kind="layer",
        id=str(digest),
        asked=asked,
        media_type=layer.descriptor.media_type,
        size=layer.descriptor.size,
        where=tuple(_where(catalogue, digest)),
        path=path(catalogue, digest),
        file=file(catalogue, digest),
        bytes=bytes_of(catalogue, digest),
        uses=tuple(_use(place, state) for place, state in found),
        more_uses=max(0, len(places) - _MOST_USES),
        twins=tuple(map(str, catalogue.evidence.twins(layer))),
        snapshots=tuple(members(catalogue, worst[0])),
        by_design="" if worst[1].state.fault else _BY_DESIGN.get(worst[1].state, ""),
        findings=codes(catalogue.about(digest)),
        diff_id=str(layer.diff_id or ""),
        chain_id=str(layer.chain_id or ""),
    )


def _use(place: Place, state: LayerState) -> Use:
    return Use(
        image=image_ref(place.graph.group, "layer", node=place.node, layer=place.layer.index),
        layers=place.total,
        state=str(state.state),
        media_type=place.layer.descriptor.media_type,
        size=place.layer.descriptor.size,
    )


def _through(catalogue: Catalogue, places: Sequence[Place]) -> tuple[Use, ...]:
    return tuple(_use(place, catalogue.state(place)) for place in places[:_MOST_USES])


def _blobs_behind(catalogue: Catalogue, places: Sequence[Place]) -> tuple[str, ...]:
    """The codes of what is wrong with the layers behind a chainID or a diffID."""
    digests = dict.fromkeys(place.layer.descriptor.digest for place in places)
    return codes(tuple(finding for digest in digests for finding in catalogue.about(digest)))


def _chain(catalogue: Catalogue, chain_id: Digest, asked: str) -> Known:
    places = catalogue.chain_ids[chain_id]
    return Known(
        kind="chainID",
        id=str(chain_id),
        asked=asked,
        uses=_through(catalogue, places),
        more_uses=max(0, len(places) - _MOST_USES),
        snapshots=tuple(members(catalogue, places[0])),
        findings=tuple(dict.fromkeys((*codes(catalogue.about(chain_id)), *_blobs_behind(catalogue, places)))),
        diff_id=str(places[0].layer.diff_id or ""),
        chain_id=str(chain_id),
    )


def _lone_chain(catalogue: Catalogue, name: Digest, asked: str) -> Known:
    return Known(kind="chainID", id=str(name), asked=asked, snapshots=tuple(lone(catalogue, name)), chain_id=str(name))


def _diff(catalogue: Catalogue, diff_id: Digest, asked: str) -> Known:
    places = catalogue.diff_ids[diff_id]
    return Known(
        kind="diffID",
        id=str(diff_id),
        asked=asked,
        uses=_through(catalogue, places),
        more_uses=max(0, len(places) - _MOST_USES),
        twins=tuple(map(str, catalogue.evidence.layers_by_diff_id.get(diff_id, ()))),
        findings=_blobs_behind(catalogue, places),
        diff_id=str(diff_id),
    )


def images(catalogue: Catalogue, name: str) -> Iterator[Known]:
    """The images that a name means, each as one object."""
    for view, walked in catalogue.image(name):
        target = walked.group.target
        yield Known(
            kind="image",
            id=f"{view.name}/{walked.group.name}",
            asked=name,
            names=walked.group.names,
            media_type=target.media_type,
            size=target.size,
            where=tuple(where for where in _where(catalogue, target.digest) if where.namespace == view.name),
            path=path(catalogue, target.digest),
            file=file(catalogue, target.digest),
            bytes=bytes_of_all(catalogue, blobs_of(view, walked)),
            uses=(Use(image=image_ref(walked.group, "image"), media_type=target.media_type, size=target.size),),
            platforms=tuple(_platforms(view, walked)),
            findings=codes(catalogue.about_image(view.name, target.digest)),
        )


def blobs_of(view: NamespaceView, walked: ImageGraph) -> list[Digest]:
    """The documents of an image, and all that its wanted manifests name, in that order, each once."""
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


def _where(catalogue: Catalogue, digest: Digest) -> Iterator[Where]:
    collected = catalogue.evidence.info.kind is not SourceKind.ARCHIVE
    for view in catalogue.evidence.views:
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
            leases=tuple(_leases(catalogue, view, digest)),
            ingests=tuple(map(_ingest, ingests)),
        )


def _all_ingests(catalogue: Catalogue, digest: Digest) -> Iterator[Ingest]:
    return (ingest for view in catalogue.evidence.views for ingest in _ingests(view, digest))


def _ingests(view: NamespaceView, digest: Digest) -> Iterator[Ingest]:
    return (i for i in view.inventory.ingests if digest in i.ref or i.expected == digest)


def _ingest(ingest: Ingest) -> str:
    total = f" of {ingest.total}" if ingest.total else ""
    moved = f", moved last at {ingest.updated_at:%Y-%m-%dT%H:%M:%SZ}" if ingest.updated_at else ""
    return f"{ingest.ref}: {ingest.offset}{total} bytes{moved}"


def _leases(catalogue: Catalogue, view: NamespaceView, digest: Digest) -> Iterator[str]:
    for lease in catalogue.leases.get(view.name, view.inventory.leases):
        if any(resource.id == digest for resource in lease.resources or ()):
            yield f"{lease.id} (expired)" if expired(lease, view.now) else lease.id
