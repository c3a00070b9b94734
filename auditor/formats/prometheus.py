"""The report as metrics for node_exporter's textfile collector, or to be scraped: gauges in base units, no timestamps.

No digest and no image name is ever a label: both are without bound. `command` and `store` are, for node_exporter
rejects two files of one node that hold the same series.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from auditor.formats.sanitize import plain
from auditor.model.findings import Report, Severity

PREFIX: Final = "containerd_auditor_"
#: HELP must be the same in every file of a node, so each stands here once.
_HELP: Final[Mapping[str, str]] = {
    "build_info": "The version of the auditor; always 1.",
    "last_run_timestamp_seconds": "When the last run ended, however it ended.",
    "last_success_timestamp_seconds": "When the last run ended that could examine all it was asked to examine.",
    "last_run_duration_seconds": "How long the last run took.",
    "last_run_complete": "Whether the last run could examine all it was asked to examine.",
    "last_run_exit_status": "0 sound, 1 findings, 2 wrong usage, 3 not all could be audited.",
    "images": "Images by verdict.",
    "blobs": "Blobs by state; unproven ones are there and were not read to their end by this run.",
    "present_bytes": "Bytes recorded as present.",
    "read_bytes": "Bytes read by the last run.",
    "snapshots": "Snapshots of all snapshotters looked at.",
    "findings": "Findings by rule and severity.",
    "scrub_blobs": "Blobs that the scrub is to keep proven.",
    "scrub_bytes": "Bytes that the scrub is to keep proven.",
    "scrub_proven_blobs": "Blobs whose bytes were proven by this scrub or one before it.",
    "scrub_proven_bytes": "Bytes that were proven by this scrub or one before it.",
    "scrub_bad_blobs": "Blobs whose last reading found them bad.",
    "oldest_proof_timestamp_seconds": "When the bytes were proven whose proof is the oldest.",
    "oldest_proof_age_seconds": "How old the oldest proof was when the last run ended.",
}
_ABOUT_THE_RUN: Final = ("last_run_timestamp_seconds", "last_run_complete", "last_run_exit_status")
_CODE: Final = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)

Labels = Mapping[str, str]
_Sample = tuple[str, Labels, float]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A report with what it does not say itself; `last_success` in seconds since 1970, of an earlier run or None.

    `node` is for the view of several nodes; one node's own file leaves it to the scraper.
    """

    report: Report
    exit_status: int
    command: str = "check"
    last_success: float | None = None
    node: str = ""


def render(runs: Sequence[Run], *, codes: Mapping[str, Severity]) -> str:
    """The metrics of each run; `codes` are the rules, so that one that finds nothing says 0."""
    return _text(sample for run in runs for sample in _run(run, codes))


def labels(*, command: str, kind: str, address: str) -> dict[str, str]:
    """What tells the series of one audit from those of another on the same node; archives are all one store."""
    return {"command": command, "store": plain(address, width=200) if kind != "archive" else "archive"}


def last_success(text: str, *, mine: Labels) -> float | None:
    """When an earlier file says that a run last succeeded; None where there is none, or it is no file of ours."""
    wanted = "last_success_timestamp_seconds"
    return next((value for name, found, value in _parse(text) if name == wanted and found == mine), None)


def failed(text: str, *, command: str, address: str, at: float, exit_status: int) -> str:
    """The earlier file after a run that has no report: what was found stays known, the run itself is the new one.

    Without this, a node whose daemon is gone would look as sound as it last was, or its alerts would end. The store is
    the earlier file's; `address` names it where there was none.
    """
    about = dict(zip(_ABOUT_THE_RUN, (at, 0.0, float(exit_status)), strict=True))
    earlier = [sample for sample in _parse(text) if sample[1].get("command") == command]
    found = next((sample[1] for sample in earlier if sample[0] in about), None)
    mine = dict(found or labels(command=command, kind="containerd", address=address))
    kept = [sample for sample in earlier if sample[0] not in about]
    return _text([*kept, *((name, mine, value) for name, value in about.items())])


