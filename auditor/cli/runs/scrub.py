"""Run a scrub: open the state, verify due blobs, report with recorded results."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path

import msgspec

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
from auditor.model.store import Store
from auditor.scrub.rate_limit import RateLimit
from auditor.scrub.state import State, identity


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and scope of a scrub."""

    max_age: timedelta
    max_duration: timedelta | None
    pace: RateLimit | None
    jobs: int
    max_layer: int | None
    known_bad: bool
    new_only: bool


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

    def read(self, meter: Meter, evidence: Evidence) -> Reading:
        """Read the blobs that are due, and add the remembered verifications of the others."""
        self._targets = scrub.wanted(evidence)
        present = frozenset(target.digest for target in self._targets)
        if self._everything:
            self._state.forget_absent(present)
        remembered = self._state.remembered()
        due = scrub.plan(
            self._targets,
            remembered,
            now=audit.now(),
            max_age=self._budget.max_age,
            known_bad=self._budget.known_bad,
            new_only=self._budget.new_only,
            layers=self._layers,
        )
        outcomes = scrub.scrub(
            self._store,
            self._state,
            due,
            now=audit.now,
            jobs=self._budget.jobs,
            layers=self._layers,
            max_layer=self._budget.max_layer,
            known=present,
            pace=self._budget.pace,
            over=self._over,
            on_bytes=meter.reading(sum(target.size for target in due), "scrubbing"),
        )
        verifications = {
            known.digest: known.verification
            for known in remembered.values()
            if known.verification and known.digest in present
        }
        return Reading({**verifications, **{verification.digest: verification for verification in outcomes}})

    def _over(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end

    def coverage(self) -> Coverage:
        """How much of the store is verified."""
        found = scrub.coverage(self._targets, self._state.remembered(), layers=self._layers)
        return Coverage(
            blobs=found.blobs,
            bytes=found.bytes,
            proven_blobs=found.proven_blobs,
            proven_bytes=found.proven_bytes,
            known_bad=found.bad,
            oldest_proof_at=found.oldest,
        )
