"""Apply the actions of a plan in parallel; each takes the first source that delivers the right bytes."""

from __future__ import annotations

import enum
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from auditor.errors import AuditorError, SourceError
from auditor.model.blob_source import Offer
from auditor.repair.context import RecordGone, RepairContext, StillDamaged
from auditor.repair.needs import held
from auditor.repair.own_state import Stopped
from auditor.repair.plan import NAMESPACE, Action, Way
from auditor.repair.replace_by_api import replace_by_api
from auditor.repair.write_blob import commit, replace

#: Seconds to wait at the end for threads blocked in a download; they hold no shared lock.
_JOIN = 5.0
#: Seconds between two checks of the stop event.
_POLL = 0.2


class Result(enum.StrEnum):
    """Result of one action."""

    REPAIRED = "repaired"
    #: The blob is unchanged.
    FAILED = "failed"
    #: Every record of the blob disappeared during the repair (image removed).
    GONE = "gone"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of one action.

    Attributes:
        message: One sentence.
        way: The write method used last; may differ from the planned one.
        place: Where the bytes came from.
        hint: What the user can do about a failure.
        quarantined: Copy of the damaged file; without a folder of the user's, deleted when the run ends.
        notes: Remarks about the result, one sentence each.

    """

    action: Action
    result: Result
    message: str
    way: Way
    place: str = ""
    hint: str = ""
    quarantined: Path | None = None
    notes: tuple[str, ...] = ()


class _Attempt:
    """State of one action while its offers are tried."""

    def __init__(self, context: RepairContext, action: Action) -> None:
        self.context = context
        self.action = action
        self.way = action.way
        self.need = action.need
        self.failures: list[AuditorError] = []

    def run(self) -> Outcome:
        """Try the offers in order until one leads to a verified blob."""
        for offer in self._offers():
            try:
                quarantined, notes = self._once(offer)
            except RecordGone as error:
                return self._outcome(Result.GONE, error.message)
            except Stopped as error:
                self.failures.append(error)
                break
            except SourceError as error:
                self.failures.append(error)
            except AuditorError as error:
                # An error of the store, not of the source: the next source would fail the same way.
                self.failures.append(error)
                break
            else:
                message = f"from {offer.place}, read back and hashed"
                return self._outcome(
                    Result.REPAIRED, message, place=offer.place, quarantined=quarantined, notes=tuple(notes)
                )
        return self._failed()

    def _offers(self) -> Iterator[Offer]:
        """Yield the offers in order; a source with further places is asked again before the next source."""
        for offer in self.action.offers:
            current: Offer | None = offer
            while current is not None:
                before = len(self.failures)
                yield current
                if len(self.failures) == before or offer.certain:
                    break
                current = self._next_place(current)

    def _next_place(self, offer: Offer) -> Offer | None:
        try:
            found = self.context.sources[offer.source].offers(
                offer.digest, size=offer.size, media_type=offer.media_type, hints=offer.hints
            )
        except SourceError:
            return None
        return found if found is not None and found.place != offer.place else None

    def _once(self, offer: Offer) -> tuple[Path | None, list[str]]:
        if self.way is Way.COMMIT:
            try:
                return None, commit(self.context, self.need, offer)
            except StillDamaged:
                # A damaged file without a record, or with a record in another namespace, was adopted by the commit.
                self._switch_to_replace()
        if offer.source.startswith(NAMESPACE):
            raise SourceError(f"{offer.place} has the same damaged file")
        if self.way is Way.FILE and self.context.staging is not None:
            return replace(self.context, self.context.staging, self.need, offer)
        return replace_by_api(self.context, self.need, offer)

    def _switch_to_replace(self) -> None:
        """Treat the blob as one with a damaged file from here on."""
        self.way = Way.FILE if self.context.staging is not None else Way.API
        holders = self.context.holders(self.need)
        present = tuple(held(inventory, self.need.digest) for inventory in holders.values())
        places = tuple(place for place in self.need.places if place.namespace not in holders)
        self.need = msgspec.structs.replace(self.need, damaged=True, holders=present, places=places)

    def _failed(self) -> Outcome:
        sentences = dict.fromkeys(error.message for error in self.failures)
        hint = next((error.hint for error in self.failures if error.hint), "")
        return self._outcome(Result.FAILED, "; ".join(sentences) or "no source is left", hint=hint)

    def _outcome(
        self,
        result: Result,
        message: str,
        *,
        place: str = "",
        hint: str = "",
        quarantined: Path | None = None,
        notes: tuple[str, ...] = (),
    ) -> Outcome:
        return Outcome(
            action=self.action,
            result=result,
            message=message,
            way=self.way,
            place=place,
            hint=hint,
            quarantined=quarantined,
            notes=notes,
        )


def repair_one(context: RepairContext, action: Action) -> Outcome:
    """Apply one action; an AuditorError becomes a failed outcome."""
    try:
        return _Attempt(context, action).run()
    except AuditorError as error:
        return Outcome(action=action, result=Result.FAILED, message=error.message, hint=error.hint, way=action.way)


def apply(
    context: RepairContext,
    actions: Sequence[Action],
    *,
    jobs: int,
    on_start: Callable[[Action], None] = lambda _action: None,
    on_end: Callable[[Outcome], None] = lambda _outcome: None,
) -> list[Outcome]:
    """Apply all actions.

    Args:
        context: What the actions of the run share.
        actions: What to do, in order of priority.
        jobs: Number of threads.
        on_start: Called in a worker thread before an action.
        on_end: Called in this thread after an action.

    Returns:
        One outcome for each action, in the order of `actions`.

    Raises:
        Stopped: `context.stop` was set; a replacement over the API that had begun was finished first.

    """
    todo: queue.SimpleQueue[tuple[int, Action]] = queue.SimpleQueue()
    for item in enumerate(actions):
        todo.put(item)
    done: queue.SimpleQueue[tuple[int, Outcome | Exception]] = queue.SimpleQueue()

    over = threading.Event()

    def work() -> None:
        while not (context.stop.is_set() or over.is_set()):
            try:
                number, action = todo.get_nowait()
            except queue.Empty:
                return
            try:
                on_start(action)
                done.put((number, repair_one(context, action)))
            except Exception as error:  # noqa: BLE001 - raised again by the caller's thread
                done.put((number, error))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(jobs, len(actions)))]
    found: dict[int, Outcome] = {}
    try:
        for thread in threads:
            thread.start()
        while len(found) < len(actions):
            number, outcome = _next(done, context)
            if isinstance(outcome, Exception):
                raise outcome
            found[number] = outcome
            on_end(outcome)
    finally:
        over.set()
        end = time.monotonic() + _JOIN
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        with context.records:  # wait for a replacement over the API: the caller releases its leases next
            pass
    return [found[number] for number in sorted(found)]


def _next(
    done: queue.SimpleQueue[tuple[int, Outcome | Exception]], context: RepairContext
) -> tuple[int, Outcome | Exception]:
    while not context.stop.is_set():
        with suppress(queue.Empty):
            return done.get(timeout=_POLL)
    raise Stopped("interrupted")