def _run(run: Run, codes: Mapping[str, Severity]) -> Iterator[_Sample]:
    report = run.report
    base = labels(command=run.command, kind=report.source.kind, address=report.source.address)
    if run.node:
        base["node"] = plain(run.node, width=200)
    ended = report.finished_at.timestamp()
    success = ended if report.complete else run.last_success
    yield "build_info", {**base, "version": plain(report.tool.version, width=60)}, 1
    yield "last_run_timestamp_seconds", base, ended
    if success is not None:
        yield "last_success_timestamp_seconds", base, success
    yield "last_run_duration_seconds", base, report.duration_seconds
    yield "last_run_complete", base, report.complete
    yield "last_run_exit_status", base, run.exit_status
    yield from _store(report, base)
    yield from _findings(report, base, codes)
    yield from _coverage(report, base)


def _store(report: Report, base: Labels) -> Iterator[_Sample]:
    images, blobs = report.summary.images, report.summary.blobs
    states = {"sound": images.sound, "damaged": images.damaged, "unknown": images.total - images.sound - images.damaged}
    for state, number in states.items():
        yield "images", {**base, "state": state}, number
    unproven = max(0, blobs.present - blobs.verified - blobs.corrupt - blobs.unreadable)
    for state, number in (
        ("verified", blobs.verified),
        ("unproven", unproven),
        ("corrupt", blobs.corrupt),
        ("unreadable", blobs.unreadable),
        ("absent", blobs.absent),
    ):
        yield "blobs", {**base, "state": state}, number
    yield "present_bytes", base, report.summary.bytes.present
    yield "read_bytes", base, report.summary.bytes.read
    yield "snapshots", base, report.summary.snapshots.total


def _findings(report: Report, base: Labels, codes: Mapping[str, Severity]) -> Iterator[_Sample]:
    found = {(str(severity), code): 0 for code, severity in codes.items()}
    for finding in report.findings:
        code = finding.code if _CODE.fullmatch(finding.code) else "other"
        found[str(finding.severity), code] = found.get((str(finding.severity), code), 0) + 1
    for (severity, code), number in sorted(found.items()):
        yield "findings", {**base, "severity": severity, "code": code}, number


def _coverage(report: Report, base: Labels) -> Iterator[_Sample]:
    scrub = report.coverage
    if scrub is None:
        return
    yield "scrub_blobs", base, scrub.blobs
    yield "scrub_bytes", base, scrub.bytes
    yield "scrub_proven_blobs", base, scrub.proven_blobs
    yield "scrub_proven_bytes", base, scrub.proven_bytes
    yield "scrub_bad_blobs", base, scrub.known_bad
    if scrub.oldest_proof_at is not None:
        yield "oldest_proof_timestamp_seconds", base, scrub.oldest_proof_at.timestamp()
        age = (report.finished_at - scrub.oldest_proof_at).total_seconds()
        yield "oldest_proof_age_seconds", base, max(0.0, age)


class _Collected:
    """Samples as a collector, for prometheus_client's own text renderer."""

    def __init__(self, samples: Iterable[_Sample]) -> None:
        self._by: dict[str, list[tuple[Labels, float]]] = {name: [] for name in _HELP}
        for name, found, value in samples:
            self._by[name].append((found, value))

    def collect(self) -> Iterator[Metric]:
        for name, samples in self._by.items():
            if samples:
                metric = Metric(PREFIX + name, _HELP[name], "gauge")
                for found, value in samples:
                    metric.add_sample(PREFIX + name, dict(found), value)
                yield metric


def _text(samples: Iterable[_Sample]) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(samples))
    return generate_latest(registry).decode()


def _parse(text: str) -> list[_Sample]:
    """The samples of a file of ours; none where it is damaged or somebody else's."""
    try:
        families = list(text_string_to_metric_families(text))
    except (ValueError, KeyError, IndexError):
        return []
    samples = ((s.name.removeprefix(PREFIX), s.labels, float(s.value)) for family in families for s in family.samples)
    return [sample for sample in samples if sample[0] in _HELP]
