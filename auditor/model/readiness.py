"""What a node could still do with its images: serve them to other nodes, or unpack them for another snapshotter."""

from __future__ import annotations

import msgspec


class NotReady(msgspec.Struct, frozen=True, kw_only=True):
    """An image that cannot be used: its best name, and by reason the bytes of the blobs that are not usable."""

    namespace: str
    name: str
    target: str
    reasons: dict[str, int]


class CanServe(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer-to-peer mirror could serve from this node; each digest counts once.

    `bytes` are those of usable blobs, `bytes_absent` those of the others that the images need.
    """

    images: int
    servable: int
    bytes: int
    bytes_absent: int
    not_servable: tuple[NotReady, ...] = ()


class CanUnpack(msgspec.Struct, frozen=True, kw_only=True):
    """Which images could be unpacked for a snapshotter from the blobs of this node.

    `configured`: the daemon has this snapshotter. `unpacked` images are there already, `can` could be unpacked without
    a registry; `pull_again` could not, and need `bytes_to_pull`, each digest once.
    """

    snapshotter: str
    configured: bool
    images: int
    unpacked: int
    can: int
    bytes_to_pull: int
    pull_again: tuple[NotReady, ...] = ()
