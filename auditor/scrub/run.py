"""Verify many blobs with several threads, in the given order, within a rate limit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Generator, Iterable, Iterator
from contextlib import closing
from datetime import datetime

from auditor.concurrency import read_ahead
from auditor.model.digest import Digest
from auditor.model.store import Store, Verification
from auditor.scrub.rate_limit import RateLimit, idle_io
from auditor.scrub.state import State
from auditor.scrub.targets import Target
from auditor.scrub.verify_blob import BlobVerifier

#: Seconds between two checks of `over` while waiting for the rate limit.
_LOOK = 0.1
#: Seconds to wait at the end for a thread that hangs in a read; it is a daemon and does not delay the exit.
_JOIN = 5.0
#: Outcomes that may wait to be taken before the threads wait.
_WAITING = 256


def never() -> bool:
    """Default for `over`; the run goes to its end."""
    return False


def silent(_count: int, /) -> None:
    """Default progress callback; does nothing."""


def unrecorded(_target: Target, /) -> None:
    """Default for `on_start`; does nothing."""


def verify_blobs(
    store: Store,
    targets: Iterable[Target],
    *,
    jobs: int,
    layers: bool = False,
    max_layer: int | None = None,
    known: Container[Digest] = (),
    pace: RateLimit | None = None,
    idle: bool = False,
    over: Callable[[], bool] = never,
    on_start: Callable[[Target], None] = unrecorded,
    on_bytes: Callable[[int], None] = silent,
) -> Generator[Verification, None, None]:
    """Read `targets` with several threads and yield the verifications as they come; closing the iterator ends the run.

    Args:
        store: where to read them.
        targets: the blobs, in the order in which to begin them.
        jobs: the number of threads.
        layers: also decompress layers.
        max_layer: bytes of output after which the decompression of a layer stops.
        known: digests of blobs to compare damaged bytes with, to detect a swap.
        pace: the rate limit.
        idle: read at the idle I/O priority.
        over: asked before each piece of at most 1 MiB, and while waiting; once it is true, the run ends and blobs that
            are being read have no verification.
        on_start: called with each target before it is read; from the threads, one at a time.
        on_bytes: progress callback: bytes that were read since the last call; from the threads, one at a time.

    Raises:
        StoreError: the store failed as a whole; raised after the verifications that were complete before.

    """
    run = _Run(iter(targets), over=over, pace=pace, on_start=on_start, on_bytes=on_bytes)
    verifier = BlobVerifier(store, layers=layers, max_layer=max_layer, known=known, admit=run.admit, on_bytes=run.count)
    threads = [run.work(verifier, idle) for _ in range(max(1, jobs))]
    with read_ahead(*threads, limit=_WAITING, patience=_JOIN, name="verify") as verifications:
        try:
            yield from verifications
        finally:
            run.stop.set()


class _Run:
    """The state that the threads of one run share."""

    def __init__(
        self,
        targets: Iterator[Target],
        *,
        over: Callable[[], bool],
        pace: RateLimit | None,
        on_start: Callable[[Target], None],
        on_bytes: Callable[[int], None],
    ) -> None:
        self.stop = threading.Event()
        self._targets = targets
        self._over = over
        self._pace = pace
        self._on_start = on_start
        self._on_bytes = on_bytes
        self._lock = threading.Lock()

    def work(self, verifier: BlobVerifier, idle: bool) -> Iterator[Verification]:
        """Verify targets in one thread until none is left or the run is over; an error ends all threads."""
        try:
            if idle:
                idle_io()
            while (target := self._next()) is not None:
                verification = verifier.verify(target)
                if verification is not None:
                    yield verification
        except Exception:
            self.stop.set()
            raise

    def admit(self, count: int) -> bool:
        """Wait until `count` bytes may be read; return False once the run is over."""
        wait = self._pace.reserve(count) if self._pace is not None else 0.0
        while not self._ended():
            if wait <= 0:
                return True
            step = min(wait, _LOOK)
            self.stop.wait(step)
            wait -= step
        return False

    def count(self, read: int) -> None:
        with self._lock:
            self._on_bytes(read)

    def _next(self) -> Target | None:
        if self._ended():
            return None
        with self._lock:
            target = next(self._targets, None)
            if target is not None:
                self._on_start(target)
            return target

    def _ended(self) -> bool:
        return self.stop.is_set() or self._over()


def scrub(
    store: Store,
    state: State,
    targets: Iterable[Target],
    *,
    now: Callable[[], datetime],
    jobs: int,
    layers: bool = False,
    max_layer: int | None = None,
    known: Container[Digest] = (),
    pace: RateLimit | None = None,
    idle: bool = True,
    over: Callable[[], bool] = never,
    on_bytes: Callable[[int], None] = silent,
) -> Generator[Verification, None, None]:
    """Verify `targets` and record each verification in `state` before it is yielded.

    Args:
        store: where to read them.
        state: the state file.
        targets: the blobs in the order of `plan`.
        now: returns the current time, in UTC.
        jobs: as for `verify_blobs`, like all further options.
        layers: as for `verify_blobs`.
        max_layer: as for `verify_blobs`.
        known: as for `verify_blobs`.
        pace: as for `verify_blobs`.
        idle: as for `verify_blobs`.
        over: as for `verify_blobs`.
        on_bytes: as for `verify_blobs`.

    Raises:
        StoreError: the store failed as a whole.
        StateError: a verification could not be recorded.

    """
    outcomes = verify_blobs(
        store,
        targets,
        jobs=jobs,
        layers=layers,
        max_layer=max_layer,
        known=known,
        pace=pace,
        idle=idle,
        over=over,
        on_start=lambda target: state.begin(target.digest, at=now()),
        on_bytes=on_bytes,
    )
    with closing(outcomes):
        for verification in outcomes:
            state.record(verification, at=now())
            yield verification
