"""Run of `auditor repair`: connect, audit, plan, confirm, apply, audit again, publish."""

from __future__ import annotations

import queue
import secrets
import sys
import threading
from pathlib import Path

import msgspec
import typer

from auditor.audit.audit import AuditResult
from auditor.audit.collect import Request
from auditor.cli import audit, prover, render, sources
from auditor.cli.choices import Format
from auditor.cli.connect import connected_writable
from auditor.cli.metrics_files import COULD_NOT
from auditor.cli.options import Common
from auditor.cli.output import deliver, print_error, print_message
from auditor.cli.progress_bars import bars
from auditor.cli.publish import style
from auditor.cli.repair_watchdog import Watchdog
from auditor.cli.runs.repair_scope import named_blobs, only_blobs, unread
from auditor.cli.sources import Choice
from auditor.containerd.writable_store import WritableContainerdStore
from auditor.errors import Busy, OutputError, StoreError
from auditor.formats import json_report, table
from auditor.formats import repair as text
from auditor.formats.repair import PlanRows, RepairDocument, all_skips, outcome_row, plan_rows, snapshot_rows
from auditor.formats.sanitize import plain
from auditor.model.digest import Digest
from auditor.model.findings import Report
from auditor.model.snapshot_files import SnapshotFiles, SnapshotKey
from auditor.model.store import Store
from auditor.repair.plan import Plan
from auditor.repair.plan_snapshots import Rebuild, SnapshotPlan
from auditor.repair.session import Repair, RepairOptions, RepairResult
from auditor.repair.snapshot_session import SnapshotOutcome, SnapshotRepair, surroundings

#: Seconds to wait after a signal until the repair has undone its unfinished steps; its leases expire in any case.
_PATIENCE = 60.0


