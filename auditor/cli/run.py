"""What commands share: connecting, auditing, making the report."""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from auditor import audit, checks, containerd, contents, platforms, verdict
from auditor.archive.problems import FAULTS
from auditor.audit import Prove
from auditor.cli.options import Common
from auditor.cli.output import say
from auditor.cli.progress import Meter, progress
from auditor.errors import UsageError
from auditor.evidence import Evidence
from auditor.findings import Finding, Report, Severity
from auditor.formats.rule import Entry
from auditor.formats.table import Advice
from auditor.store import Store


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def host(environ: Mapping[str, str]) -> str:
    """The node's name: AUDITOR_HOST where it is set, for a pod is not called as the node it runs on."""
    return environ.get("AUDITOR_HOST") or platform.node()


@contextmanager
def connected(options: Common) -> Iterator[containerd.ContainerdStore]:
    """The store that the options mean. Raises StoreUnreachable, UsageError."""
    root = content_root(options.content_root)
    address = containerd.discover(options.address, environ=os.environ)
    with containerd.connect(address, timeout=options.timeout, content_root=root) as store:
        if options.verbose:
            for note in store.info().notes:
                say(f"note: {note}")
        yield store


@contextmanager
def opened(options: Common, archive: Path | None) -> Iterator[Store]:
    """An archive where one is named, else the daemon that the options mean. Raises StoreUnreachable, UsageError."""
    if archive is None:
        with connected(options) as store:
            yield store
    else:
        from auditor.archive.read import open_archive

        with progress(wanted=options.progress) as meter:
            found = open_archive(archive, on_bytes=meter.reading(0, "reading the archive"))
        yield found


def content_root(text: str) -> Literal["auto"] | Path | None:
    """Read --content-root. Raises UsageError for a folder that is not there."""
    if text == "auto":
        return "auto"
    if text == "none":
        return None
    path = Path(text)
    if not (path / "blobs").is_dir():
        raise UsageError(
            f"{text} holds no blobs folder", hint="name the folder io.containerd.content.v1.content, or auto, or none"
        )
    return path


def wanted_platforms(texts: list[str] | None) -> tuple[platforms.Platform, ...]:
    """Read --platform. Raises UsageError."""
    return tuple(platforms.parse(text) for text in texts or ())


def as_found(findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
    """Leave the findings of an audit as they are."""
    return findings


def _meter(options: Common) -> AbstractContextManager[Meter]:
    """Progress as the options want it: drawn, or as lines."""
    if not options.stream:
        return progress(wanted=options.progress)
    from auditor.cli.stream import streaming

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
    request: audit.Request,
    options: Common,
    *,
    proving: Callable[[Meter], Prove | None] | None = None,
    judged: Callable[[tuple[Finding, ...]], tuple[Finding, ...]] = as_found,
    incomplete: tuple[str, ...] = (),
    trees: bool = True,
) -> tuple[audit.Outcome, Report]:
    """Audit, with progress, and make the report.

    `proving` makes what reads the bytes; `judged` has the last word on the findings, and `incomplete` says what else
    could not be examined. Without `trees`, the report does not say what each image is made of.
    """
    started, clock = now(), time.monotonic()
    with _meter(options) as meter, _without_collection():
        prove = proving(meter) if proving is not None else None
        outcome = audit.audit(store, request, clock=now, pause=time.sleep, prove=prove, on_progress=meter)
    outcome.evidence.incomplete = (*outcome.evidence.incomplete, *incomplete)
    outcome = audit.Outcome(outcome.evidence, judged(outcome.findings))
    made = verdict.report(
        outcome.evidence,
        outcome.findings,
        host=host(os.environ),
        started=started,
        finished=now(),
        seconds=time.monotonic() - clock,
    )
    return outcome, contents.add_trees(made, outcome.evidence, outcome.findings) if trees else made


def empty(
    store: Store, request: audit.Request, *, findings: tuple[Finding, ...], incomplete: tuple[str, ...]
) -> Report:
    """The report of a store in which there was nothing to audit, with what is wrong with the store itself."""
    info = store.info()
    evidence = Evidence(
        info=info,
        verify=request.verify,
        matcher=audit.matcher_for(request, info),
        views=(),
        documents={},
        files={},
        now=now(),
        incomplete=incomplete or ("there was no image to examine",),
    )
    at = now()
    return verdict.report(evidence, findings, host=platform.node(), started=at, finished=at, seconds=0.0)


def rulebook() -> list[Entry]:
    """All rules, those of stores and those of archives, the worst first."""
    rules = [Entry(r.code, str(r.severity), r.means, r.matters, r.do) for r in checks.RULES]
    rules += (Entry(f.code, str(f.severity), _sentence(f.meaning), _sentence(f.why), _sentence(f.hint)) for f in FAULTS)
    return sorted(rules, key=lambda entry: (Severity(entry.severity).rank, entry.code))


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def advice() -> dict[str, Advice]:
    """What each code means, for formats that say it."""
    return {entry.code: Advice(means=entry.means, matters=entry.matters) for entry in rulebook()}
