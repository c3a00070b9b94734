"""One JSON object per line, each with a `type` and the `host`: start, progress, findings, images, summary.

The summary is the last line; a stream without it was cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import msgspec

from auditor.formats.sanitize import json_plain
from auditor.model.findings import SCHEMA, Finding, ImageState, Report

_ENCODER = msgspec.json.Encoder()


def render(report: Report) -> str:
    """All lines of a finished report, without progress."""
    return begun(time=report.started_at, host=report.host) + "".join(results(report))


def begun(*, time: datetime, host: str) -> str:
    """The first line."""
    return line("start", host=host, schema=SCHEMA, time=time)


def results(report: Report) -> Iterator[str]:
    """The lines after the start and progress: findings, images, summary."""
    for found in report.findings:
        yield finding(found, host=report.host)
    for state in report.images:
        yield image(state, host=report.host)
    yield summary(report)


def progress(what: str, done: int, total: int, *, time: datetime, host: str) -> str:
    """Progress: `done` of `total`; a total of 0 is unknown."""
    return line("progress", host=host, time=time, what=what, done=done, total=total)


def finding(found: Finding, *, host: str, change: str | None = None) -> str:
    """One finding, with the fields that it has in the report; `change`: new, gone or unchanged since an older one."""
    extra = {"change": change} if change else {}
    return line("finding", host=host, **msgspec.structs.asdict(found), **extra)


def image(state: ImageState, *, host: str) -> str:
    """The verdict on one image; its tree is in the JSON report alone."""
    fields = {name: value for name, value in msgspec.structs.asdict(state).items() if name != "tree"}
    return line("image", host=host, **fields)


def summary(report: Report) -> str:
    """The last line: the counts, and whether the report is complete."""
    return line(
        "summary",
        time=report.finished_at,
        tool=report.tool,
        host=report.host,
        source=report.source,
        verify=report.verify,
        duration_seconds=report.duration_seconds,
        complete=report.complete,
        incomplete=report.incomplete,
        summary=report.summary,
        coverage=report.coverage,
        facts=report.facts,
    )


def line(kind: str, /, **fields: object) -> str:
    """An object of this type as a line with its newline."""
    return json_plain(_ENCODER.encode({"type": kind, **fields}).decode()) + "\n"
