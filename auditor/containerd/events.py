"""Subscribe to containerd's events; a thread of its own reads them, because unread ones fill the daemon's memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

from auditor.containerd._proto import events_pb2, events_pb2_grpc
from auditor.containerd.channel import Connection
from auditor.containerd.grpc_errors import translated
from auditor.containerd.grpc_import import grpc
from auditor.containerd.stream_timeout import Streaming
from auditor.errors import AuditorError, EventsLost, StoreUnreachable
from auditor.model.store_event import EventKind, StoreEvent

#: Several filters mean any of them; a value with slashes needs `~=` (containerd filters/parser.go).
FILTERS: Final = ("topic~=/images/", "topic~=/snapshot/")
#: Events that wait to be taken; beyond it they are dropped, and the taker is told.
MOST: Final = 100_000
#: Seconds to wait for further events after one: a pull sends its events in bursts.
_TOGETHER: Final = 0.05
_KINDS: Final = {
    "/images/create": EventKind.IMAGE,
    "/images/update": EventKind.IMAGE,
    "/images/delete": EventKind.IMAGE_DELETED,
    "/snapshot/prepare": EventKind.PREPARED,
    "/snapshot/commit": EventKind.COMMITTED,
    "/snapshot/remove": EventKind.REMOVED,
}


class EventSubscription:
    """Implements `auditor.model.store_event.EventStream`."""

    def __init__(self, connection: Connection) -> None:
        stub = events_pb2_grpc.EventsStub(connection.channel)
        self._call: Streaming[events_pb2.Envelope] = stub.Subscribe(events_pb2.SubscribeRequest(filters=FILTERS))
        self._changed = threading.Condition()
        self._waiting: list[StoreEvent] = []
        self._lost = False
        self._ended: AuditorError | None = None
        threading.Thread(target=self._read, name="events", daemon=True).start()

    def wait(self, seconds: float) -> tuple[StoreEvent, ...]:
        """Return what came, after at most `seconds`.

        Raises:
            StoreError: The stream ended.
            EventsLost: Events came faster than they were taken.

        """
        with self._changed:
            if self._changed.wait_for(lambda: self._waiting or self._ended or self._lost, timeout=seconds):
                self._changed.wait_for(lambda: self._ended or self._lost, timeout=min(seconds, _TOGETHER))
            found, self._waiting = tuple(self._waiting), []
            if self._lost:
                self._lost = False
                raise EventsLost("events came faster than they were taken")
            if not found and self._ended is not None:
                raise self._ended
            return found

    def close(self) -> None:
        """End the stream."""
        self._call.cancel()

    def _read(self) -> None:
        try:
            with translated("read events"):
                self._take(self._call)
            ended: AuditorError = StoreUnreachable("the stream of events ended")
        except AuditorError as error:
            ended = error
        except grpc.RpcError as error:
            ended = StoreUnreachable(f"the stream of events ended: {error}")
        with self._changed:
            self._ended = ended
            self._changed.notify_all()

    def _take(self, envelopes: Iterable[events_pb2.Envelope]) -> None:
        for envelope in envelopes:
            kind = _KINDS.get(envelope.topic)
            if kind is None:
                continue
            subject = events_pb2.Subject.FromString(envelope.event.value)
            event = StoreEvent(kind, envelope.namespace, subject.id, subject.snapshotter)
            with self._changed:
                if len(self._waiting) >= MOST:
                    self._waiting, self._lost = [], True
                self._waiting.append(event)
                if len(self._waiting) == 1:
                    self._changed.notify_all()
