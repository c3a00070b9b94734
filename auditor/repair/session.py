"""A repair from the first look to the last: plan, apply, look below what came, until nothing new can be done."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import msgspec

from auditor.audit import audit
from auditor.checks.evidence import Evidence
from auditor.checks.layer_state import State, states
from auditor.errors import SourceError, StoreError
from auditor.model.blob_source import Offer, Source
from auditor.model.digest import Digest
from auditor.model.oci import CONFIG_TYPES, INDEX_TYPES, MANIFEST_TYPES
from auditor.model.store import Store
from auditor.model.writable_store import Staging, WritableStore
from auditor.repair import recover
from auditor.repair.apply import Outcome, Result, apply
from auditor.repair.context import Leases, Workbench
from auditor.repair.needs import Need, Skip, assess
from auditor.repair.own_state import LOCK, WithoutOurs
from auditor.repair.plan import Action, Means, Plan, plan
from auditor.repair.recover import Leftovers

#: Rounds of looking below fetched documents: an index, one in it, a manifest, a config and layers, with room to spare.
ROUNDS = 12

#: Audits a store.
Look = Callable[[Store], audit.AuditResult]
#: The sources to ask, in order, for what an audit found.
Sources = Callable[[Evidence], Sequence[Source]]


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """How to repair: layers discarded by policy too, how many actions at once, where to keep bad copies."""

    include_discarded: bool = False
    jobs: int = 4
    keep: Path | None = None


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """How a repair ended: what was done, and what was left alone; `unseen` is why the last look could not be had."""

    outcomes: tuple[Outcome, ...] = ()
    skips: tuple[Skip, ...] = ()
    unseen: str = ""


class Repair:
    """One repair of one store. `propose` only reads; `carry_out` is to be called inside `exclusive`.

    `guard` is called before a record is deleted. `interrupt` may be called from another thread: then all of this raises
    Stopped as soon as nothing is half done, and takes everything of ours along on the way out.
    """

    def __init__(
        self,
        store: WritableStore,
        *,
        look: Look,
        sources: Sources,
        wishes: Wishes,
        guard: Callable[[], None] = lambda: None,
        on_start: Callable[[Action], None] = lambda _action: None,
        on_bytes: Callable[[Digest, int], None] = lambda _digest, _count: None,
        on_end: Callable[[Outcome], None] = lambda _outcome: None,
    ) -> None:
        self._store = store
        self._stop = threading.Event()
        self._seen = WithoutOurs(store, stop=self._stop)
        self._audit = look
        self._sources = sources
        self._wishes = wishes
        self._guard = guard
        self._on_start = on_start
        self._on_bytes = on_bytes
        self._on_end = on_end
        self._left = Leftovers()
        self._asked: dict[str, Source] = {}

    def interrupt(self) -> None:
        """Ask for the end."""
        self._stop.set()

    def exclusive(self) -> AbstractContextManager[None]:
        """The block in which a repair that writes has to run. Raises Busy on entering."""
        return self._store.exclusive(LOCK)

    def look(self, written: Iterable[Digest] = ()) -> audit.AuditResult:
        """Audit the store less what is ours; `written` are the blobs that are to be read again. Raises StoreError."""
        self._seen.forget(written)
        seen = self._audit(self._seen)
        self._seen.remember(seen.evidence.proofs)
        return seen

    def leftovers(self) -> tuple[str, ...]:
        """Say what a killed run left; nothing is changed."""
        return recover.look(self._store).notes

    def clear(self) -> tuple[str, ...]:
        """Finish or take away what a killed run left; sentences about it."""
        self._left = recover.clear(self._store)
        return self._left.notes

    def propose(self, seen: audit.AuditResult, *, failed: Mapping[Digest, str] | None = None) -> Plan:
        """The plan for what an audit found. Raises StoreError."""
        elsewhere = [
            self._seen.inventory(name, snapshotters=())
            for name in self._store.namespaces()
            if name not in {view.name for view in seen.evidence.views}
        ]
        needs, skips = assess(
            seen.evidence, seen.findings, elsewhere=elsewhere, include_discarded=self._wishes.include_discarded
        )
        sources = self._sources(seen.evidence)
        self._asked = {source.name: source for source in sources}
        offers, notes = gather(needs, sources)
        made = plan(needs, skips, offers, Means(files=self._store.staging() is not None), failed=failed)
        return msgspec.structs.replace(made, notes=(*made.notes, *notes))

    def carry_out(self, seen: audit.AuditResult, first: Plan) -> Ended:
        """Do the plan and what follows from it, then look again with nothing of ours left in the store."""
        if not first.actions:
            with self._store.staging() or nullcontext():  # which takes away what a killed run left
                return Ended(skips=first.skips)
        leases = Leases(self._store)
        with self._store.staging() or nullcontext() as staging:
            try:
                outcomes, last_plan = self._rounds(seen, first, leases, staging)
                recover.settle(self._store, self._left)
            finally:
                leases.release()
            outcomes, unseen = self._last_look(outcomes)
            kept = tuple(self._kept(outcome) for outcome in outcomes)
        told = {str(outcome.action.digest) for outcome in kept}
        return Ended(outcomes=kept, skips=tuple(s for s in last_plan.skips if s.id not in told), unseen=unseen)

    def _last_look(self, outcomes: list[Outcome]) -> tuple[list[Outcome], str]:
        """Look again; a daemon that is gone by then does not take along what is to be said of the actions."""
        try:
            last = self.look(_touched(outcomes))
        except StoreError as error:
            return outcomes, error.message
        return [_judged(outcome, last.evidence) for outcome in outcomes], ""

    def _rounds(
        self, seen: audit.AuditResult, current: Plan, leases: Leases, staging: Staging | None
    ) -> tuple[list[Outcome], Plan]:
        outcomes: list[Outcome] = []
        failed: dict[Digest, str] = {}
        for _ in range(ROUNDS):
            if not current.actions:
                break
            bench = self._bench(seen.evidence, leases, staging)
            now, later = _first(current.actions)
            done = apply(bench, now, jobs=self._wishes.jobs, on_start=self._on_start, on_end=self._on_end)
            outcomes += done
            failed |= {outcome.action.digest: _why(outcome) for outcome in done}
            if not later and not any(_opens(outcome) for outcome in done):
                break
            seen = self.look(_touched(outcomes))
            current = self.propose(seen, failed=failed)
        return outcomes, current

    def _bench(self, evidence: Evidence, leases: Leases, staging: Staging | None) -> Workbench:
        return Workbench(
            self._store,
            self._asked,
            leases=leases,
            staging=staging,
            inventories={view.name: view.inventory for view in evidence.views},
            discards=frozenset(_discarding(evidence)),
            remembered=self._left.remembered,
            keep=self._wishes.keep,
            guard=self._guard,
            stop=self._stop,
            on_bytes=self._on_bytes,
        )

    def _kept(self, outcome: Outcome) -> Outcome:
        """Copy the bad file to where the user wants it, before the staging folder goes."""
        if self._wishes.keep is None:
            return msgspec.structs.replace(outcome, aside=None)
        if outcome.aside is None or outcome.aside.parent == self._wishes.keep:
            return outcome
        target = self._wishes.keep / outcome.action.digest.replace(":", "-")
        try:
            if outcome.aside.is_dir():
                shutil.copytree(outcome.aside, target, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(outcome.aside, target, follow_symlinks=False)
        except OSError as error:
            said = f"the bad copy could not be kept: {error.strerror or error}"
            return msgspec.structs.replace(outcome, aside=None, notes=(*outcome.notes, said))
        return msgspec.structs.replace(outcome, aside=target)


def gather(needs: Iterable[Need], sources: Sequence[Source]) -> tuple[dict[Digest, tuple[Offer, ...]], tuple[str, ...]]:
    """Ask every source for every need; one that cannot be asked is a note. Raises StoreError."""
    offers: dict[Digest, tuple[Offer, ...]] = {}
    notes: dict[str, None] = {}
    for need in needs:
        found = []
        for source in sources:
            try:
                offer = source.offers(need.digest, size=need.size, media_type=need.media_type, hints=need.hints)
            except SourceError as error:
                notes[f"{source.name} cannot be asked: {error.message}"] = None
                continue
            if offer is not None:
                found.append(offer)
        offers[need.digest] = tuple(found)
    return offers, tuple(notes)


def _touched(outcomes: Iterable[Outcome]) -> frozenset[Digest]:
    return frozenset(outcome.action.digest for outcome in outcomes)


def _first(actions: Sequence[Action]) -> tuple[list[Action], list[Action]]:
    """What to do now, and what to look at again once the documents are back.

    Blobs that no image leads to may belong below a damaged document: then nobody knows yet where they came from.
    """
    documents = [action for action in actions if _is_document(action)]
    now = [action for action in actions if not documents or action.need.images or action in documents]
    return now, [action for action in actions if action not in now]


def _is_document(action: Action) -> bool:
    return action.need.media_type in INDEX_TYPES | MANIFEST_TYPES | CONFIG_TYPES


def _why(outcome: Outcome) -> str:
    return outcome.message if outcome.result is Result.FAILED else f"it was {outcome.result} in this run already"


def _opens(outcome: Outcome) -> bool:
    """Whether something new may be known after this: what lies below a document, or who has a twin."""
    return outcome.result is Result.REPAIRED and _is_document(outcome.action)


def _discarding(evidence: Evidence) -> Iterable[str]:
    """The namespaces whose layers are discarded: where the daemon says so, else where one layer shows it."""
    for view in evidence.views:
        if evidence.info.discards_layers or any(
            state.state is State.DISCARDED
            for graph, node in view.manifests()
            for state in states(evidence, view, graph, node)
        ):
            yield view.name


def _judged(outcome: Outcome, evidence: Evidence) -> Outcome:
    """Say where nothing keeps a blob that was given a record."""
    if outcome.result is not Result.REPAIRED:
        return outcome
    names = {place.namespace for place in outcome.action.need.places}
    bare = [
        view.name
        for view in evidence.views
        if view.name in names and view.has(outcome.action.digest) and not view.reach.blob(outcome.action.digest)
    ]
    notes = tuple(f"nothing protects it in {name}: the next garbage collection takes it" for name in bare)
    return msgspec.structs.replace(outcome, notes=tuple(dict.fromkeys((*outcome.notes, *notes))))