class Session:
    """One run of the command.

    The repair runs in a worker thread, so that a signal, which Python delivers to the main thread, stops it only
    between two steps. The main thread asks for confirmation.
    """

    def __init__(
        self,
        common: Common,
        request: Request,
        chosen: Choice,
        options: RepairOptions,
        output_format: Format,
        *,
        yes: bool,
        dry_run: bool,
    ) -> None:
        self._common = common
        self._request = request
        self._chosen = chosen
        self._options = options
        self._format = output_format
        self._yes = yes
        self._dry_run = dry_run
        self._reports: list[Report] = []
        self._messages: queue.SimpleQueue[PlanRows | RepairDocument | BaseException] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._repair: Repair | None = None
        self._snapshots: SnapshotRepair | None = None
        self._intact: dict[SnapshotKey, SnapshotFiles] = {}
        self._stopped = False
        #: The blobs to repair, where blobs and not images were named.
        self._blobs: frozenset[Digest] = frozenset()

    def run(self) -> RepairDocument:
        """Run the repair to its end.

        Raises:
            Busy: Another repair of this store is running.
            NothingExamined: Nothing matches the request.
            StoreError: The store failed.

        """
        thread = threading.Thread(target=self._work, name="repair", daemon=True)
        thread.start()
        try:
            return self._wait()
        except BaseException:
            self._stop()
            thread.join(_PATIENCE)
            raise

    def _wait(self) -> RepairDocument:
        """Answer the questions of the worker thread until it sends its result."""
        message = self._messages.get()
        while isinstance(message, PlanRows):
            self._answers.put(_confirm(message, verbose=self._common.verbose))
            message = self._messages.get()
        if isinstance(message, BaseException):
            raise message
        return message

    def _stop(self) -> None:
        self._stopped = True
        self._answers.put(False)
        for part in (self._repair, self._snapshots):
            if part is not None:
                part.interrupt()

    def _work(self) -> None:
        try:
            self._messages.put(self._connected())
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._messages.put(error)

    def _connected(self) -> RepairDocument:
        with connected_writable(self._common) as store, bars(wanted=self._common.progress) as drawn:
            self._request, self._blobs = named_blobs(store, self._request)
            watchdog = Watchdog(Path(store.info().address))
            repair = Repair(
                store,
                audit=self._audit,
                sources=sources.opener(store, self._chosen, show=self._common.progress),
                options=self._options,
                before_delete=watchdog.start,
                on_start=drawn.start,
                on_bytes=drawn.read,
                on_end=drawn.end,
            )
            self._repair = repair
            if self._options.snapshots is not None:
                self._snapshots = _snapshot_repair(store, self._options.snapshots)
            if self._stopped:
                self._stop()
            try:
                return self._plan_only(repair) if self._dry_run else self._exclusively(repair, watchdog)
            finally:
                watchdog.stop()

    def publish(self, document: RepairDocument, *, status: int) -> int:
        """Print the document or write it to the output file.

        Returns:
            The exit status: `status`, or COULD_NOT where that is 0 and the output cannot be written.

        """
        if self._common.quiet and status == 0 and self._common.output is None:
            return status
        try:
            deliver(self._rendered(document), self._common.output)
        except OutputError as error:
            print_error(error)
            return status or COULD_NOT
        return status

    def _audit(self, store: Store) -> AuditResult:
        reader = prover.reader(store, self._request.verify, intact=self._intact)
        seen, report = audit.audited(store, self._request, self._common, reader=reader)
        if self._blobs:
            seen = only_blobs(seen, self._blobs)
        self._reports.append(report)
        found = seen.evidence.snapshot_files.items()
        self._intact = {key: files for key, files in found if files.differences and not files.differences.items}
        return seen

    def _plan_only(self, repair: Repair) -> RepairDocument:
        notes = repair.leftovers()
        if self._snapshots is not None:
            notes += self._snapshots.leftovers()
        seen = repair.audit()
        plan = repair.plan(seen)
        rows = plan_rows(plan, self._snapshot_plan(seen, plan))
        notes += unread(rows, self._request.verify)
        return RepairDocument(dry_run=True, plan=rows, skips=rows.skips, notes=notes, after=self._reports[-1])

    def _snapshot_plan(self, seen: AuditResult, plan: Plan) -> SnapshotPlan | None:
        if self._snapshots is None:
            return None
        return self._snapshots.plan(seen, restored=[action.digest for action in plan.actions])

    def _exclusively(self, repair: Repair, watchdog: Watchdog) -> RepairDocument:
        try:
            with repair.exclusive():
                return self._apply(repair, watchdog)
        except Busy:
            raise Busy(
                "another repair of this daemon is running",
                hint="wait for its end; a killed repair does not block this one",
            ) from None

    def _apply(self, repair: Repair, watchdog: Watchdog) -> RepairDocument:
        notes = repair.recover()
        if self._snapshots is not None:
            notes += self._snapshots.recover()
        seen = repair.audit()
        plan = repair.plan(seen)
        snapshots = self._snapshot_plan(seen, plan)
        rows = plan_rows(plan, snapshots)
        if (rows.actions or rows.snapshots) and not self._confirmed(rows):
            return self._document(rows, RepairResult(skips=rows.skips), notes)
        if plan.actions:
            watchdog.start()  # before the first write: a repair without it stops here
        result = repair.apply(seen, plan)
        if self._snapshots is None or snapshots is None:
            return self._document(rows, result, notes)
        if plan.actions and result.seen is not None:
            snapshots = self._snapshots.plan(result.seen)  # more can be compared now
        done = () if result.audit_failure else self._snapshots.apply(snapshots)
        if self._options.snapshots is Rebuild.REPLACE:
            self._intact = {}  # intact snapshots above a damaged one were unpacked again, too
        if done:
            result = _checked_again(repair, result)
        result = msgspec.structs.replace(result, skips=all_skips(result.skips, snapshots))
        return self._document(rows, result, notes, done)

    def _document(
        self, rows: PlanRows, result: RepairResult, notes: tuple[str, ...], done: tuple[SnapshotOutcome, ...] = ()
    ) -> RepairDocument:
        after = self._reports[-1]
        if result.audit_failure:
            why = f"the store could not be checked again: {result.audit_failure}"
            after = msgspec.structs.replace(after, complete=False, incomplete=(*after.incomplete, why))
        return RepairDocument(
            dry_run=False,
            plan=rows,
            outcomes=tuple(map(outcome_row, result.outcomes)),
            snapshots=snapshot_rows(done),
            skips=result.skips,
            notes=notes + unread(rows, self._request.verify),
            after=after,
        )

    def _confirmed(self, rows: PlanRows) -> bool:
        """Whether to apply the plan; the main thread asks, because only it receives signals."""
        if self._yes:
            return True
        self._messages.put(rows)
        return self._answers.get()

    def _rendered(self, document: RepairDocument) -> str:
        if self._format is Format.JSON:
            return json_report.to_json(document)
        verbose = self._common.verbose
        parts = [f"note: {plain(note)}\n" for note in document.notes]
        if self._dry_run or self._yes or not sys.stderr.isatty():
            parts.append(text.render_plan(document.plan, verbose=verbose))
        if not self._dry_run:
            parts += ["\n", _outcomes(document, verbose=verbose)]
        parts += ["\n", table.render(document.after, advice=render.advice(), style=style(self._common))]
        return "".join(parts)


def _snapshot_repair(store: WritableContainerdStore, rebuild: Rebuild) -> SnapshotRepair:
    address = Path(store.info().address)
    around = surroundings(store, address, token=lambda: secrets.token_hex(8), now=audit.now)
    return SnapshotRepair(store, around=around, rebuild=rebuild)


def _checked_again(repair: Repair, result: RepairResult) -> RepairResult:
    """Audit after the rebuilds."""
    try:
        return msgspec.structs.replace(result, seen=repair.audit())
    except StoreError as error:
        return msgspec.structs.replace(result, audit_failure=error.message)


def _outcomes(document: RepairDocument, *, verbose: bool) -> str:
    return text.render_outcomes(document.outcomes, document.skips, snapshots=document.snapshots, verbose=verbose)


def _confirm(rows: PlanRows, *, verbose: bool) -> bool:
    print_message(text.render_plan(rows, verbose=verbose).rstrip())
    return typer.confirm("Do this?", err=True)
