"""A blob with everybody who knows it: one case for all namespaces that have a record of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from copy import copy
from typing import NamedTuple

from auditor.checks.evidence import Evidence, NamespaceView
from auditor.checks.rule import IMAGES, Rule, blob_subject, command
from auditor.model.digest import Digest
from auditor.model.findings import Fact, Finding, ImageRef
from auditor.model.oci import Descriptor


class Use(NamedTuple):
    """A manifest that names a layer, and what it says of it."""

    manifest: str
    diff_id: Digest | None
    media_type: str


class Case:
    """A blob with everybody who knows it."""

    def __init__(self, digest: Digest) -> None:
        self.digest = digest
        self.namespaces: list[str] = []
        self.records: set[int] = set()
        self.descriptors: set[int] = set()
        self.uses: set[Use] = set()
        self.images: tuple[ImageRef, ...] = ()

    @property
    def role(self) -> str:
        """What the blob is to its first image."""
        return self.images[0].role if self.images else "blob"

    @property
    def whose(self) -> str:
        """The subject of a sentence about it."""
        return f"{self._what} of {IMAGES}" if self.images else f"the unreferenced blob {self.digest.short}"

    @property
    def _what(self) -> str:
        layer = self.images[0].layer
        return f"the {self.role}" if layer is None else f"layer {layer + 1}"

    def of(self, uses: Iterable[Use]) -> Case:
        """The same blob, as those use it whose manifests are named."""
        manifests = {use.manifest for use in uses}
        mine = copy(self)
        mine.images = tuple(image for image in self.images if image.manifest in manifests)
        return mine

    def hit(
        self,
        rule: Rule,
        text: str,
        *,
        cause: str | None = None,
        facts: dict[str, Fact] | None = None,
        repairable: bool = False,
    ) -> Finding:
        """Report the blob; `repairable` says that other bytes would mend it."""
        named = sorted({image.namespace for image in self.images}) or self.namespaces
        shared = {"namespaces": ",".join(self.namespaces) if len(self.namespaces) > 1 else None}
        repair = ("auditor", "repair", "-n", named[0])
        hint = command(*repair, self.images[0].name) if self.images and repairable else None
        return rule.hit(
            named[0],
            blob_subject(self.role, self.digest),
            text,
            cause=cause,
            images=self.images,
            facts={**(facts or {}), **shared},
            hint=hint,
        )


def judged(view: NamespaceView) -> AbstractSet[Digest]:
    """The blobs that are judged: those of the images audited, all content where none were selected."""
    blobs = view.inventory.blobs
    return view.named & blobs.keys() if view.selected else blobs.keys()


def cases(evidence: Evidence, only: AbstractSet[Digest] | None = None) -> dict[Digest, Case]:
    """Each blob that is judged, or of those `only` the ones that are given."""
    found: dict[Digest, Case] = {}
    for view in evidence.views:
        for digest in judged(view) if only is None else judged(view) & only:
            case = found.setdefault(digest, Case(digest))
            case.namespaces.append(view.name)
            case.records.add(view.inventory.blobs[digest].size)
    if not found:
        return found
    for view in evidence.views:
        for descriptor in described(view):
            if descriptor.digest in found:
                found[descriptor.digest].descriptors.add(descriptor.size)
        for digest, use in _uses(view):
            if digest in found:
                found[digest].uses.add(use)
    for digest, case in found.items():
        case.images = tuple(i for i in evidence.users.get(digest, ()) if i.namespace in case.namespaces)
    return found


def described(view: NamespaceView) -> Iterator[Descriptor]:
    """Every descriptor that leads to a blob of the images audited; the same one as often as it is used."""
    for graph in view.graphs:
        yield graph.group.target
        yield from graph.indexes
        yield from graph.others
    for _, node in view.manifests():
        yield node.descriptor
        inside = view.content(node.digest)
        if inside is not None:
            yield inside.manifest.config
            yield from inside.manifest.layers


def _uses(view: NamespaceView) -> Iterator[tuple[Digest, Use]]:
    """Who says what of the layers of images that are to be unpacked."""
    for _, node in view.manifests():
        inside = view.content(node.digest)
        for layer in inside.layers if inside is not None and inside.container else ():
            yield layer.descriptor.digest, Use(str(node.digest), layer.diff_id, layer.descriptor.media_type)
