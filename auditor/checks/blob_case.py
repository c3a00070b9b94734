"""A blob with its users: one case for all namespaces that have a record of it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from collections.abc import Set as AbstractSet
from typing import TypeVar

import msgspec

from auditor.checks.evidence import Evidence, NamespaceView
from auditor.checks.rule import Hit, Rule, blob_subject
from auditor.model.digest import Digest
from auditor.model.findings import Fact, ImageRef

_Item = TypeVar("_Item")


class Use(msgspec.Struct, frozen=True):
    """A manifest that names a layer, and the diffID and media type that it states."""

    manifest: str
    diff_id: Digest | None
    media_type: str


class Case:
    """A blob with its records, the descriptors that name it, and the images that use it.

    `records` and `descriptors` have the sizes in bytes that they state.
    """

    __slots__ = ("archive", "descriptors", "digest", "images", "namespaces", "records", "uses")

    def __init__(self, digest: Digest, *, archive: bool = False) -> None:
        self.digest = digest
        self.archive = archive
        self.namespaces: list[str] = []
        self.records: set[int] = set()
        # Of the many blobs that no image uses, these stay the one empty set.
        self.descriptors: AbstractSet[int] = frozenset()
        self.uses: AbstractSet[Use] = frozenset()
        self.images: tuple[ImageRef, ...] = ()

    @property
    def role(self) -> str:
        """The blob's role in its first image; `blob` where no image uses it."""
        return self.images[0].role if self.images else "blob"

    def limited_to(self, uses: Iterable[Use]) -> Case:
        """Return a copy that keeps only the images whose manifests are among `uses`."""
        manifests = {use.manifest for use in uses}
        return self.of_images({image for image in self.images if image.manifest in manifests})

    def of_images(self, images: Container[ImageRef]) -> Case:
        """Return a copy that keeps only some of the images."""
        from copy import copy  # noqa: PLC0415 - for findings only

        limited = copy(self)
        limited.images = tuple(image for image in self.images if image in images)
        return limited

    def hit(
        self,
        rule: Rule,
        text: str,
        *,
        cause: str | None = None,
        facts: dict[str, Fact] | None = None,
        hint: str = "",
        repairable: bool = False,
    ) -> Hit:
        """Report the blob; `repairable`: writing the right bytes removes the fault."""
        shared = {"namespaces": ",".join(self.namespaces) if len(self.namespaces) > 1 else None}
        return rule.hit(
            self.images[0].namespace if self.images else self.namespaces[0],
            blob_subject(self.role, self.digest),
            text if self.images else f"unreferenced blob {self.digest.short}: {text}",
            part=self._part,
            cause=cause,
            images=self.images,
            facts={**(facts or {}), **shared},
            hint=hint,
            repairable=repairable,
        )

    @property
    def _part(self) -> str | None:
        if not self.images:
            return None
        layer = self.images[0].layer
        return self.role if layer is None else f"layer {layer + 1}"


def audited_blobs(view: NamespaceView) -> AbstractSet[Digest]:
    """Return the blobs with a record that are audited: those of the selected images, else all of the namespace."""
    blobs = view.inventory.blobs
    return view.named & blobs.keys() if view.selected else blobs.keys()


def cases(evidence: Evidence, only: AbstractSet[Digest] | None = None) -> dict[Digest, Case]:
    """Return a case for each audited blob, or for those of them that are in `only`."""
    found: dict[Digest, Case] = {}
    for view in evidence.views:
        for digest in audited_blobs(view) if only is None else audited_blobs(view) & only:
            case = found.get(digest) or found.setdefault(digest, Case(digest, archive=evidence.archive))
            case.namespaces.append(view.name)
            case.records.add(view.inventory.blobs[digest].size)
    if not found:
        return found
    for view in evidence.views:
        for descriptor in view.described:
            if descriptor.digest in found:
                case = found[descriptor.digest]
                case.descriptors = _with(case.descriptors, descriptor.size)
        for digest, use in _uses(view):
            if digest in found:
                found[digest].uses = _with(found[digest].uses, use)
    for digest, case in found.items():
        case.images = tuple(i for i in evidence.users.get(digest, ()) if i.namespace in case.namespaces)
    return found


def _with(held: AbstractSet[_Item], item: _Item) -> set[_Item]:
    """Return a set with one more item: the same one where it is not the shared empty one."""
    found = held if isinstance(held, set) else set(held)
    found.add(item)
    return found


def _uses(view: NamespaceView) -> Iterator[tuple[Digest, Use]]:
    """Yield the layers of images that are to be unpacked, and what their manifests state of them."""
    for _, node in view.manifests():
        inside = view.content(node.digest)
        for layer in inside.layers if inside is not None and inside.container else ():
            yield layer.descriptor.digest, Use(str(node.digest), layer.diff_id, layer.descriptor.media_type)
