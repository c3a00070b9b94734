"""Actions to outcomes: several at once, each by its way, from the first source that has the right bytes."""

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
from auditor.repair.context import Gone, NotRight, Workbench
from auditor.repair.needs import held
from auditor.repair.own_state import Stopped
from auditor.repair.plan import NAMESPACE, Action, Way
from auditor.repair.replace_by_api import swap
from auditor.repair.write_blob import commit, replace

#: Seconds to wait at the end for threads that hang in a download; they hold nothing that the others need.
_JOIN = 5.0
#: Seconds between two looks at whether the run is to end.
_LOOK = 0.2


class Result(enum.StrEnum):
    """How an action came out."""

    REPAIRED = "repaired"
    #: The blob is as it was.
    FAILED = "failed"
    #: Its image was removed while we worked: nothing is wrong any more.
    GONE = "gone"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an action.

    `message` is a sentence, `place` where the bytes came from, `aside` where the bad copy is kept until the end,
    `way` how they were written in the end.
    """

    action: Action
    result: Result
    message: str
    way: Way
    place: str = ""
    hint: str = ""
    aside: Path | None = None
    notes: tuple[str, ...] = ()


class _Trial:
    """One action on its way: what was tried, and what came of it."""

    def __init__(self, bench: Workbench, action: Action) -> None:
        self.bench = bench
        self.action = action
        self.way = action.way
        self.need = action.need
        self.failures: list[AuditorError] = []

    def run(self) -> Outcome:
        """Try each offer until one leads to a proven blob."""
        for offer in self._offers():
            try:
                aside, notes = self._once(offer)
            except Gone as error:
                return self._outcome(Result.GONE, error.message)
            except Stopped as error:
                self.failures.append(error)
                break
            except SourceError as error:
                self.failures.append(error)
            except AuditorError as error:
                # The store's word, not the source's: another source would meet the same.
                self.failures.append(error)
                break
            else:
                said = f"from {offer.place}, read back and hashed"
                return self._outcome(Result.REPAIRED, said, place=offer.place, aside=aside, notes=tuple(notes))
        return self._failed()

    def _offers(self) -> Iterator[Offer]:
        """The offers in order; a source that has other places left is asked again before the next one is."""
        for offer in self.action.offers:
            again: Offer | None = offer
            while again is not None:
                before = len(self.failures)
                yield again
                if len(self.failures) == before or offer.certain:
                    break
                again = self._again(again)

    def _again(self, offer: Offer) -> Offer | None:
        try:
            found = self.bench.sources[offer.source].offers(
                offer.digest, size=offer.size, media_type=offer.media_type, hints=offer.hints
            )
        except SourceError:
            return None
        return found if found is not None and found.place != offer.place else None

    def _once(self, offer: Offer) -> tuple[Path | None, list[str]]:
        if self.way is Way.COMMIT:
            try:
                return None, commit(self.bench, self.need, offer)
            except NotRight:
                # A file that no record named, or one that another namespace has damaged, was there before us.
                self._turn()
        if offer.source.startswith(NAMESPACE):
            raise SourceError(f"{offer.place} has the same damaged file")
        if self.way is Way.FILE and self.bench.staging is not None:
            return replace(self.bench, self.bench.staging, self.need, offer)
        return swap(self.bench, self.need, offer)

    def _turn(self) -> None:
        """Go on as for a blob whose file is bad."""
        self.way = Way.FILE if self.bench.staging is not None else Way.API
        holders = self.bench.holders(self.need)
        having = tuple(held(inventory, self.need.digest) for inventory in holders.values())
        places = tuple(place for place in self.need.places if place.namespace not in holders)
        self.need = msgspec.structs.replace(self.need, damaged=True, holders=having, places=places)

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
        aside: Path | None = None,
        notes: tuple[str, ...] = (),
    ) -> Outcome:
        return Outcome(
            action=self.action,
            result=result,
            message=message,
            way=self.way,
            place=place,
            hint=hint,
            aside=aside,
            notes=notes,
        )


def repair_one(bench: Workbench, action: Action) -> Outcome:
    """Do one action; every error of ours becomes its outcome."""
    try:
        return _Trial(bench, action).run()
    except AuditorError as error:
        return Outcome(action=action, result=Result.FAILED, message=error.message, hint=error.hint, way=action.way)


def apply(
    bench: Workbench,
    actions: Sequence[Action],
    *,
    jobs: int,
    on_start: Callable[[Action], None] = lambda _action: None,
    on_end: Callable[[Outcome], None] = lambda _outcome: None,
) -> list[Outcome]:
    """Do all actions with `jobs` threads; the outcomes come in the order of the actions.

    Once `bench.stop` is set, what is in the middle of a step that cannot be left is finished, and Stopped is raised.
    """
    todo: queue.SimpleQueue[tuple[int, Action]] = queue.SimpleQueue()
    for item in enumerate(actions):
        todo.put(item)
    done: queue.SimpleQueue[tuple[int, Outcome | Exception]] = queue.SimpleQueue()

    over = threading.Event()

    def work() -> None:
        while not (bench.stop.is_set() or over.is_set()):
            try:
                number, action = todo.get_nowait()
            except queue.Empty:
                return
            try:
                on_start(action)
                done.put((number, repair_one(bench, action)))
            except Exception as error:  # noqa: BLE001 - raised again by the caller's thread
                done.put((number, error))

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(jobs, len(actions)))]
    found: dict[int, Outcome] = {}
    try:
        for thread in threads:
            thread.start()
        while len(found) < len(actions):
            number, outcome = _next(done, bench)
            if isinstance(outcome, Exception):
                raise outcome
            found[number] = outcome
            on_end(outcome)
    finally:
        over.set()
        end = time.monotonic() + _JOIN
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        with bench.records:  # a swap that has begun ends before anything of ours is taken down
            pass
    return [found[number] for number in sorted(found)]


def _next(
    done: queue.SimpleQueue[tuple[int, Outcome | Exception]], bench: Workbench
) -> tuple[int, Outcome | Exception]:
    while not bench.stop.is_set():
        with suppress(queue.Empty):
            return done.get(timeout=_LOOK)
    raise Stopped("interrupted")
