"""Decide from events when an image can be looked at: its pull has no end of its own. Pure; the caller gives the time.

containerd announces an image's record, and for each layer a snapshot's preparation and its commit; a CRI pull writes
the record last, `ctr images pull` of 1.6 and 1.7 first. So an image has settled once no snapshot is being unpacked in
its namespace and a quiet second passed. Both waits are bounded: a killed pull leaves a preparation without an end.
"""

from __future__ import annotations

from typing import Final

import msgspec

from auditor.model.store_event import EventKind, StoreEvent

#: Seconds without an event of the image and of its namespace's snapshots.
QUIET: Final = 1.0
#: The most seconds to wait for quiet, and after an image's last event for its unpacking to begin; others may be pulled.
RESTLESS: Final = 1.9
#: The most seconds to wait for an unpacking that does not end.
UNPACKING: Final = 120.0
#: Seconds within which images are looked at together: a pull of the CRI writes three names of one target in that time.
_TOGETHER: Final = 0.1
#: How the keys of snapshots begin that an unpacking prepares; containerd pkg/unpack/unpacker.go and rootfs/apply.go.
_EXTRACT: Final = "extract-"

#: An image: namespace and name.
ImageName = tuple[str, str]


class _Waiting(msgspec.Struct):
    """An image: the time of its last event, and since when its namespace unpacked nothing for the first time."""

    last: float
    idle: float | None


class Settling:
    """The images whose events came, and the unpackings under way; times are monotonic seconds."""

    def __init__(self) -> None:
        self._waiting: dict[ImageName, _Waiting] = {}
        self._open: dict[tuple[str, str, str], float] = {}
        self._moved: dict[str, float] = {}

    def take(self, event: StoreEvent, at: float) -> None:
        """Take an event that came at a time."""
        if event.kind in (EventKind.IMAGE, EventKind.IMAGE_DELETED):
            self._waiting[event.namespace, event.name] = _Waiting(at, None)
        elif event.name.startswith(_EXTRACT):
            snapshot = (event.namespace, event.snapshotter, event.name)
            self._moved[event.namespace] = at
            if event.kind is EventKind.PREPARED:
                self._open[snapshot] = at
                self._set_busy(event.namespace, at)
            else:
                self._open.pop(snapshot, None)
        if not self._unpacking(event.namespace):
            self._set_idle(event.namespace, at)

    def due(self, at: float) -> tuple[ImageName, ...]:
        """Return the images that have settled, with those that settle within a moment, and forget them."""
        self._open = {key: since for key, since in self._open.items() if at - since < UNPACKING}
        whens = {image: self._when(image) for image in self._waiting}
        if not whens or at < min(whens.values()):
            return ()
        found = tuple(image for image, when in whens.items() if at + _TOGETHER >= when)
        for image in found:
            del self._waiting[image]
        return found

    def wait(self, at: float, most: float) -> float:
        """Return the seconds until the next image may settle, at most `most`."""
        if not self._waiting:
            return most
        return min(most, max(0.05, min(map(self._when, self._waiting)) - at))

    def _set_busy(self, namespace: str, at: float) -> None:
        """An unpacking that begins soon after an image's record may be of this image, and has to end first."""
        for (space, _), waiting in self._waiting.items():
            if space == namespace and at - waiting.last < RESTLESS:
                waiting.idle = None

    def _set_idle(self, namespace: str, at: float) -> None:
        for (space, _), waiting in self._waiting.items():
            if space == namespace and waiting.idle is None:
                waiting.idle = at

    def _unpacking(self, namespace: str) -> list[float]:
        """Return since when unpackings of a namespace are under way."""
        return [since for (space, _, _), since in self._open.items() if space == namespace]

    def _when(self, image: ImageName) -> float:
        """When an image settles if nothing more happens."""
        namespace, waiting = image[0], self._waiting[image]
        if opened := self._unpacking(namespace):
            return min(max(opened), waiting.last) + UNPACKING
        last = max(waiting.last, waiting.idle or 0)
        return min(max(last, self._moved.get(namespace, last)) + QUIET, last + RESTLESS)
