"""Events of a store, and the protocol that looks up one image by single calls; adapters implement it."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

import msgspec

from auditor.model.digest import Digest
from auditor.model.store import Blob, FileState, Image, Ingest, Lease, Snapshot, Store


class EventKind(enum.StrEnum):
    """What happened."""

    IMAGE = "image"
    IMAGE_DELETED = "image-deleted"
    #: A snapshot was begun; an unpacking ends with a commit or a removal.
    PREPARED = "prepared"
    COMMITTED = "committed"
    REMOVED = "removed"


class StoreEvent(msgspec.Struct, frozen=True):
    """An event: `name` is an image's name, or a snapshot's key with its snapshotter."""

    kind: EventKind
    namespace: str
    name: str
    snapshotter: str = ""


class EventStream(Protocol):
    """The events of a store, read by a thread of its own."""

    def wait(self, seconds: float) -> tuple[StoreEvent, ...]:
        """Return what came, after at most `seconds`.

        Raises:
            StoreError: The stream ended.
            EventsLost: Events came faster than they were taken.

        """

    def close(self) -> None:
        """End the stream."""


class LookupStore(Store, Protocol):
    """A store that also looks up single records; what does not exist is None."""

    def image(self, namespace: str, name: str) -> Image | None:
        """Return an image record."""

    def blob(self, namespace: str, digest: Digest) -> Blob | None:
        """Return a content record."""

    def snapshot(self, namespace: str, snapshotter: str, name: str) -> Snapshot | None:
        """Return a snapshot record."""

    def guards(self, namespace: str) -> tuple[Sequence[Lease], Sequence[Ingest]]:
        """Return the leases and ingests of a namespace."""

    def file(self, digest: Digest) -> FileState | None:
        """Return the state of one blob's file; None where files are not visible."""

    def answers(self, seconds: float) -> bool:
        """Whether the daemon answers a call within `seconds`."""

    def subscribe(self) -> EventStream:
        """Subscribe to events about images and snapshots of all namespaces."""
