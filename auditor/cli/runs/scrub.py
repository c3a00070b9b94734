"""Run a scrub: open the state, verify what is due, report with recorded results."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path

import msgspec
from msgspec import UNSET

from auditor import scrub
from auditor.audit.audit import Reading
from auditor.audit.collect import Request
from auditor.checks.evidence import Evidence
from auditor.cli import audit
from auditor.cli.options import Common
from auditor.cli.output import print_message
from auditor.cli.progress import Meter
from auditor.formats.sanitize import plain
from auditor.model.findings import Coverage, Report, Verify
from auditor.model.snapshot_files import SnapshotFiles, SnapshotKey
from auditor.model.store import Store
from auditor.scrub.rate_limit import RateLimit
from auditor.scrub.snapshot_state import RememberedSnapshot
from auditor.scrub.state import State, identity
from auditor.snapshots.examine import Examined, directories, unread
from auditor.snapshots.presence import needed


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and scope of a scrub."""

    max_age: timedelta
    max_duration: timedelta | None
    pace: RateLimit | None
    jobs: int
    max_layer: int | None
    known_bad: bool
    new_only: bool
    snapshots: bool = False


def scrubbed(store: Store, request: Request, options: Common, budget: Budget, place: Path) -> Report:
    """Scrub and build the report. Raises StateError if another scrub holds the state, or it cannot be written."""
    with State.open(place, store=identity(store.info())) as state:
        for note in state.notes:
            print_message(f"note: {plain(note)}")
        session = _Session(store, state, request, budget)
        _, report = audit.audited(store, request, options, reader=session.read)
        return msgspec.structs.replace(report, coverage=session.coverage())


class _Session:
    """One run; its targets are known after the evidence is collected."""

    def __init__(self, store: Store, state: State, request: Request, budget: Budget) -> None:
        self._store = store
        self._state = state
        self._layers = request.verify is Verify.LAYERS
        self._everything = not request.namespaces
        self._budget = budget
        self._end = None if budget.max_duration is None else time.monotonic() + budget.max_duration.total_seconds()
        self._targets: list[scrub.Target] = []
        self._snapshots: list[scrub.SnapshotTarget] = []

    def read(self, meter: Meter, evidence: Evidence) -> Reading:
        """Read what is due, and add the remembered results of the rest."""
        looked = self._look(evidence)
        self._targets = scrub.wanted(evidence)
        present = frozenset(target.digest for target in self._targets)
        if self._everything:
            self._state.forget_absent(present)
        remembered = self._state.remembered()
        compared = scrub.SnapshotState(self._state).remembered()
        due = scrub.plan_with_snapshots(
            self._targets,
            remembered,
            self._snapshots,
            compared,
            now=audit.now(),
            max_age=self._budget.max_age,
            known_bad=self._budget.known_bad,
            new_only=self._budget.new_only,
            layers=self._layers,
        )
        files = {**looked.files, **_remembered(self._snapshots, compared)}
        outcomes = scrub.scrub(
            self._store,
            self._state,
            due,
            now=audit.now,
            jobs=self._budget.jobs,
            layers=self._layers,
            max_layer=self._budget.max_layer,
            known=present,
            evidence=evidence if self._budget.snapshots else None,
            pace=self._budget.pace,
            over=self._over,
            on_bytes=meter.reading(sum(target.bytes for target in due), "scrubbing"),
            on_compared=lambda done: files.update({done.target.key: done.files}),
        )
        verifications = {
            known.digest: known.verification
            for known in remembered.values()
            if known.verification and known.digest in present
        }
        verifications |= {verification.digest: verification for verification in outcomes}
        return Reading(verifications, snapshot_files=files, incomplete=(*looked.incomplete, *unread(files)))

    def _look(self, evidence: Evidence) -> Examined:
        """Look at the snapshots' directories, if that was asked for; those that exist become targets."""
        if not self._budget.snapshots:
            return Examined()
        wanted = needed(evidence)
        looked = directories(evidence, wanted, pause=time.sleep)
        self._snapshots = list(scrub.snapshot_targets(wanted, looked.files))
        if self._everything and not looked.incomplete:
            scrub.SnapshotState(self._state).forget_absent(looked.files.keys())
        return looked

    def _over(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end

    def coverage(self) -> Coverage:
        """How much of the store is verified."""
        found = scrub.coverage(self._targets, self._state.remembered(), layers=self._layers)
        snapshots = scrub.snapshot_coverage(self._snapshots, scrub.SnapshotState(self._state).remembered())
        asked = self._budget.snapshots
        return Coverage(
            blobs=found.blobs,
            bytes=found.bytes,
            proven_blobs=found.proven_blobs,
            proven_bytes=found.proven_bytes,
            known_bad=found.bad,
            oldest_proof_at=found.oldest,
            snapshots=snapshots.snapshots if asked else UNSET,
            compared_snapshots=snapshots.compared if asked else UNSET,
            oldest_comparison_at=snapshots.oldest or UNSET,
        )


def _remembered(
    targets: Iterable[scrub.SnapshotTarget], compared: Mapping[SnapshotKey, RememberedSnapshot]
) -> dict[SnapshotKey, SnapshotFiles]:
    """Return the results of earlier comparisons of the same directories."""
    found = {target.key: scrub.current(target, compared) for target in targets}
    return {
        key: known.files
        for key, known in found.items()
        if known is not None and known.files is not None and known.settled
    }
