"""Run a repair: audit, plan, apply, audit the children of restored documents, until no further action is possible."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import msgspec

from auditor.audit.audit import AuditResult
from auditor.checks.evidence import Evidence
from auditor.checks.layer_state import State, states
from auditor.errors import SourceError, StoreError
from auditor.model.blob_source import Offer, Source
from auditor.model.digest import Digest
from auditor.model.oci import CONFIG_TYPES, INDEX_TYPES, MANIFEST_TYPES
from auditor.model.store import Store
from auditor.model.writable_store import Staging, WritableStore
from auditor.repair import recover
from auditor.repair.apply import Outcome, Result
from auditor.repair.apply import apply as apply_actions
from auditor.repair.context import Leases, RepairContext
from auditor.repair.needs import Need, Skip, assess
from auditor.repair.own_state import LOCK, FilteredStore
from auditor.repair.plan import Action, Capabilities, Plan
from auditor.repair.plan import plan as build_plan
from auditor.repair.plan_snapshots import Rebuild
from auditor.repair.recover import Leftovers

#: Maximum of rounds. Each restores one level of documents: index, nested index, manifest, config, layers.
ROUNDS = 12

#: Audits a store.
Audit = Callable[[Store], AuditResult]
#: Returns the sources to ask, in order, for the evidence of an audit.
Sources = Callable[[Evidence], Sequence[Source]]


class RepairOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of a repair.

    Attributes:
        include_discarded: Restore layers that the node discarded by policy, too.
        jobs: Number of parallel actions.
        quarantine: Folder for copies of damaged files; None keeps none.
        snapshots: How to rebuild damaged snapshots; None leaves them alone.

    """

    include_discarded: bool = False
    jobs: int = 4
    quarantine: Path | None = None
    snapshots: Rebuild | None = None


class RepairResult(msgspec.Struct, frozen=True, kw_only=True):
    """Result of a repair.

    Attributes:
        outcomes: One for each action.
        skips: The findings without an action.
        audit_failure: Why the last audit failed; empty where it did not.
        seen: The last audit after a change; None without one.

    """

    outcomes: tuple[Outcome, ...] = ()
    skips: tuple[Skip, ...] = ()
    audit_failure: str = ""
    seen: AuditResult | None = None


