"""Select namespaces, images and snapshotters; a selection that matches nothing is an error."""

from __future__ import annotations

import re
from collections.abc import Sequence

from auditor.errors import NothingExamined
from auditor.model.image_graph import Group, ImageGraph
from auditor.model.platforms import Platform, only
from auditor.model.plural import plural
from auditor.model.store import Inventory, Snapshotter

#: The beginning of a digest; fewer digits could be a name.
_PREFIX = r"(?:sha256:)?(?P<digits>[0-9a-f]{6,64})"
#: How alike a misspelt name and a suggested one are, by difflib's ratio.
_ALIKE = 0.6
_SUGGESTED = 3


def choose_namespaces(present: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the namespaces to audit, sorted; all of them where none is named.

    Raises:
        NothingExamined: A named namespace does not exist.

    """
    unknown = [name for name in wanted if name not in present]
    if unknown:
        raise NothingExamined(f"there is no namespace {unknown[0]!r}", hint=_suggest(unknown[0], present, "namespaces"))
    return tuple(sorted(set(wanted or present)))


def choose_snapshotters(present: Sequence[Snapshotter], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the snapshotters to audit, sorted; empty for all.

    Raises:
        NothingExamined: The daemon does not offer a named snapshotter.

    """
    names = [s.name for s in present]
    unknown = [name for name in wanted if name not in names]
    if unknown:
        hint = _suggest(unknown[0], names, "snapshotters")
        raise NothingExamined(f"the daemon offers no snapshotter {unknown[0]!r}", hint=hint)
    return tuple(sorted(set(wanted)))


def choose_images(groups: Sequence[Group], wanted: Sequence[str]) -> tuple[Group, ...]:
    """Return the images to audit; all of them where none is named.

    Raises:
        NothingExamined: A name matches no image, or a beginning of a digest several.

    """
    if not wanted:
        return tuple(groups)
    chosen: dict[int, Group] = {}
    for name in wanted:
        found = [i for i, group in enumerate(groups) if _is_named(group, name)]
        if not found:
            found = [i for i, group in enumerate(groups) if _has_prefix(group, name)]
            _require_one_digest(name, [groups[i] for i in found])
        if not found:
            raise NothingExamined(f"no image is named {name[:200]!r}", hint=_near_images(name[:200], groups))
        chosen.update((i, groups[i]) for i in found)
    return tuple(chosen[i] for i in sorted(chosen))


def matches(group: Group, wanted: str) -> bool:
    """Whether `wanted` selects this image: a recorded name, a short name, a digest, or at least 6 digits of one."""
    return _is_named(group, wanted) or _has_prefix(group, wanted)


def _is_named(group: Group, wanted: str) -> bool:
    from auditor.model import reference  # noqa: PLC0415 - most audits select no images

    full = reference.find(wanted)
    return wanted in group.names or wanted == group.target.digest or (full is not None and str(full) in group.names)


def _has_prefix(group: Group, wanted: str) -> bool:
    prefix = re.fullmatch(_PREFIX, wanted)
    ids = [str(group.target.digest), *(name for name in group.names if name.startswith("sha256:"))]
    return prefix is not None and any(known.startswith(f"sha256:{prefix['digits']}") for known in ids)


def _require_one_digest(name: str, found: Sequence[Group]) -> None:
    """Refuse the beginning of several images' digests; an image may be in several namespaces."""
    if len({group.target.digest for group in found}) > 1:
        listed = ", ".join(f"{group.target.digest.short} ({group.names[0]})" for group in found[:5])
        raise NothingExamined(f"{name} begins the digests of several images", hint=f"give more digits: {listed}")


def _near_images(name: str, groups: Sequence[Group]) -> str:
    """A hint with the images whose repository is spelled almost like that of `name`, the closest first."""
    names = [known for group in groups for known in group.names if not known.startswith("sha256:")]
    wanted = _repository(name)
    near = [known for known in names if _alike(wanted, _repository(known)) >= _ALIKE]
    closest = sorted(near, key=lambda known: ("@" in known, -_alike(name, known), known))[:_SUGGESTED]
    if closest:
        return f"did you mean {' or '.join(closest)}?"
    return "check --verbose of this store lists the images" if groups else "there are no images"


def _repository(name: str) -> str:
    """The last part of a name's path, without tag and digest."""
    return name.partition("@")[0].rpartition("/")[2].partition(":")[0]


def _alike(one: str, other: str) -> float:
    import difflib  # noqa: PLC0415 - for errors only

    return difflib.SequenceMatcher(a=other, b=one).ratio()


def require_content(inventories: Sequence[Inventory], groups: Sequence[Group], wanted: Sequence[str]) -> None:
    """Check that there is an image, a blob or a container in the audited namespaces.

    Raises:
        NothingExamined: A named namespace, or every audited one, is empty.

    """
    for name in wanted:
        if not any(i.images or i.blobs or i.containers for i in inventories if i.namespace == name):
            raise NothingExamined(f"namespace {name!r} is empty: nothing was examined", hint="choose another with -n")
    if not groups and not any(i.blobs or i.containers for i in inventories):
        where = plural(len(inventories), "namespace") if inventories else "no namespace"
        raise NothingExamined(
            f"there is no image and no blob to examine ({where})", hint="check --address: is this the right daemon?"
        )


def require_platforms(graphs: Sequence[ImageGraph], wanted: Sequence[Platform], *, legacy: bool = False) -> None:
    """Check that each named platform exists in an image.

    An image without an index has one platform and is audited whatever platforms are named.

    Args:
        graphs: The images.
        wanted: The platforms.
        legacy: Whether containerd is a 1.x.

    Raises:
        NothingExamined: No image has a named platform.

    """
    nodes = [node for graph in graphs for node in graph.manifests if not node.attestation]
    for platform in wanted:
        matcher = only((platform,), legacy=legacy)
        if nodes and not any(not n.path or (n.platform and matcher.rank(n.platform) is not None) for n in nodes):
            known = {str(n.platform) for n in nodes if n.platform is not None}
            raise NothingExamined(
                f"no image is for {platform}", hint=_suggest(str(platform), sorted(known), "platforms")
            )


def _suggest(name: str, known: Sequence[str], what: str) -> str:
    import difflib  # noqa: PLC0415 - for errors only

    close = difflib.get_close_matches(name[:200], known, n=_SUGGESTED, cutoff=_ALIKE)
    if close:
        return f"did you mean {' or '.join(close)}?"
    listed = ", ".join(sorted(known)[:5])
    return f"there are: {listed}" + (f" and {len(known) - 5} more" if len(known) > 5 else "") if known else f"no {what}"  # noqa: PLR2004
