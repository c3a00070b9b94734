"""Verify many blobs and compare snapshots with several threads, in the given order, within a rate limit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Container, Generator, Iterable, Iterator
from contextlib import closing
from datetime import datetime
from typing import Generic, TypeVar

import msgspec

from auditor.checks.evidence import Evidence
from auditor.concurrency import read_ahead
from auditor.model.digest import Digest
from auditor.model.snapshot_files import SnapshotFiles
from auditor.model.store import Store, Verification
from auditor.scrub.rate_limit import RateLimit, idle_io
from auditor.scrub.snapshot_state import SnapshotState
from auditor.scrub.state import State
from auditor.scrub.targets import SnapshotTarget, Target
from auditor.scrub.verify_blob import BlobVerifier
from auditor.snapshots.examine import compare_files
from auditor.snapshots.expected import Layers

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

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


def unrecorded(_target: object, /) -> None:
    """Default for `on_start` and `on_compared`; does nothing."""


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
    yield from run.results(verifier.verify, jobs=jobs, idle=idle)


class _Run(Generic[_Item]):
    """The state that the threads of one run share."""

    def __init__(
        self,
        targets: Iterator[_Item],
        *,
        over: Callable[[], bool],
        pace: RateLimit | None,
        on_start: Callable[[_Item], None],
        on_bytes: Callable[[int], None],
    ) -> None:
        self.stop = threading.Event()
        self._targets = targets
        self._over = over
        self._pace = pace
        self._on_start = on_start
        self._on_bytes = on_bytes
        self._lock = threading.Lock()

    def results(
        self, work: Callable[[_Item], _Result | None], *, jobs: int, idle: bool
    ) -> Generator[_Result, None, None]:
        """Yield what `work` returns for each target, from several threads; closing the iterator ends the run."""
        threads = [self._thread(work, idle) for _ in range(max(1, jobs))]
        with read_ahead(*threads, limit=_WAITING, patience=_JOIN, name="verify") as results:
            try:
                yield from results
            finally:
                self.stop.set()

    def _thread(self, work: Callable[[_Item], _Result | None], idle: bool) -> Iterator[_Result]:
        """Work in one thread until no target is left or the run is over; an error ends all threads."""
        try:
            if idle:
                idle_io()
            while (target := self._next()) is not None:
                result = work(target)
                if result is not None:
                    yield result
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

    def _next(self) -> _Item | None:
        if self._ended():
            return None
        with self._lock:
            target = next(self._targets, None)
            if target is not None:
                self._on_start(target)
            return target

    def _ended(self) -> bool:
        return self.stop.is_set() or self._over()


class Comparison(msgspec.Struct, frozen=True):
    """A snapshot that was compared, and the verification of its layer's blob where that is intact."""

    target: SnapshotTarget
    files: SnapshotFiles
    verification: Verification | None = None


class _Over(Exception):
    """The run ended during a comparison."""


class _Scrubber:
    """Verifies blobs and compares snapshots; a blob that a comparison verified is not read again."""

    def __init__(
        self,
        store: Store,
        run: _Run[Target | SnapshotTarget],
        verifier: BlobVerifier,
        *,
        evidence: Evidence | None,
        max_layer: int | None,
    ) -> None:
        self._run = run
        self._verifier = verifier
        self._layers = Layers(store, evidence, admit=self._admit, max_layer=max_layer) if evidence is not None else None

    def work(self, target: Target | SnapshotTarget) -> Verification | Comparison | None:
        """Return the result; None where the run ended, or a comparison has verified the blob."""
        if isinstance(target, Target):
            return None if self._verified(target.digest) else self._verifier.verify(target)
        if self._layers is None:
            return None
        try:
            files = compare_files(self._layers, target.needed, target.files)
        except _Over:
            return None
        return Comparison(target, files, self._layers.verifications.get(target.layer))

    def _verified(self, digest: Digest) -> bool:
        return self._layers is not None and digest in self._layers.verifications

    def _admit(self, count: int) -> None:
        if not self._run.admit(count):
            raise _Over
        self._run.count(count)


def scrub(
    store: Store,
    state: State,
    targets: Iterable[Target | SnapshotTarget],
    *,
    now: Callable[[], datetime],
    jobs: int,
    layers: bool = False,
    max_layer: int | None = None,
    known: Container[Digest] = (),
    evidence: Evidence | None = None,
    pace: RateLimit | None = None,
    idle: bool = True,
    over: Callable[[], bool] = never,
    on_bytes: Callable[[int], None] = silent,
    on_compared: Callable[[Comparison], None] = unrecorded,
) -> Generator[Verification, None, None]:
    """Verify and compare `targets`; record each result in `state`, then yield it if it is one of a blob.

    Args:
        store: where to read them.
        state: the state file.
        targets: the blobs and snapshots in the order of `plan` or `plan_with_snapshots`.
        now: returns the current time, in UTC.
        jobs: as for `verify_blobs`, like all further options.
        layers: as for `verify_blobs`.
        max_layer: as for `verify_blobs`.
        known: as for `verify_blobs`.
        evidence: the evidence of the audit; snapshots are compared only where it is given.
        pace: as for `verify_blobs`.
        idle: as for `verify_blobs`.
        over: as for `verify_blobs`.
        on_bytes: as for `verify_blobs`.
        on_compared: called with each snapshot that was compared, once it is recorded.

    Raises:
        StoreError: the store failed as a whole.
        StateError: a verification could not be recorded.

    """
    snapshots = SnapshotState(state)

    def begin(target: Target | SnapshotTarget) -> None:
        if isinstance(target, SnapshotTarget):
            snapshots.begin(target, at=now())
        else:
            state.begin(target.digest, at=now())

    run: _Run[Target | SnapshotTarget] = _Run(iter(targets), over=over, pace=pace, on_start=begin, on_bytes=on_bytes)
    verifier = BlobVerifier(store, layers=layers, max_layer=max_layer, known=known, admit=run.admit, on_bytes=run.count)
    scrubber = _Scrubber(store, run, verifier, evidence=evidence, max_layer=max_layer)
    results: Generator[Verification | Comparison, None, None] = run.results(scrubber.work, jobs=jobs, idle=idle)
    with closing(results):
        for result in results:
            verification = result.verification if isinstance(result, Comparison) else result
            if isinstance(result, Comparison):
                snapshots.record(result.target, result.files, at=now())
                on_compared(result)
            if verification is not None:
                state.record(verification, at=now())
                yield verification
