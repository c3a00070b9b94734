"""Plan an archive: a pure function from images and the blobs of the store to an export plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import msgspec

from auditor.export.model import ExportPlan, LeftOut, Missing, PlannedBlob, PlannedImage, PlannedPlatform, Role
from auditor.export.salvage import rewrite_index, salvage
from auditor.layers import verifiable
from auditor.model import image_graph, oci
from auditor.model.digest import Digest
from auditor.model.image_graph import Content, Documents, Group, ImageGraph, Layer, ManifestNode
from auditor.model.image_walk import walk
from auditor.model.oci import Descriptor, Index, Manifest
from auditor.model.platforms import EVERYTHING, Matcher

#: Why a blob is refused that would be two layers with different contents.
TWO_DIFF_IDS = "is to be two layers with different diffIDs"


def plan(
    images: Sequence[Group],
    *,
    documents: Documents,
    has: Callable[[Digest], bool],
    wanted: Matcher = EVERYTHING,
    required: Matcher | None = None,
    raw: Mapping[Digest, bytes] = MappingProxyType({}),
    twins: Mapping[Digest, Descriptor] = MappingProxyType({}),
    recorded: Callable[[Digest], str | None] = lambda _: None,
    names: Callable[[Group], Sequence[str]] = lambda group: group.names,
    attestations: bool = True,
    flat: bool = False,
    named: bool = False,
) -> ExportPlan:
    """Decide what an archive of `images` holds.

    An index is not rewritten where children are absent, as in `ctr images export --platform`: its digest is the image's
    identity, and importers take what they need (OCI image-layout.md, "Blobs", allows such sparse layouts).

    Args:
        images: the images.
        documents: their parsed documents.
        has: whether the namespace has a blob.
        wanted: the platforms to include where the store has them. Attestations are included with all platforms.
        required: the platforms of which every part must be present; all wanted ones by default. Others are left out
            where they were never pulled, that is where no layer of them is present.
        raw: for a salvage, the bytes of the documents that it may rewrite.
        twins: for a salvage, by missing layer a blob with the same diffID.
        recorded: returns the diffID that the store has recorded for a blob, if any.
        names: returns the names that an image gets in the archive; all of the store's by default.
        attestations: include attestations, of indexes that are included with all platforms.
        flat: make the manifest of the one wanted platform the root, without the index above it.
        named: the wanted platforms were named; an image without an index must be for one of them.

    """
    planner = _Planner(
        documents=documents,
        has=has,
        wanted=wanted,
        required=wanted if required is None else required,
        raw=raw,
        twins=twins,
        recorded=recorded,
        names=names,
        attestations=attestations and wanted.everything,
        flat=flat,
        named=named,
    )
    done = [planner.image(group) for group in images]
    return ExportPlan(
        images=tuple(sorted((image for image in done if image is not None), key=lambda i: (i.names, i.target.digest))),
        blobs=tuple(sorted(planner.blobs.values())),
        documents=planner.rewritten,
        left_out=tuple(sorted(set(planner.left_out), key=lambda x: (x.image, x.platform, x.role, x.digest))),
        missing=tuple(sorted(set(planner.missing), key=_missing_order)),
    )


def _missing_order(one: Missing) -> tuple[str, str, str, int, str]:
    return (one.image, one.platform, one.manifest, -1 if one.layer is None else one.layer, one.digest)


class _Planner:
    """The state of one planning run."""

    def __init__(
        self,
        *,
        documents: Documents,
        has: Callable[[Digest], bool],
        wanted: Matcher,
        required: Matcher,
        raw: Mapping[Digest, bytes],
        twins: Mapping[Digest, Descriptor],
        recorded: Callable[[Digest], str | None],
        names: Callable[[Group], Sequence[str]],
        attestations: bool,
        flat: bool,
        named: bool,
    ) -> None:
        self.documents = documents
        self.has = has
        self.wanted = wanted
        self.required = required
        self.raw = raw
        self.twins = twins
        self.recorded = recorded
        self.names = names
        self.attestations = attestations
        self.flat = flat
        self.named = named
        self.blobs: dict[Digest, PlannedBlob] = {}
        self.rewritten: dict[Digest, bytes] = {}
        self.left_out: list[LeftOut] = []
        self.missing: list[Missing] = []

    def image(self, original: Group) -> PlannedImage | None:
        """Plan one image; None where a part of it is missing."""
        before = len(self.missing)
        group = self._flattened(original) if self.flat else original
        walked = walk(group, self.documents, self.wanted)
        platforms = [(node, found) for node in walked.manifests if (found := self._manifest(group, node)) is not None]
        self._others(group, walked)
        self._unmatched(group, walked, [node for node, _ in platforms])
        target = self._indexes(group, walked, platforms)
        if len(self.missing) > before:
            return None
        ranked = sorted(platforms, key=lambda pair: self._rank(pair[0]))
        return PlannedImage(
            names=tuple(sorted(set(self._named(original, target)))),
            target=target,
            platforms=tuple(found for _, found in ranked),
            name=group.name,
            absent=tuple(sorted(self._absent(walked, {node.digest for node, _ in platforms}))),
            subject=self._subject(target),
        )

    def _subject(self, target: Descriptor) -> str:
        found = self.documents.get(image_graph.key_of_root(target, self.documents))
        subject = found.subject if isinstance(found, Index | Manifest) else None
        return "" if subject is None else subject.digest

    def _flattened(self, group: Group) -> Group:
        """Return the image with the manifest of its one wanted platform as target; as it is where there is none."""
        walked = walk(group, self.documents, self.wanted)
        found = [node for node in walked.manifests if node.wanted and not node.attestation]
        return msgspec.structs.replace(group, target=found[0].descriptor) if len(found) == 1 else group

    def _absent(self, walked: ImageGraph, taken: set[Digest]) -> Iterator[Digest]:
        yield from (node.digest for node in walked.manifests if node.digest not in taken)
        yield from (other.digest for other in walked.others if other.digest not in self.blobs)

    def _named(self, group: Group, target: Descriptor) -> Iterator[str]:
        """Yield the names for the archive; leave out those that give another digest than the target has."""
        for name in self.names(group):
            if target.digest == group.target.digest or f"@{group.target.digest}" not in name:
                yield name
                continue
            made = "the root is the manifest of one platform" if self.flat else "the manifest was rewritten"
            why = f"the name gives the digest of the original, and {made}"
            self.left_out.append(LeftOut(group.name, Role.NAME, why, digest=name))

    def _rank(self, node: ManifestNode) -> int:
        """Return the rank of a platform in manifest.json; containerd core/images/archive/exporter.go sorts by match."""
        rank = self.required.rank(node.platform) if node.platform is not None else None
        return 1_000 if rank is None else rank

    def _skip(self, group: Group, node: ManifestNode, why: str) -> None:
        role = Role.CONTENT if node.attestation else Role.MANIFEST
        self.left_out.append(LeftOut(group.name, role, why, digest=node.digest, platform=_platform(node)))

    def _manifest(self, group: Group, node: ManifestNode) -> PlannedPlatform | None:
        if not (self.attestations if node.attestation else node.wanted):
            self._skip(group, node, "an attestation" if node.attestation else "the platform was not asked for")
            return None
        content = image_graph.content(node.digest, self.documents) if self.has(node.digest) else None
        lacking = list(self._lacking(group, node, content))
        if lacking and self._optional(node, content):
            self._skip(group, node, _why_absent(node, content))
            return None
        self.missing += lacking
        return None if lacking or content is None else self._take(group, node, content)

    def _optional(self, node: ManifestNode, content: Content | None) -> bool:
        """Whether a manifest that is not whole was never pulled: not one of its layers is there."""
        if node.attestation:
            return True
        if not node.path or node.platform is None or self.required.rank(node.platform) is not None:
            return False
        return content is None or not any(self.has(layer.descriptor.digest) for layer in content.layers)

    def _lacking(self, group: Group, node: ManifestNode, content: Content | None) -> Iterator[Missing]:
        def lacks(role: Role, digest: Digest, why: str, layer: int | None = None) -> Missing:
            return Missing(group.name, _platform(node), role, digest, why, manifest=node.digest, layer=layer)

        if content is None:
            why = "cannot be read" if self.has(node.digest) else "is not in the store"
            yield lacks(Role.MANIFEST, node.digest, why)
            return
        if not self._there(content.manifest.config):
            yield lacks(Role.CONFIG, content.manifest.config.digest, "is not in the store")
        for layer in content.layers:
            if not self._there(layer.descriptor) and self._twin(layer) is None:
                yield lacks(Role.LAYER, layer.descriptor.digest, "is not in the store", layer.index)

    def _there(self, descriptor: Descriptor) -> bool:
        """Whether the store has a blob, or need not have it: embedded data, a nondistributable layer."""
        return self.has(descriptor.digest) or descriptor.embedded or oci.is_foreign(descriptor.media_type)

    def _twin(self, layer: Layer) -> Descriptor | None:
        """Return the blob that replaces a layer in a salvage, where this namespace has it."""
        twin = self.twins.get(layer.descriptor.digest)
        return twin if twin is not None and self.has(twin.digest) else None

    def _take(self, group: Group, node: ManifestNode, content: Content) -> PlannedPlatform:
        config = content.manifest.config
        self._blob(group, node, config, Role.CONFIG)
        replaced = {}
        for layer in content.layers:
            twin = None if self._there(layer.descriptor) else self._twin(layer)
            if twin is not None:
                replaced[layer.index] = twin
            self._layer(group, node, layer, twin)
        new = (
            self._rewritten(node.descriptor, salvage(self.raw[node.digest], replaced)) if replaced else node.descriptor
        )
        self._blob(group, node, new, Role.MANIFEST)
        layers = tuple(replaced.get(layer.index, layer.descriptor).digest for layer in content.layers)
        return PlannedPlatform(
            platform=_platform(node),
            manifest=new.digest,
            config=config.digest,
            layers=layers,
            loadable=content.container and not node.attestation and self.blobs.keys() >= {config.digest, *layers},
            original=node.digest if replaced else None,
            replaced=tuple(replaced),
            attestation=node.attestation,
        )

    def _layer(self, group: Group, node: ManifestNode, layer: Layer, twin: Descriptor | None) -> None:
        """Include a layer, or the twin that replaces it, which is decompressed whatever the store recorded of it."""
        wanted, known = _diff_id(layer), self.blobs.get((twin or layer.descriptor).digest)
        if known is not None and known.diff_id is not None and wanted is not None and known.diff_id != wanted:
            lacks = Missing(group.name, _platform(node), Role.LAYER, known.digest, TWO_DIFF_IDS, manifest=node.digest)
            self.missing.append(msgspec.structs.replace(lacks, layer=layer.index))
        self._blob(group, node, twin or layer.descriptor, Role.LAYER, wanted)
        if twin is not None:
            self.blobs[twin.digest] = msgspec.structs.replace(self.blobs[twin.digest], recorded=False)

    def _rewritten(self, old: Descriptor, raw: bytes) -> Descriptor:
        new = msgspec.structs.replace(old, digest=Digest.of(raw), size=len(raw))
        self.rewritten[new.digest] = raw
        return new

    def _blob(
        self, group: Group, node: ManifestNode | None, descriptor: Descriptor, role: Role, diff_id: Digest | None = None
    ) -> None:
        digest = descriptor.digest
        if digest in self.rewritten or self.has(digest):
            known = self.blobs.get(digest)
            diff_id = diff_id or (known.diff_id if known is not None else None)
            believed = known is None or known.recorded or known.diff_id is None
            noted = believed and diff_id is not None and self.recorded(digest) == diff_id
            self.blobs[digest] = PlannedBlob(digest, descriptor.size, role, diff_id, noted)
            return
        why = "its bytes stand in its descriptor" if descriptor.embedded else "a layer that may not be distributed"
        platform = _platform(node) if node is not None else ""
        self.left_out.append(LeftOut(group.name, role, why, digest=digest, platform=platform))

    def _others(self, group: Group, walked: ImageGraph) -> None:
        for descriptor in walked.others:
            if self.has(descriptor.digest):
                self._blob(group, None, descriptor, Role.CONTENT)
            elif descriptor is group.target:
                self.missing.append(Missing(group.name, "", Role.CONTENT, descriptor.digest, "is not in the store"))
            else:
                why = f"not in the store; nothing that is unpacked ({descriptor.media_type})"
                self.left_out.append(LeftOut(group.name, Role.CONTENT, why, digest=descriptor.digest))
        for descriptor in walked.too_deep:
            why = f"lies deeper than {oci.MAX_DEPTH} indexes"
            self.missing.append(Missing(group.name, "", Role.INDEX, descriptor.digest, why))

    def _unmatched(self, group: Group, walked: ImageGraph, taken: list[ManifestNode]) -> None:
        """Report the wanted platforms that the image does not offer; the plan fails where it offers none."""
        if not walked.indexes:
            self._other_platform(group, taken)
            return
        if walked.others and not walked.manifests:
            return
        images = [node for node in taken if not node.attestation]
        lacking = any(missing.image == group.name for missing in self.missing)
        if not images and not lacking:
            why = "has no manifest for the platforms asked for"
            self.missing.append(Missing(group.name, "", Role.INDEX, group.target.digest, why))
        offered = [node.platform for node in walked.manifests if node.platform is not None]
        for vector in self.wanted.wanted:
            one = Matcher(wanted=(vector,))
            if not any(one.rank(platform) is not None for platform in offered):
                why = "the image has no manifest for it"
                self.left_out.append(LeftOut(group.name, Role.MANIFEST, why, platform=str(vector[0])))

    def _other_platform(self, group: Group, taken: list[ManifestNode]) -> None:
        """Report an image without an index whose platform is none of those that were named."""
        for node in taken:
            if self.named and node.platform is not None and self.wanted.rank(node.platform) is None:
                why = f"is for {node.platform}, which was not asked for"
                self.missing.append(Missing(group.name, "", Role.MANIFEST, node.digest, why))

    def _indexes(
        self, group: Group, walked: ImageGraph, platforms: list[tuple[ManifestNode, PlannedPlatform]]
    ) -> Descriptor:
        """Include the indexes above the included manifests; rewrite those above a rewritten one, innermost first."""
        needed = {digest for node, _ in platforms for digest in node.path} | {group.target.digest}
        new = {p.original: p.manifest for _, p in platforms if p.original is not None}
        changed = {old: self._descriptor(digest) for old, digest in new.items()}
        target = changed.get(group.target.digest, group.target)
        for index in reversed(walked.indexes):
            if not self.has(index.digest) or (index.digest, image_graph.Family.INDEX) not in self.documents:
                self.missing.append(Missing(group.name, "", Role.INDEX, index.digest, "is not in the store"))
                continue
            if index.digest not in needed:
                continue
            kept = self._index(index, changed)
            self._blob(group, None, kept, Role.INDEX)
            target = kept if index.digest == group.target.digest else target
        return target if target is group.target else _retargeted(group.target, target)

    def _descriptor(self, digest: Digest) -> Descriptor:
        return Descriptor(media_type="", digest=digest, size=len(self.rewritten[digest]))

    def _index(self, index: Descriptor, changed: dict[Digest, Descriptor]) -> Descriptor:
        document = self.documents[index.digest, image_graph.Family.INDEX]
        if not any(child.digest in changed for child in image_graph.children(document)):
            return index
        new = self._rewritten(index, rewrite_index(self.raw[index.digest], changed))
        changed[index.digest] = new
        return new


def _retargeted(old: Descriptor, new: Descriptor) -> Descriptor:
    return msgspec.structs.replace(old, digest=new.digest, size=new.size)


def _platform(node: ManifestNode) -> str:
    return "" if node.platform is None else str(node.platform)


def _why_absent(node: ManifestNode, content: Content | None) -> str:
    if node.attestation:
        return "an attestation that the store has in part only" if content else "an attestation that the store lacks"
    return "not in the store, as every pull for another platform leaves it"


def _diff_id(layer: Layer) -> Digest | None:
    return layer.diff_id if verifiable(layer.descriptor.media_type) is None else None