class Repair:
    """One repair of one store.

    `audit` and `plan` only read; call `recover` and `apply` while holding `exclusive`.

    Args:
        store: The store to repair.
        audit: Audits a store.
        sources: Returns the sources to ask.
        options: Options of the repair.
        before_delete: Called before a record is deleted.
        on_start: Progress callback, called before an action.
        on_bytes: Progress callback: (digest, bytes received).
        on_end: Progress callback, called after an action.

    """

    def __init__(
        self,
        store: WritableStore,
        *,
        audit: Audit,
        sources: Sources,
        options: RepairOptions,
        before_delete: Callable[[], None] = lambda: None,
        on_start: Callable[[Action], None] = lambda _action: None,
        on_bytes: Callable[[Digest, int], None] = lambda _digest, _count: None,
        on_end: Callable[[Outcome], None] = lambda _outcome: None,
    ) -> None:
        self._store = store
        self._stop = threading.Event()
        self._filtered = FilteredStore(store, stop=self._stop)
        self._audit = audit
        self._sources = sources
        self._options = options
        self._before_delete = before_delete
        self._on_start = on_start
        self._on_bytes = on_bytes
        self._on_end = on_end
        self._leftovers = Leftovers()
        self._sources_by_name: dict[str, Source] = {}

    def interrupt(self) -> None:
        """Stop the repair; may be called from any thread.

        The method that runs raises Stopped after the step that cannot be undone; leases and ingests are removed.
        """
        self._stop.set()

    def exclusive(self) -> AbstractContextManager[None]:
        """Return the lock that a repair which writes has to hold.

        Raises:
            Busy: On entering, where another repair holds it.

        """
        return self._store.exclusive(LOCK)

    def audit(self, written: Iterable[Digest] = ()) -> AuditResult:
        """Audit the store without the leases and ingests of a repair.

        Args:
            written: The blobs to read again.

        Raises:
            StoreError: The store cannot be read.

        """
        self._filtered.forget(written)
        result = self._audit(self._filtered)
        self._filtered.remember(result.evidence.verifications)
        return result

    def leftovers(self) -> tuple[str, ...]:
        """Describe what a killed run left, one sentence each; changes nothing."""
        return recover.find_leftovers(self._store).notes

    def recover(self) -> tuple[str, ...]:
        """Finish or remove what a killed run left; return one sentence for each replacement."""
        self._leftovers = recover.clear(self._store)
        return self._leftovers.notes

    def plan(self, seen: AuditResult, *, failed: Mapping[Digest, str] | None = None) -> Plan:
        """Build the plan for the result of an audit.

        Args:
            seen: The result of the audit.
            failed: Reasons why blobs were not repaired earlier in this run, by digest.

        Raises:
            StoreError: The store cannot be listed.

        """
        elsewhere = [
            self._filtered.inventory(name, snapshotters=())
            for name in self._store.namespaces()
            if name not in {view.name for view in seen.evidence.views}
        ]
        needs, skips = assess(
            seen.evidence, seen.findings, elsewhere=elsewhere, include_discarded=self._options.include_discarded
        )
        sources = self._sources(seen.evidence)
        self._sources_by_name = {source.name: source for source in sources}
        offers, notes = gather(needs, sources)
        plan = build_plan(needs, skips, offers, Capabilities(files=self._store.staging() is not None), failed=failed)
        return msgspec.structs.replace(plan, notes=(*plan.notes, *notes))

    def apply(self, seen: AuditResult, first: Plan) -> RepairResult:
        """Apply the plan and those that follow from it, release the leases, audit again.

        Args:
            seen: The result of the audit that `first` was built from.
            first: The first plan.

        Raises:
            Stopped: The repair was interrupted.
            StoreError: The store failed outside of a single action.

        """
        if not first.actions:
            with self._store.staging() or nullcontext():  # removes the staging folder of a killed run
                return RepairResult(skips=first.skips)
        leases = Leases(self._store)
        with self._store.staging() or nullcontext() as staging:
            try:
                outcomes, last_plan = self._rounds(seen, first, leases, staging)
                recover.release_finished(self._store, self._leftovers)
            finally:
                leases.release()
            outcomes, last, failure = self._last_audit(outcomes)
            kept = tuple(self._quarantined(outcome) for outcome in outcomes)
        handled = {str(outcome.action.digest) for outcome in kept}
        skips = tuple(skip for skip in last_plan.skips if skip.id not in handled)
        return RepairResult(outcomes=kept, skips=skips, audit_failure=failure, seen=last)

    def _last_audit(self, outcomes: list[Outcome]) -> tuple[list[Outcome], AuditResult | None, str]:
        """Audit again and add notes to the outcomes; where the store cannot be read, return why."""
        try:
            last = self.audit(_touched(outcomes))
        except StoreError as error:
            return outcomes, None, error.message
        return [_with_unprotected(outcome, last.evidence) for outcome in outcomes], last, ""

    def _rounds(
        self, seen: AuditResult, current: Plan, leases: Leases, staging: Staging | None
    ) -> tuple[list[Outcome], Plan]:
        outcomes: list[Outcome] = []
        failed: dict[Digest, str] = {}
        for _ in range(ROUNDS):
            if not current.actions:
                break
            context = self._context(seen.evidence, leases, staging)
            now, later = _split(current.actions)
            done = apply_actions(context, now, jobs=self._options.jobs, on_start=self._on_start, on_end=self._on_end)
            outcomes += done
            failed |= {outcome.action.digest: _why(outcome) for outcome in done}
            if not later and not any(_restores_document(outcome) for outcome in done):
                break
            seen = self.audit(_touched(outcomes))
            current = self.plan(seen, failed=failed)
        return outcomes, current

    def _context(self, evidence: Evidence, leases: Leases, staging: Staging | None) -> RepairContext:
        return RepairContext(
            self._store,
            self._sources_by_name,
            leases=leases,
            staging=staging,
            inventories={view.name: view.inventory for view in evidence.views},
            discards=frozenset(_discarding(evidence)),
            remembered=self._leftovers.remembered,
            quarantine=self._options.quarantine,
            before_delete=self._before_delete,
            stop=self._stop,
            on_bytes=self._on_bytes,
        )

    def _quarantined(self, outcome: Outcome) -> Outcome:
        """Copy the damaged file to the user's folder, before the staging folder is removed."""
        folder = self._options.quarantine
        if folder is None:
            return msgspec.structs.replace(outcome, quarantined=None)
        if outcome.quarantined is None or outcome.quarantined.parent == folder:
            return outcome
        target = folder / outcome.action.digest.replace(":", "-")
        try:
            if outcome.quarantined.is_dir():
                shutil.copytree(outcome.quarantined, target, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(outcome.quarantined, target, follow_symlinks=False)
        except OSError as error:
            note = f"the damaged copy could not be kept: {error.strerror or error}"
            return msgspec.structs.replace(outcome, quarantined=None, notes=(*outcome.notes, note))
        return msgspec.structs.replace(outcome, quarantined=target)


def gather(needs: Iterable[Need], sources: Sequence[Source]) -> tuple[dict[Digest, tuple[Offer, ...]], tuple[str, ...]]:
    """Ask every source for every need.

    Args:
        needs: The blobs to restore.
        sources: The sources in the order in which their offers are tried.

    Returns:
        The offers by digest; and one sentence for each source that cannot be asked.

    Raises:
        StoreError: A source in the same store cannot list it.

    """
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


def _split(actions: Sequence[Action]) -> tuple[list[Action], list[Action]]:
    """Split the actions into those to apply now and those to plan again after the documents are restored.

    A blob that no image refers to may be a child of a damaged document: its origin is unknown until that is restored.
    """
    documents = [action for action in actions if _is_document(action)]
    now = [action for action in actions if not documents or action.need.images or action in documents]
    return now, [action for action in actions if action not in now]


def _is_document(action: Action) -> bool:
    return action.need.media_type in INDEX_TYPES | MANIFEST_TYPES | CONFIG_TYPES


def _why(outcome: Outcome) -> str:
    return outcome.message if outcome.result is Result.FAILED else f"it was {outcome.result} earlier in this run"


def _restores_document(outcome: Outcome) -> bool:
    """Whether the outcome restored a document, so that its children can be checked."""
    return outcome.result is Result.REPAIRED and _is_document(outcome.action)


def _discarding(evidence: Evidence) -> Iterable[str]:
    """Yield the namespaces whose layers are discarded: by the daemon's configuration, else by a discarded layer."""
    for view in evidence.views:
        if evidence.info.discards_layers or any(
            state.state is State.DISCARDED
            for graph, node in view.manifests()
            for state in states(evidence, view, graph, node)
        ):
            yield view.name


def _with_unprotected(outcome: Outcome, evidence: Evidence) -> Outcome:
    """Add a note for each namespace in which nothing protects the restored blob."""
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
