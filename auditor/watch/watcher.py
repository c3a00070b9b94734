"""Look at images as their pulls settle; check everything where one look finds something, after a gap, and in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from auditor import checks
from auditor.audit.collect import Request, collect
from auditor.errors import AuditorError, EventsLost, NothingExamined, StoreTimeout
from auditor.model.findings import Severity
from auditor.model.store_event import EventStream, LookupStore
from auditor.watch.memory import Memory
from auditor.watch.one_image import one_image
from auditor.watch.settle import ImageName, Settling

#: Seconds between two calls that show that the daemon answers; a stream of events stays silent when it hangs.
HEARTBEAT: Final = 30.0
#: The deadline of such a call, in seconds.
_PATIENCE: Final = 5.0


class Watcher:
    """Watches one connection until it fails.

    Args:
        store: The daemon.
        memory: What was told before.
        full: Checks everything, tells the changes, and updates the memory.
        every: Seconds between full checks.
        clock: Monotonic seconds.
        now: The current time, in UTC.
        beat: Called with each sign of life.

    """

    def __init__(
        self,
        store: LookupStore,
        memory: Memory,
        full: Callable[[], None],
        *,
        every: float,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        beat: Callable[[], None],
    ) -> None:
        self._store = store
        self._memory = memory
        self._full = full
        self._every = every
        self._clock = clock
        self._now = now
        self._beat = beat
        self._settling = Settling()
        self._took = 0.0

    def run(self) -> None:
        """Subscribe, check everything once, then look at what events name.

        Raises:
            StoreError: The daemon went away or does not answer.

        """
        stream = self._store.subscribe()
        try:
            self._check()
            checked = heard = self._clock()
            while True:
                lost = self._take(stream)
                odd = self._odd(self._settling.due(self._clock()))
                at = self._clock()
                if at - heard >= HEARTBEAT:
                    self._require_answer()
                    heard = at
                self._beat()
                if lost or odd or at - checked >= self._every:
                    self._check()
                    checked = self._clock()
        finally:
            stream.close()

    def _check(self) -> None:
        """Check everything, and measure how long it takes."""
        start = self._clock()
        self._full()
        self._took = self._clock() - start
        self._beat()

    def _take(self, stream: EventStream) -> bool:
        """Wait for events and take them; return whether some were lost."""
        try:
            events = stream.wait(self._settling.wait(self._clock(), most=HEARTBEAT))
        except EventsLost:
            return True
        at = self._clock()
        for event in events:
            self._settling.take(event, at)
        return False

    def _require_answer(self) -> None:
        if not self._store.answers(_PATIENCE):
            raise StoreTimeout(f"the daemon does not answer within {_PATIENCE:g} s", hint="containerd may hang")

    def _odd(self, names: Sequence[ImageName]) -> bool:
        """Whether a full check is needed: a look at an image found something, or the looks take as long as it does."""
        seen: set[tuple[str, str]] = set()
        end = self._clock() + self._took
        return any(self._clock() > end or self._is_odd(namespace, name, seen) for namespace, name in names)

    def _is_odd(self, namespace: str, name: str, seen: set[tuple[str, str]]) -> bool:
        """Look at one image; one that is not in order, or about which something was told, needs the full check."""
        try:
            image = self._store.image(namespace, name)
            target = "" if image is None else str(image.target.digest)
            if self._memory.concerns(namespace, target, name):
                return True
            if image is None or (namespace, target) in seen:
                return False
            seen.add((namespace, target))
            found = one_image(self._store, image)
            evidence = collect(found, Request(namespaces=(namespace,)), known={}, now=self._now())
        except NothingExamined:
            return False
        except StoreTimeout:
            raise
        except AuditorError:
            return True
        judged = checks.judge(evidence)
        return bool(evidence.incomplete) or any(each.severity is not Severity.INFO for each in judged)
