"""Run an audit with progress, and build its report."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType

import msgspec

from auditor.audit import audit, collect
from auditor.checks.evidence import Evidence
from auditor.checks.rule import at_address, at_root
from auditor.cli.options import Common
from auditor.cli.progress import Meter, progress
from auditor.model.findings import Fact, Finding, Report, order
from auditor.model.image_graph import Documents
from auditor.model.store import SourceKind, Store, StoreInfo
from auditor.report import build


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def host(environ: Mapping[str, str]) -> str:
    """The name of the node: AUDITOR_HOST if set (a pod has another name than its node), else the host name."""
    return environ.get("AUDITOR_HOST") or os.uname().nodename


def _meter(options: Common) -> AbstractContextManager[Meter]:
    """The progress meter of the options: a bar, or lines of JSON."""
    if not options.stream:
        return progress(wanted=options.progress)
    from auditor.cli.progress import streaming

    return streaming(host=host(os.environ))


#: Reads the blobs that an audit wants verified, and reports progress to the meter.
Reader = Callable[[Meter, Evidence], audit.Reading]


@contextmanager
def _without_collection() -> Iterator[None]:
    """Disable Python's cycle collector.

    An audit builds many records and no cycles; collections would take a quarter of its time.
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
    documents: Documents = MappingProxyType({}),
    reader: Reader | None = None,
    also: tuple[Finding, ...] = (),
    incomplete: tuple[str, ...] = (),
    trees: bool = True,
) -> tuple[audit.AuditResult, Report]:
    """Audit a store with progress, and build the report.

    Args:
        store: The store to read.
        request: The part of the store to audit, and the verification level.
        options: The common options of the command line.
        documents: Documents of the store that were read and parsed before.
        reader: Reads blobs; None leaves contents unread.
        also: Findings to add, such as those about an archive as a file.
        incomplete: Sentences to add to the report's `incomplete`.
        trees: Whether the report has each image's tree.

    """
    started, clock = now(), time.monotonic()
    with _meter(options) as meter, _without_collection():
        facts = _facts(store.info())
        read = partial(reader, meter) if reader is not None else None
        result = audit.audit(
            store, request, clock=now, pause=time.sleep, documents=documents, read=read, on_progress=meter
        )
    evidence = msgspec.structs.replace(result.evidence, incomplete=(*result.evidence.incomplete, *incomplete))
    findings = order((*also, *_addressed(result.findings, evidence.info, options)))
    result = audit.AuditResult(evidence, findings, result.unread)
    made = build.report(
        evidence,
        result.findings,
        host=host(os.environ),
        started=started,
        finished=now(),
        seconds=time.monotonic() - clock,
        facts=facts,
    )
    if not trees:
        return result, made
    from auditor.report.image_tree import add_trees

    return result, add_trees(made, evidence, result.findings)


def _addressed(findings: tuple[Finding, ...], info: StoreInfo, options: Common) -> Iterator[Finding]:
    """Yield the findings; their commands carry the address that was given on the command line or in the environment."""
    for finding in findings:
        if options.root is not None:
            yield msgspec.structs.replace(
                finding, hint=at_root(finding.hint, str(options.root), while_running=options.while_running)
            )
        elif options.address and info.kind is SourceKind.CONTAINERD:
            yield msgspec.structs.replace(finding, hint=at_address(finding.hint, options.address))
        else:
            yield finding


def _facts(info: StoreInfo) -> Mapping[str, Fact]:
    """Facts of the host, where the store is this host's."""
    if info.kind is not SourceKind.CONTAINERD:
        return {}
    from auditor.cli.host_facts import host_facts

    return host_facts(info.content_root)


def empty(
    info: StoreInfo, request: collect.Request, *, findings: tuple[Finding, ...], incomplete: tuple[str, ...]
) -> Report:
    """The report of a store without images: findings about the store itself."""
    evidence = Evidence(
        info=info,
        verify=request.verify,
        matcher=collect.matcher_for(request, info),
        views=(),
        documents={},
        files={},
        now=now(),
        incomplete=incomplete or ("there was no image to check",),
    )
    at = now()
    return build.report(evidence, findings, host=os.uname().nodename, started=at, finished=at, seconds=0.0)
