"""Select namespaces, images and snapshotters; a selection that matches nothing is an error."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from auditor.errors import NothingExamined
from auditor.model import reference
from auditor.model.image_graph import Group, ImageGraph
from auditor.model.platforms import Platform, only
from auditor.model.store import Inventory, Snapshotter


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
        NothingExamined: A name matches no image.

    """
    if not wanted:
        return tuple(groups)
    chosen: dict[int, Group] = {}
    for name in wanted:
        found = [i for i, group in enumerate(groups) if matches(group, name)]
        if not found:
            known = [known for group in groups for known in group.names]
            raise NothingExamined(f"no image is named {name[:200]!r}", hint=_suggest(name, known, "images"))
        chosen.update((i, groups[i]) for i in found)
    return tuple(chosen[i] for i in sorted(chosen))


def matches(group: Group, wanted: str) -> bool:
    """Whether `wanted` selects this image: a recorded name, a short name, a digest, or at least 12 digits of one."""
    if wanted in group.names or wanted == group.target.digest:
        return True
    full = reference.find(wanted)
    if full is not None and str(full) in group.names:
        return True
    prefix = wanted if wanted.startswith("sha256:") else f"sha256:{wanted}"
    ids = [str(group.target.digest), *(name for name in group.names if name.startswith("sha256:"))]
    return len(prefix) >= len("sha256:") + 12 and any(known.startswith(prefix) for known in ids)


def require_content(inventories: Sequence[Inventory], groups: Sequence[Group], wanted: Sequence[str]) -> None:
    """Check that there is an image, a blob or a container in the audited namespaces.

    Raises:
        NothingExamined: A named namespace, or every audited one, is empty.

    """
    for name in wanted:
        if not any(i.images or i.blobs or i.containers for i in inventories if i.namespace == name):
            raise NothingExamined(f"namespace {name!r} is empty: nothing was examined", hint="choose another with -n")
    if not groups and not any(i.blobs or i.containers for i in inventories):
        where = f"{len(inventories)} namespaces" if inventories else "no namespace"
        raise NothingExamined(
            f"there is no image and no blob to examine ({where})", hint="check --address: is this the right daemon?"
        )


def require_platforms(graphs: Sequence[ImageGraph], wanted: Sequence[Platform]) -> None:
    """Check that each named platform exists in an image.

    An image without an index has one platform and is audited whatever platforms are named.

    Raises:
        NothingExamined: No image has a named platform.

    """
    nodes = [node for graph in graphs for node in graph.manifests if not node.attestation]
    for platform in wanted:
        matcher = only((platform,))
        if nodes and not any(not n.path or (n.platform and matcher.rank(n.platform) is not None) for n in nodes):
            known = {str(n.platform) for n in nodes if n.platform is not None}
            raise NothingExamined(
                f"no image is for {platform}", hint=_suggest(str(platform), sorted(known), "platforms")
            )


def _suggest(name: str, known: Sequence[str], what: str) -> str:
    close = difflib.get_close_matches(name[:200], known, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    listed = ", ".join(sorted(known)[:5])
    return f"there are: {listed}" + (f" and {len(known) - 5} more" if len(known) > 5 else "") if known else f"no {what}"  # noqa: PLR2004
