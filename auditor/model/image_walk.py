"""Walk an image's graph: what it lists, and what containerd takes of it for the wanted platforms; no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

import msgspec

from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.image_graph import (
    Documents,
    Family,
    Group,
    ImageGraph,
    MalformedNode,
    ManifestNode,
    family,
    key_of_root,
)
from auditor.model.oci import Descriptor, ImageConfig, Index, MalformedChild, Manifest
from auditor.model.platforms import Matcher, Platform


class _Walk(msgspec.Struct):
    indexes: list[Descriptor] = []
    manifests: list[tuple[Descriptor, tuple[Digest, ...]]] = []
    others: list[Descriptor] = []
    too_deep: list[Descriptor] = []
    seen: set[tuple[Digest, Platform | None]] = set()

    def start(self, target: Descriptor, documents: Documents) -> None:
        """Visit a target and all below it, in the order of the documents."""
        waiting: list[tuple[Descriptor, tuple[Digest, ...]]] = [(target, ())]
        while waiting:
            descriptor, path = waiting.pop()
            below = (*path, descriptor.digest)
            waiting += [(child, below) for child in reversed(self._visit(descriptor, path, documents))]

    def _visit(self, descriptor: Descriptor, path: tuple[Digest, ...], documents: Documents) -> tuple[Descriptor, ...]:
        """Add a descriptor, unless it was; return its children if it is an index."""
        kind = family(descriptor.media_type) if path else key_of_root(descriptor, documents)[1]
        # Data-only images list one manifest for several platforms, each of which may be the wanted one.
        once = (descriptor.digest, descriptor.platform if kind is Family.MANIFEST else None)
        if once in self.seen:
            return ()
        self.seen.add(once)
        match kind:
            case Family.MANIFEST:
                self.manifests.append((descriptor, path))
            case Family.INDEX if len(path) >= oci.MAX_DEPTH:
                self.too_deep.append(descriptor)
            case Family.INDEX:
                self.indexes.append(descriptor)
                document = documents.get((descriptor.digest, Family.INDEX))
                return document.manifests if isinstance(document, Index) else ()
            case _:
                self.others.append(descriptor)
        return ()


def walk(image: Group, documents: Documents, matcher: Matcher) -> ImageGraph:
    """Walk from an image's target down to its manifests, as far as documents are known; each digest once.

    Args:
        image: The image.
        documents: The documents by key.
        matcher: The wanted platforms.

    """
    found = _Walk(indexes=[], manifests=[], others=[], too_deep=[], seen=set())
    found.start(image.target, documents)
    single = [msgspec.structs.replace(matcher, wanted=(vector,)) for vector in matcher.wanted]
    followed = [_followed(image.target, documents, one) for one in single]
    taken = tuple(each.path[-1] for each in followed)
    above = {each.digest for one in followed for each in one.path}
    return ImageGraph(
        group=image,
        indexes=tuple(found.indexes),
        manifests=_manifest_nodes(found.manifests, taken, documents, matcher),
        others=tuple(found.others),
        too_deep=tuple(found.too_deep),
        unusable=tuple(each for each in found.others if found.indexes and each in taken),
        passed_over=() if matcher.everything else tuple(each for each in found.indexes if each.digest not in above),
        unmatched=tuple(
            one.wanted[0][0]
            for one, end in zip(single, followed, strict=True)
            if end.malformed is None and _unmatched(end.path, documents, one)
        ),
        malformed=tuple(_malformed_nodes(found.indexes, followed, documents, matcher)),
    )


class _Followed(msgspec.Struct, frozen=True):
    """What containerd takes from an image's target down; the last of `path` is the image, of whatever type it is.

    `malformed`: the child that it takes from the last index, and that cannot be read.
    """

    path: tuple[Descriptor, ...]
    malformed: MalformedChild | None = None


def _followed(target: Descriptor, documents: Documents, matcher: Matcher) -> _Followed:
    """Follow the best child of each index, as far as there is one; core/images/image.go `Manifest`.

    Args:
        target: An image's target.
        documents: The documents by key.
        matcher: One platform.

    """
    path, kind = [target], key_of_root(target, documents)[1]
    for _ in range(oci.MAX_DEPTH):
        document = documents.get((path[-1].digest, Family.INDEX)) if kind is Family.INDEX else None
        child = _best(document.listed, matcher) if isinstance(document, Index) else None
        if child is None:
            break
        if isinstance(child, MalformedChild):
            return _Followed(tuple(path), child)
        path.append(child)
        kind = family(child.media_type) or Family.UNTYPED
    return _Followed(tuple(path))


def _unmatched(path: tuple[Descriptor, ...], documents: Documents, matcher: Matcher) -> bool:
    """Whether containerd ends with `no match for platform`; core/images/image.go `Manifest`.

    It does not compare the platform of a target that is a manifest.
    """
    last, kind = path[-1], family(path[-1].media_type)
    if len(path) > 1 and kind is not Family.INDEX:
        config = _config(last, documents) if kind is Family.MANIFEST and last.platform is None else None
        return config is not None and not _matches(config.platform, matcher)
    return len(path) <= oci.MAX_DEPTH and isinstance(documents.get((last.digest, Family.INDEX)), Index)


def _malformed_nodes(
    indexes: Iterable[Descriptor], followed: Sequence[_Followed], documents: Documents, matcher: Matcher
) -> Iterator[MalformedNode]:
    taken = {(end.path[-1].digest, end.malformed) for end in followed}
    for descriptor in indexes:
        document = documents.get((descriptor.digest, Family.INDEX))
        for child in document.malformed if isinstance(document, Index) else ():
            yield MalformedNode(descriptor, child, matcher.everything or (descriptor.digest, child) in taken)


_Listed = TypeVar("_Listed", bound=Descriptor | MalformedChild)


def _best(below: Sequence[_Listed], matcher: Matcher) -> _Listed | None:
    """Return the child that a pull fetches; one without a platform matches, after all others.

    core/images/handlers.go `LimitManifests`, with a limit of 1.
    """
    known = [child for child in below if child.platform is not None]
    chosen = matcher.choose([child.platform for child in known if child.platform is not None])
    return known[chosen[0]] if chosen else next((child for child in below if child.platform is None), None)


def _manifest_nodes(
    found: list[tuple[Descriptor, tuple[Digest, ...]]],
    taken: tuple[Descriptor, ...],
    documents: Documents,
    matcher: Matcher,
) -> tuple[ManifestNode, ...]:
    if len(found) == 1 and not found[0][1]:  # containerd does not filter the target by platform
        descriptor, path = found[0]
        return (ManifestNode(descriptor, platform_of(descriptor, documents), wanted=True, alike=True, path=path),)
    platforms = [None if d.attestation else platform_of(d, documents) for d, _ in found]
    chosen = {(each.digest, each.platform) for each in taken}
    return _each_once(
        ManifestNode(
            d,
            platform,
            wanted=not d.attestation
            and (matcher.everything or ((d.digest, d.platform) in chosen and _fits(platform, matcher))),
            alike=_matches(platform, matcher),
            path=path,
        )
        for (d, path), platform in zip(found, platforms, strict=True)
    )


def _each_once(nodes: Iterable[ManifestNode]) -> tuple[ManifestNode, ...]:
    """Keep each manifest once; of several platforms, the wanted one."""
    best: dict[Digest, ManifestNode] = {}
    for node in nodes:
        held = best.get(node.digest)
        if held is None or (node.wanted, node.alike) > (held.wanted, held.alike):
            best[node.digest] = node
    return tuple(best.values())


def _matches(platform: Platform | None, matcher: Matcher) -> bool:
    return platform is not None and matcher.rank(platform) is not None


def _fits(platform: Platform | None, matcher: Matcher) -> bool:
    """Whether containerd uses a manifest that it takes; without a platform it reads the config, which may be absent."""
    return platform is None or _matches(platform, matcher)


def platform_of(descriptor: Descriptor, documents: Documents) -> Platform | None:
    """Return the platform of a manifest: its descriptor's, else its config's; None where neither has one."""
    if descriptor.platform is not None:
        return descriptor.platform
    config = _config(descriptor, documents)
    return config.platform if config is not None and config.platform.os else None


def _config(descriptor: Descriptor, documents: Documents) -> ImageConfig | None:
    manifest = documents.get((descriptor.digest, Family.MANIFEST))
    config = documents.get((manifest.config.digest, Family.CONFIG)) if isinstance(manifest, Manifest) else None
    return config if isinstance(config, ImageConfig) else None
