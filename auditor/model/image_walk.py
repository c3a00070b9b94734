"""Walk an image's graph: what it lists, and what containerd takes of it for the wanted platforms; no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeVar

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

#: Members of an enum class are looked up slowly by Python 3.11.
_INDEX: Final = Family.INDEX
_MANIFEST: Final = Family.MANIFEST
_CONFIG: Final = Family.CONFIG
_UNTYPED: Final = Family.UNTYPED


class _Found(msgspec.Struct):
    """The descriptors below a target, each once, in the order of the documents; manifests with the indexes above."""

    indexes: list[Descriptor]
    manifests: list[tuple[Descriptor, tuple[Digest, ...]]]
    others: list[Descriptor]
    too_deep: list[Descriptor]
    #: With the index that lists them.
    malformed: list[tuple[Descriptor, MalformedChild]]


def _visit(target: Descriptor, root: Family, documents: Documents) -> _Found:
    """Visit a target, which is a document of the family `root`, and all below it."""
    found, seen = _Found([], [], [], [], []), set[tuple[Digest, Platform | None]]()
    waiting: list[tuple[Descriptor, tuple[Digest, ...]]] = [(target, ())]
    while waiting:
        descriptor, path = waiting.pop()
        kind = family(descriptor.media_type) if path else root
        # Data-only images list one manifest for several platforms, each of which may be the wanted one.
        once = (descriptor.digest, descriptor.platform if kind is _MANIFEST else None)
        if once in seen:
            continue
        seen.add(once)
        if kind is _MANIFEST:
            found.manifests.append((descriptor, path))
        elif kind is not _INDEX:
            found.others.append(descriptor)
        elif len(path) >= oci.MAX_DEPTH:
            found.too_deep.append(descriptor)
        else:
            found.indexes.append(descriptor)
            document = documents.get((descriptor.digest, _INDEX))
            if isinstance(document, Index):
                below = (*path, descriptor.digest)
                waiting += [(child, below) for child in reversed(document.manifests)]
                found.malformed += [(descriptor, child) for child in document.malformed]
    return found


def walk(image: Group, documents: Documents, matcher: Matcher) -> ImageGraph:
    """Walk from an image's target down to its manifests, as far as documents are known; each digest once.

    Args:
        image: The image.
        documents: The documents by key.
        matcher: The wanted platforms.

    """
    root = key_of_root(image.target, documents)[1]
    found = _visit(image.target, root, documents)
    followed = [_follow(image.target, root, documents, one) for one in matcher.each]
    taken = [end.path[-1] for end in followed]
    above = {each.digest for end in followed for each in end.path}
    return ImageGraph(
        group=image,
        indexes=tuple(found.indexes),
        manifests=_manifest_nodes(found.manifests, taken, documents, matcher),
        others=tuple(found.others),
        too_deep=tuple(found.too_deep),
        unusable=tuple([each for each in found.others if found.indexes and each in taken]),
        passed_over=() if matcher.everything else tuple([each for each in found.indexes if each.digest not in above]),
        unmatched=tuple(
            [
                one.wanted[0][0]
                for one, end in zip(matcher.each, followed, strict=True)
                if end.malformed is None and _unmatched(end.path, documents, one)
            ]
        ),
        malformed=tuple([_malformed_node(index, child, followed, matcher) for index, child in found.malformed]),
    )


class _Followed(msgspec.Struct, frozen=True):
    """What containerd takes from an image's target down; the last of `path` is the image, of whatever type it is.

    `malformed`: the child that it takes from the last index, and that cannot be read.
    """

    path: Sequence[Descriptor]
    malformed: MalformedChild | None = None


def _follow(target: Descriptor, root: Family, documents: Documents, matcher: Matcher) -> _Followed:
    """Follow the best child of each index, as far as there is one; core/images/image.go `Manifest`.

    Args:
        target: An image's target.
        root: The family of its document.
        documents: The documents by key.
        matcher: One platform.

    """
    path, kind = [target], root
    for _ in range(oci.MAX_DEPTH):
        document = documents.get((path[-1].digest, _INDEX)) if kind is _INDEX else None
        if not isinstance(document, Index):
            break
        child = _best(document.listed if document.malformed else document.manifests, matcher)
        if child is None:
            break
        if isinstance(child, MalformedChild):
            return _Followed(path, child)
        path.append(child)
        kind = family(child.media_type) or _UNTYPED
    return _Followed(path)


def _unmatched(path: Sequence[Descriptor], documents: Documents, matcher: Matcher) -> bool:
    """Whether containerd ends with `no match for platform`; core/images/image.go `Manifest`.

    It does not compare the platform of a target that is a manifest.
    """
    last, kind = path[-1], family(path[-1].media_type)
    if len(path) > 1 and kind is not _INDEX:
        config = _config(last, documents) if kind is _MANIFEST and last.platform is None else None
        return config is not None and not _matches(config.platform, matcher)
    return len(path) <= oci.MAX_DEPTH and isinstance(documents.get((last.digest, _INDEX)), Index)


def _malformed_node(
    index: Descriptor, child: MalformedChild, followed: Sequence[_Followed], matcher: Matcher
) -> MalformedNode:
    taken = any((end.path[-1].digest, end.malformed) == (index.digest, child) for end in followed)
    return MalformedNode(index, child, matcher.everything or taken)


_Listed = TypeVar("_Listed", bound=Descriptor | MalformedChild)


def _best(below: Sequence[_Listed], matcher: Matcher) -> _Listed | None:
    """Return the child that a pull fetches; one without a platform matches, after all others.

    core/images/handlers.go `LimitManifests`, with a limit of 1.
    """
    known = [child for child in below if child.platform is not None]
    best = matcher.best([child.platform for child in known if child.platform is not None])
    return known[best] if best is not None else next((child for child in below if child.platform is None), None)


def _manifest_nodes(
    found: list[tuple[Descriptor, tuple[Digest, ...]]],
    taken: Sequence[Descriptor],
    documents: Documents,
    matcher: Matcher,
) -> tuple[ManifestNode, ...]:
    """Return a node for each manifest, once; of several platforms, the wanted one."""
    if len(found) == 1 and not found[0][1]:  # containerd does not filter the target by platform
        descriptor, path = found[0]
        return (ManifestNode(descriptor, platform_of(descriptor, documents), wanted=True, alike=True, path=path),)
    chosen = {(each.digest, each.platform) for each in taken}
    best: dict[Digest, ManifestNode] = {}
    for descriptor, path in found:
        attestation = descriptor.attestation
        platform = None if attestation else platform_of(descriptor, documents)
        alike = _matches(platform, matcher)
        # Without a platform, containerd reads the config, which may be absent.
        fits = (descriptor.digest, descriptor.platform) in chosen and (platform is None or alike)
        wanted = not attestation and (matcher.everything or fits)
        held = best.get(descriptor.digest)
        if held is None or (wanted, alike) > (held.wanted, held.alike):
            best[descriptor.digest] = ManifestNode(descriptor, platform, wanted=wanted, alike=alike, path=path)
    return tuple(best.values())


def _matches(platform: Platform | None, matcher: Matcher) -> bool:
    return platform is not None and matcher.rank(platform) is not None


def platform_of(descriptor: Descriptor, documents: Documents) -> Platform | None:
    """Return the platform of a manifest: its descriptor's, else its config's; None where neither has one."""
    if descriptor.platform is not None:
        return descriptor.platform
    config = _config(descriptor, documents)
    return config.platform if config is not None and config.platform.os else None


def _config(descriptor: Descriptor, documents: Documents) -> ImageConfig | None:
    manifest = documents.get((descriptor.digest, _MANIFEST))
    config = documents.get((manifest.config.digest, _CONFIG)) if isinstance(manifest, Manifest) else None
    return config if isinstance(config, ImageConfig) else None
