"""Match names with the images among the blobs: which name leads to which image, by what source, how sure."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from auditor.model import reference
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.model.store import Image, Labels
from auditor.recover.blob_documents import BlobDocuments
from auditor.recover.name_sources import CRI, NameHint

#: Host of the names of images that no source names; RFC 2606 reserves the domain.
NO_HOST = "recovered.invalid"


class Certainty(enum.StrEnum):
    """How sure a name is."""

    #: The name has a digest, which is the image's.
    PROVEN = "proven"
    #: A source states the name for this digest.
    ASSERTED = "asserted"
    #: The record lies on a page that no tree refers to, or its source states several images for the name.
    POSSIBLE = "possible"
    #: No source names the image.
    NONE = "none"


class RecoveredImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image among the blobs, or one that a database records, with one of its names.

    Attributes:
        namespace: Its namespace; that of Kubernetes where no source tells one.
        name: Its name, below `recovered.invalid` where no source names it.
        target: Its index or manifest.
        certainty: How sure the name is.
        source: Where the name was found; empty where it was not.
        labels: The labels of its record in a database.
        note: What other sources state, in one sentence.

    """

    namespace: str
    name: str
    target: Descriptor
    certainty: Certainty
    source: str = ""
    labels: Labels = {}
    note: str = ""

    @property
    def record(self) -> Image:
        """The record that stands for the image."""
        return Image(self.namespace, self.name, self.target, self.labels)


class Matched(msgspec.Struct, frozen=True):
    """The images with their names; and the hints that lead to no image on this disk."""

    images: tuple[RecoveredImage, ...]
    elsewhere: tuple[NameHint, ...] = ()


def match(hints: Sequence[NameHint], found: BlobDocuments, *, namespace: str = CRI) -> Matched:
    """Give each image its names.

    Where two sources state different images for one name, the first counts, and the other is told in a note. An image
    that no source names gets a name that says so; no name is guessed.

    Args:
        hints: What the sources state, those that count first.
        found: The documents among the blobs.
        namespace: Namespace of the images whose source does not tell one.

    """
    by: dict[tuple[str, str], list[NameHint]] = {}
    for hint in hints:
        by.setdefault((hint.namespace or namespace, hint.name), []).append(hint)
    finder = _Finder(found)
    named = []
    elsewhere = []
    for (where, name), stated in sorted(by.items()):
        image = _named(where, name, stated, finder)
        if image is None:
            elsewhere.append(stated[0])
        else:
            named.append(image)
    targets = {image.target.digest for image in named}
    unnamed = (_unnamed(digest, found, namespace) for digest in found.roots() if digest not in targets)
    return Matched((*named, *unnamed), tuple(elsewhere))


class _Finder:
    """Finds the images that a digest may mean."""

    def __init__(self, found: BlobDocuments) -> None:
        self._found = found
        self._parents = found.parents()
        self._by_config = found.by_config()

    def candidates(self, hint: NameHint) -> tuple[Descriptor, ...]:
        """Return the targets that a hint can mean: its digest itself, or the images of a config."""
        if hint.target is not None:
            return (hint.target,)
        if hint.digest in self._found.documents:
            return (self._found.descriptor(hint.digest),)
        manifests = self._by_config.get(hint.digest, ())
        roots = {root for manifest in manifests for root in self._roots(manifest)}
        return tuple(self._found.descriptor(digest) for digest in sorted(roots))

    def manifest(self, config: Digest) -> Descriptor | None:
        """Return the only manifest of a config; None where there are several."""
        manifests = self._by_config.get(config, ())
        return self._found.descriptor(manifests[0]) if len(manifests) == 1 else None

    def verified(self, name: str, target: Descriptor) -> bool:
        """Whether a name has a digest, and it is the target's, or that of a config below it."""
        if name.startswith("sha256:"):
            return any(target.digest in self._ways(manifest) for manifest in self._by_config.get(Digest(name), ()))
        known = reference.find(name)
        return known is not None and known.digest == target.digest

    def _roots(self, manifest: Digest) -> Iterable[Digest]:
        return self._parents.get(manifest) or (manifest,)

    def _ways(self, manifest: Digest) -> tuple[Digest, ...]:
        return (manifest, *self._parents.get(manifest, ()))


def _named(namespace: str, name: str, hints: Sequence[NameHint], finder: _Finder) -> RecoveredImage | None:
    """Return the image of a name; None where no source leads to one image on this disk."""
    chosen: tuple[Descriptor, ...] = ()
    first: NameHint | None = None
    others: dict[str, Digest] = {}
    twice = False
    for hint in hints:
        means = finder.candidates(hint)
        digests = {target.digest for target in means}
        common = tuple(target for target in chosen if target.digest in digests)
        if first is None:
            chosen, first = means, hint if means else None
        elif common:
            chosen = common
        elif means or hint.source != first.source:
            others.setdefault(hint.source, hint.digest)
            twice = twice or (hint.source == first.source and not hint.ordered)
    if first is None:
        return None
    target = chosen[0] if len(chosen) == 1 else finder.manifest(first.digest)
    if target is None:
        return None
    return RecoveredImage(
        namespace=namespace,
        name=name,
        target=target,
        certainty=_certainty(first, proven=finder.verified(name, target), twice=twice),
        source=first.source,
        labels=first.labels,
        note="; ".join(_told(others)),
    )


def _certainty(hint: NameHint, *, proven: bool, twice: bool) -> Certainty:
    """Return the certainty of a name; `twice`: its source states several images for it."""
    if proven:
        return Certainty.PROVEN
    return Certainty.POSSIBLE if hint.possible or twice else Certainty.ASSERTED


def _told(others: Mapping[str, Digest]) -> Iterator[str]:
    yield from (f"{source} also states {digest.short}" for source, digest in others.items())


def _unnamed(digest: Digest, found: BlobDocuments, namespace: str) -> RecoveredImage:
    name = f"{NO_HOST}/{digest.hex[:24]}:unnamed"
    return RecoveredImage(namespace=namespace, name=name, target=found.descriptor(digest), certainty=Certainty.NONE)
