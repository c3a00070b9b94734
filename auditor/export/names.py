"""The names that an image gets in an archive."""

from __future__ import annotations

from collections.abc import Sequence

from auditor.model import reference
from auditor.model.image_graph import Group


def names_for(
    group: Group, *, asked: Sequence[str], names: Sequence[str] = (), all_names: bool = False
) -> tuple[str, ...]:
    """Return the names under which an image is exported: by default those that were asked for, in full form.

    An image that was selected by digest or id gets its best name, as `ctr images import` skips images without a name.

    Args:
        group: the image.
        asked: what the user wrote: names, short names, digests or ids, of this image and of others.
        names: the names to give instead.
        all_names: give all names of the store.

    """
    if names:
        return tuple(dict.fromkeys(str(reference.parse(name)) for name in names))
    if all_names:
        return group.names
    return tuple(dict.fromkeys(_recorded(group, asked))) or group.names[:1]


def _recorded(group: Group, asked: Sequence[str]) -> list[str]:
    """Return the names of the store that were asked for; an image id is no name, though CRI records it as one."""
    full = {str(found) for text in asked if (found := reference.find(text)) is not None}
    exact = {text for text in asked if not text.startswith("sha256:")}
    return [name for name in group.names if name in exact or name in full]
