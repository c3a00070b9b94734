"""The report as metrics for node_exporter's textfile collector or a scrape: gauges in base units, no timestamps.

Digests and image names are never labels: their number is unbounded. `command` and `store` are labels, because
node_exporter rejects two files of a node with the same series.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import UNSET
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from auditor.formats.sanitize import plain
from auditor.model.findings import Report, Severity

PREFIX: Final = "containerd_auditor_"
#: HELP must be the same in every file of a node.
_HELP: Final[Mapping[str, str]] = {
    "build_info": "The version of the auditor; always 1.",
    "last_run_timestamp_seconds": "Time at which the last run ended, with or without success.",
    "last_success_timestamp_seconds": "Time at which the last complete run ended.",
    "last_run_duration_seconds": "Duration of the last run.",
    "last_run_complete": "1 if the last run could check everything, else 0.",
    "last_run_exit_status": "0 no findings, 1 findings, 2 invalid usage, 3 not everything could be checked.",
    "images": "Images by verdict.",
    "blobs": "Blobs by state; unproven: present, contents not read by this run.",
    "present_bytes": "Bytes recorded as present.",
    "read_bytes": "Bytes read by the last run.",
    "snapshots": "Snapshots of all snapshotters checked.",
    "compared_snapshots": "Snapshots whose files were compared with their layer, by this run or an earlier scrub.",
    "damaged_snapshots": "Snapshots with missing, empty or damaged files, or lost whiteouts.",
    "findings": "Findings by rule and severity.",
    "scrub_blobs": "Blobs in the scope of the scrub.",
    "scrub_bytes": "Bytes in the scope of the scrub.",
    "scrub_proven_blobs": "Blobs verified by this scrub or an earlier one.",
    "scrub_proven_bytes": "Bytes verified by this scrub or an earlier one.",
    "scrub_bad_blobs": "Blobs that were damaged when last read.",
    "scrub_snapshots": "Snapshots in the scope of the scrub.",
    "scrub_compared_snapshots": "Snapshots without a difference from their layer when last compared.",
    "oldest_comparison_timestamp_seconds": "Time of the oldest comparison of a snapshot that still counts.",
    "oldest_proof_timestamp_seconds": "Time of the oldest verification that still counts.",
    "oldest_proof_age_seconds": "Age of the oldest verification when the last run ended.",
}
_ABOUT_THE_RUN: Final = ("last_run_timestamp_seconds", "last_run_complete", "last_run_exit_status")
_CODE: Final = re.compile(r"[a-z][a-z0-9-]{0,63}", re.ASCII)

Labels = Mapping[str, str]
_Sample = tuple[str, Labels, float]


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A report and what its metrics need besides.

    `last_success` is the time of an earlier complete run, in seconds since 1970, or None. `node` is a label in the view
    of several nodes only; in a node's own file the scraper adds it.
    """

    report: Report
    exit_status: int
    command: str = "check"
    last_success: float | None = None
    node: str = ""


def render(runs: Sequence[Run], *, codes: Mapping[str, Severity]) -> str:
    """The metrics of each run; every rule in `codes` has a series, 0 without findings."""
    return _text(sample for run in runs for sample in _run(run, codes))


def labels(*, command: str, kind: str, address: str) -> dict[str, str]:
    """The labels that distinguish audits on one node; all archives share one `store`."""
    return {"command": command, "store": plain(address, width=200) if kind != "archive" else "archive"}


def last_success(text: str, *, mine: Labels) -> float | None:
    """The time of the last success in an earlier file; None if it has none or is not a metrics file of auditor."""
    wanted = "last_success_timestamp_seconds"
    return next((value for name, found, value in _parse(text) if name == wanted and found == mine), None)


def failed(text: str, *, command: str, address: str, at: float, exit_status: int) -> str:
    """The metrics after a run without a report: findings of the earlier file, status of this run.

    Otherwise the metrics of a node whose daemon is gone would keep their last status, or disappear and end its alerts.
    The `store` label is `address`; if the earlier file has no such store, all of its stores failed.
    """
    about = dict(zip(_ABOUT_THE_RUN, (at, 0.0, float(exit_status)), strict=True))
    earlier = [sample for sample in _parse(text) if sample[1].get("command") == command]
    own = labels(command=command, kind="containerd", address=address)
    found = [found for name, found, _ in earlier if name == _ABOUT_THE_RUN[0]]
    mine = [own] if own in found or not found else found
    kept = [sample for sample in earlier if sample[0] not in about or sample[1] not in mine]
    return _text([*kept, *((name, each, value) for each in mine for name, value in about.items())])


def with_failed(text: str, earlier: str, *, command: str, addresses: Sequence[str], at: float, exit_status: int) -> str:
    """Add the daemons that could not be checked to the metrics of those that could.

    Args:
        text: The metrics of this run.
        earlier: The file that they replace.
        command: The command of this run.
        addresses: The daemons to add, each with its findings of the earlier file and the status of this run.
        at: When this run failed, in seconds since 1970.
        exit_status: Its exit status.

    """
    about = dict(zip(_ABOUT_THE_RUN, (at, 0.0, float(exit_status)), strict=True))
    added: list[_Sample] = []
    for address in addresses:
        mine = labels(command=command, kind="containerd", address=address)
        added += [s for s in _parse(earlier) if mine.items() <= s[1].items() and s[0] not in about]
        added += [(name, mine, value) for name, value in about.items()]
    return _text([*_parse(text), *added]) if added else text


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
    yield "compared_snapshots", base, report.summary.snapshots.compared
    yield "damaged_snapshots", base, report.summary.snapshots.damaged


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
    if scrub.snapshots is not UNSET and scrub.compared_snapshots is not UNSET:
        yield "scrub_snapshots", base, scrub.snapshots
        yield "scrub_compared_snapshots", base, scrub.compared_snapshots
    if scrub.oldest_comparison_at is not UNSET:
        yield "oldest_comparison_timestamp_seconds", base, scrub.oldest_comparison_at.timestamp()
    if scrub.oldest_proof_at is not None:
        yield "oldest_proof_timestamp_seconds", base, scrub.oldest_proof_at.timestamp()
        age = (report.finished_at - scrub.oldest_proof_at).total_seconds()
        yield "oldest_proof_age_seconds", base, max(0.0, age)


class _Collected:
    """Samples as a collector for prometheus_client's text renderer."""

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
    """The samples of a metrics file of auditor; none if it is damaged or another program's."""
    try:
        families = list(text_string_to_metric_families(text))
    except (ValueError, KeyError, IndexError):
        return []
    samples = ((s.name.removeprefix(PREFIX), s.labels, float(s.value)) for family in families for s in family.samples)
    return [sample for sample in samples if sample[0] in _HELP]
