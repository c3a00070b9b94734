"""What a node could serve or unpack, as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from auditor.formats.sanitize import plain, size
from auditor.model.plural import plural
from auditor.model.readiness import CanServe, CanUnpack, NotReady

#: Images that are listed; the JSON has all.
_LISTED: Final = 10


def serve_lines(found: CanServe, *, verbose: bool) -> Iterator[str]:
    """What a peer-to-peer mirror could serve."""
    yield (
        f"could serve to other nodes: {found.servable} of {plural(found.images, 'image')}; {size(found.bytes)} of blobs"
        + (f", not {size(found.bytes_absent)}" if found.bytes_absent else "")
    )
    yield from _reasons(found.not_servable, verbose=verbose)


def unpack_lines(found: CanUnpack, *, verbose: bool) -> Iterator[str]:
    """Which images could be unpacked for a snapshotter."""
    name = plain(found.snapshotter, width=60)
    yield (
        f"for snapshotter {name}: {found.unpacked} of {plural(found.images, 'image')} unpacked, {found.can} can be "
        f"unpacked from blobs here, {len(found.pull_again)} must be pulled again"
        + (f" ({size(found.bytes_to_pull)})" if found.pull_again else "")
    )
    if not found.configured:
        yield f"  this daemon has no snapshotter {name} yet"
    yield from _reasons(found.pull_again, verbose=verbose)


def _reasons(images: Sequence[NotReady], *, verbose: bool) -> Iterator[str]:
    """How many images each reason stops, then the images."""
    by: dict[str, int] = {}
    for image in images:
        for reason in image.reasons:
            by[reason] = by.get(reason, 0) + 1
    for reason, number in sorted(by.items(), key=lambda each: (-each[1], each[0])):
        yield f"  {plain(reason)}: {plural(number, 'image')}"
    for image in images if verbose else images[:_LISTED]:
        why = ", ".join(f"{plain(reason)} {size(number)}" for reason, number in image.reasons.items())
        yield f"  - {plain(image.name, width=100)} ({plain(image.namespace)}): {why}"
    if not verbose and len(images) > _LISTED:
        yield f"  and {len(images) - _LISTED} more; --verbose lists all"
