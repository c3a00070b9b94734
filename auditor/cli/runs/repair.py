"""One run of `auditor repair`: connect, look, plan, show, ask, apply, look again, say what became of it."""

from __future__ import annotations

import queue
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
from auditor.cli.options import Common
from auditor.cli.output import complain, deliver, say
from auditor.cli.progress_bars import bars
from auditor.cli.publish import COULD_NOT, style
from auditor.cli.repair_watchdog import Guard
from auditor.cli.runs.repair_rows import outcome_row, plan_rows, skip_row
from auditor.cli.sources import Choice
from auditor.errors import Busy, OutputError
from auditor.formats import json_report, table
from auditor.formats import repair as text
from auditor.formats.repair import PlanRows, RepairDocument
from auditor.formats.sanitize import plain
from auditor.model.findings import Report
from auditor.model.store import Store
from auditor.repair.session import Ended, Repair, Wishes

#: Seconds to wait after a signal for the repair to leave the store as it should be; its leases expire by themselves.
_PATIENCE = 60.0


class Session:
    """What the run of the command knows."""

    def __init__(
        self,
        common: Common,
        request: Request,
        chosen: Choice,
        wishes: Wishes,
        output_format: Format,
        *,
        yes: bool,
        dry_run: bool,
    ) -> None:
        self._common = common
        self._request = request
        self._chosen = chosen
        self._wishes = wishes
        self._format = output_format
        self._yes = yes
        self._dry_run = dry_run
        self._reports: list[Report] = []
        self._said: queue.SimpleQueue[PlanRows | RepairDocument | BaseException] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._repair: Repair | None = None
        self._stopped = False

    def run(self) -> RepairDocument:
        """Do it, in a thread of its own, so that a signal ends it only where nothing is half done.

        Raises StoreError, Busy where another repair is at work, NothingExamined, and what a signal raises here.
        """
        thread = threading.Thread(target=self._work, name="repair", daemon=True)
        thread.start()
        try:
            return self._hear()
        except BaseException:
            self._stop()
            thread.join(_PATIENCE)
            raise

    def _hear(self) -> RepairDocument:
        """Do for the other thread what only this one can, until it is done."""
        said = self._said.get()
        while isinstance(said, PlanRows):
            self._answers.put(_ask(said, verbose=self._common.verbose))
            said = self._said.get()
        if isinstance(said, BaseException):
            raise said
        return said

    def _stop(self) -> None:
        self._stopped = True
        self._answers.put(False)
        if self._repair is not None:
            self._repair.interrupt()

    def _work(self) -> None:
        try:
            self._said.put(self._connected())
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread
            self._said.put(error)

    def _connected(self) -> RepairDocument:
        with connected_writable(self._common) as store, bars(wanted=self._common.progress) as drawn:
            guard = Guard(Path(store.info().address))
            work = Repair(
                store,
                look=self._look,
                sources=sources.opener(store, self._chosen, show=self._common.progress),
                wishes=self._wishes,
                guard=guard.start,
                on_start=drawn.start,
                on_bytes=drawn.read,
                on_end=drawn.end,
            )
            self._repair = work
            if self._stopped:
                work.interrupt()
            try:
                return self._planned(work, work.leftovers()) if self._dry_run else self._alone(work)
            finally:
                guard.stop()

    def publish(self, document: RepairDocument, *, status: int) -> int:
        """Print or write the end of it, and return the exit status."""
        if self._common.quiet and status == 0 and self._common.output is None:
            return status
        try:
            deliver(self._rendered(document), self._common.output)
        except OutputError as error:
            complain(error)
            return status or COULD_NOT
        return status

    def _look(self, store: Store) -> AuditResult:
        reader = prover.reader(store, self._request.verify)
        seen, report = audit.audited(store, self._request, self._common, reader=reader)
        self._reports.append(report)
        return seen

    def _planned(self, work: Repair, notes: tuple[str, ...]) -> RepairDocument:
        rows = plan_rows(work.propose(work.look()))
        return RepairDocument(dry_run=True, plan=rows, skips=rows.skips, notes=notes, after=self._reports[-1])

    def _alone(self, work: Repair) -> RepairDocument:
        try:
            with work.exclusive():
                return self._carried_out(work)
        except Busy:
            raise Busy(
                "another repair is at work on this daemon",
                hint="wait for its end; one that was killed is not in the way",
            ) from None

    def _carried_out(self, work: Repair) -> RepairDocument:
        notes = work.clear()
        seen = work.look()
        plan = work.propose(seen)
        rows = plan_rows(plan)
        if plan.actions and not self._agreed(rows):
            return self._document(rows, notes)
        ended = work.carry_out(seen, plan)
        return self._document(rows, notes, ended)

    def _document(self, rows: PlanRows, notes: tuple[str, ...], ended: Ended | None = None) -> RepairDocument:
        after = self._reports[-1]
        if ended is not None and ended.unseen:
            why = f"the store could not be checked again: {ended.unseen}"
            after = msgspec.structs.replace(after, complete=False, incomplete=(*after.incomplete, why))
        return RepairDocument(
            dry_run=False,
            plan=rows,
            outcomes=tuple(map(outcome_row, ended.outcomes)) if ended is not None else (),
            skips=tuple(map(skip_row, ended.skips)) if ended is not None else rows.skips,
            notes=notes,
            after=after,
        )

    def _agreed(self, rows: PlanRows) -> bool:
        """Have the main thread ask, which alone hears signals; where it was agreed to beforehand, ask nobody."""
        if self._yes:
            return True
        self._said.put(rows)
        return self._answers.get()

    def _rendered(self, document: RepairDocument) -> str:
        if self._format is Format.JSON:
            return json_report.to_json(document)
        verbose = self._common.verbose
        parts = [f"note: {plain(note)}\n" for note in document.notes]
        if self._dry_run or self._yes or not sys.stderr.isatty():
            parts.append(text.render_plan(document.plan, verbose=verbose))
        if not self._dry_run:
            parts += ["\n", text.render_outcomes(document.outcomes, document.skips, verbose=verbose)]
        parts += ["\n", table.render(document.after, advice=render.advice(), style=style(self._common))]
        return "".join(parts)


def _ask(rows: PlanRows, *, verbose: bool) -> bool:
    say(text.render_plan(rows, verbose=verbose).rstrip())
    return typer.confirm("Do this?", err=True)
