"""What commands share: connecting, auditing, making the report."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime

from auditor.audit import audit, collect
from auditor.audit.audit import Prove
from auditor.checks.evidence import Evidence
from auditor.cli.options import Common
from auditor.cli.progress import Meter, progress
from auditor.model.findings import Finding, Report
from auditor.model.store import Store
from auditor.report import build, image_tree


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def host(environ: Mapping[str, str]) -> str:
    """The node's name: AUDITOR_HOST where it is set, for a pod is not called as the node it runs on."""
    return environ.get("AUDITOR_HOST") or os.uname().nodename


def as_found(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Leave the findings of an audit as they are."""
    return findings


def _meter(options: Common) -> AbstractContextManager[Meter]:
    """Progress as the options want it: drawn, or as lines."""
    if not options.stream:
        return progress(wanted=options.progress)
    from auditor.cli.progress import streaming

    return streaming()


@contextmanager
def _without_collection() -> Iterator[None]:
    """Keep Python's cycle collector out of an audit.

    It builds many records and no cycles; walking them again and again would take a quarter of the time.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def audited(
    store: Store,
    request: collect.Request,
    options: Common,
    *,
    proving: Callable[[Meter], Prove | None] | None = None,
    judged: Callable[[tuple[Finding, ...]], tuple[Finding, ...]] = as_found,
    incomplete: tuple[str, ...] = (),
    trees: bool = True,
) -> tuple[audit.AuditResult, Report]:
    """Audit, with progress, and make the report.

    `proving` makes what reads the bytes; `judged` has the last word on the findings, and `incomplete` says what else
    could not be examined. Without `trees`, the report does not say what each image is made of.
    """
    started, clock = now(), time.monotonic()
    with _meter(options) as meter, _without_collection():
        prove = proving(meter) if proving is not None else None
        outcome = audit.audit(store, request, clock=now, pause=time.sleep, prove=prove, on_progress=meter)
    outcome.evidence.incomplete = (*outcome.evidence.incomplete, *incomplete)
    outcome = audit.AuditResult(outcome.evidence, judged(outcome.findings))
    made = build.report(
        outcome.evidence,
        outcome.findings,
        host=host(os.environ),
        started=started,
        finished=now(),
        seconds=time.monotonic() - clock,
    )
    return outcome, image_tree.add_trees(made, outcome.evidence, outcome.findings) if trees else made


def empty(
    store: Store, request: collect.Request, *, findings: tuple[Finding, ...], incomplete: tuple[str, ...]
) -> Report:
    """The report of a store in which there was nothing to audit, with what is wrong with the store itself."""
    info = store.info()
    evidence = Evidence(
        info=info,
        verify=request.verify,
        matcher=collect.matcher_for(request, info),
        views=(),
        documents={},
        files={},
        now=now(),
        incomplete=incomplete or ("there was no image to examine",),
    )
    at = now()
    return build.report(evidence, findings, host=os.uname().nodename, started=at, finished=at, seconds=0.0)
