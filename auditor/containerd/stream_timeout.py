"""Timeouts of gRPC streams: a limit for each wait for a message, not for the whole stream."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Protocol, TypeVar

from auditor.containerd.grpc_import import grpc
from auditor.errors import StoreTimeout

_Message = TypeVar("_Message")
_Message_co = TypeVar("_Message_co", covariant=True)


class Streaming(Protocol[_Message_co]):
    """The used part of a gRPC streaming call."""

    def __iter__(self) -> Iterator[_Message_co]:
        """Iterate over the messages."""

    def cancel(self) -> object:
        """Cancel the call; a blocked reader wakes up."""


class _Wait:
    """One reader; `since` is when its current wait began, None between waits."""

    def __init__(self, call: Streaming[object]) -> None:
        self.call = call
        self.since: float | None = None
        self.stalled = False


class StallWatch:
    """Cancels streams whose next message does not arrive in time; one thread for all streams of a connection.

    The time that the consumer spends between two messages does not count.

    Args:
        seconds: Limit of one wait.
        clock: Monotonic clock in seconds.

    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._waits: set[_Wait] = set()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def messages(self, call: Streaming[_Message], doing: str) -> Generator[_Message, None, None]:
        """Yield the messages of a call; cancel it when the iterator is closed or fails.

        Args:
            call: The call.
            doing: Completes the sentence "cannot …".

        Raises:
            StoreTimeout: The next message does not arrive in time.
            grpc.RpcError: The call failed.

        """
        wait = _Wait(call)
        self._add(wait)
        try:
            incoming = iter(call)
            while True:
                wait.since = self._clock()
                try:
                    message = next(incoming)
                except StopIteration:
                    return
                except grpc.RpcError:
                    if wait.stalled:
                        raise self._timeout(doing) from None
                    raise
                wait.since = None
                yield message
        finally:
            self._remove(wait)
            call.cancel()

    def close(self) -> None:
        """Stop the thread; open streams have no timeout any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _timeout(self, doing: str) -> StoreTimeout:
        return StoreTimeout(
            f"cannot {doing}: no message for {self.seconds:g} s",
            hint="the daemon may hang, or its disk be overloaded; a longer --timeout gives it more time",
        )

    def _add(self, wait: _Wait) -> None:
        with self._changed:
            self._waits.add(wait)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="stall-watch", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def _remove(self, wait: _Wait) -> None:
        with self._changed:
            self._waits.discard(wait)

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                self._changed.wait(min(1.0, self.seconds / 4) if self._waits else None)
                for wait in self._waits:
                    self._check(wait)

    def _check(self, wait: _Wait) -> None:
        since = wait.since
        if since is not None and not wait.stalled and self._clock() - since > self.seconds:
            wait.stalled = True
            wait.call.cancel()
