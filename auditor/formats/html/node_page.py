"""The texts and numbers of the page of one node; the template only lays them out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from auditor.checks.rule import Rule
from auditor.formats.html import byte_totals, image_trees, layer_sharing
from auditor.formats.sanitize import plain, size
from auditor.model.findings import Finding, Report, Severity, SnapshotCounts, Subject, Verify
from auditor.model.plural import plural
from auditor.report.compare import Comparison
from auditor.report.fleet import walk

#: Most findings on a page; the rest is counted.
FINDINGS: Final = 1_500
STEPS: Final = 5
#: Images linked from a step, and from a finding.
STEP_IMAGES: Final = 12
ROW_IMAGES: Final = 4


class Verdict(msgspec.Struct, frozen=True):
    """The heading: a tone (bad, warn, good, unknown), two or three words, and a sentence."""

    tone: str
    words: str
    sentence: str


class Link(msgspec.Struct, frozen=True):
    """An image by its name, and the anchor of its row; no anchor if the report does not list it."""

    name: str
    anchor: str


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """A remedy: the rule, the reason, commands, and the number of findings that it applies to."""

    code: str
    severity: str
    count: int
    means: str
    matters: str
    hints: tuple[str, ...]
    more: int
    images: tuple[Link, ...]
    more_images: int


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A finding in the table."""

    severity: str
    rank: int
    code: str
    message: str
    kind: str
    subject: str
    namespace: str
    cause: str
    images: tuple[Link, ...]
    more: int
    change: str


class Normal(msgspec.Struct, frozen=True):
    """Findings of one rule of severity info."""

    code: str
    count: int
    means: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What changed since an older report."""

    since: str
    notes: tuple[str, ...]
    new: int
    gone: tuple[Row, ...]
    unchanged: int


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the page."""

    title: str
    host: str
    verdict: Verdict
    about: tuple[tuple[str, str], ...]
    incomplete: tuple[str, ...]
    numbers: tuple[tuple[str, str, str], ...]
    steps: tuple[Step, ...]
    stock: tuple[byte_totals.Share, ...]
    sharing: layer_sharing.Sharing | None
    rows: tuple[Row, ...]
    hidden_rows: int
    normal: tuple[Normal, ...]
    images: list[image_trees.Image]
    change: Change | None
    version: str


def page(report: Report, *, advice: Mapping[str, Rule], comparison: Comparison | None) -> Page:
    """Build the page."""
    told = [finding for finding in report.findings if finding.severity is not Severity.INFO]
    new = {finding.key for finding in comparison.new} if comparison is not None else None
    judged = verdict(report)
    nodes = [walk(image.tree) for image in report.images]
    images = image_trees.images(report, nodes)
    anchors = {image.key: image.anchor for image in images}
    return Page(
        title=f"{judged.words} - {plain(report.host, width=60)}",
        host=plain(report.host, width=120),
        verdict=judged,
        about=tuple(_about(report)),
        incomplete=tuple(plain(why, width=400) for why in report.incomplete[:50]),
        numbers=tuple(_numbers(report)),
        steps=tuple(_steps(told, advice, anchors)),
        stock=byte_totals.take(report, nodes),
        sharing=layer_sharing.draw(report, nodes),
        rows=tuple(_row(finding, new, anchors) for finding in told[:FINDINGS]),
        hidden_rows=max(0, len(told) - FINDINGS),
        normal=tuple(_normal(report, advice)),
        images=images,
        change=_change(comparison) if comparison is not None else None,
        version=plain(f"{report.tool.name} {report.tool.version}", width=60),
    )


def verdict(report: Report) -> Verdict:
    """The verdict on the node."""
    images, found = report.summary.images, report.summary.findings
    checked = f"{plural(images.total, 'image')} checked"
    if images.damaged:
        words = f"{plural(images.damaged, 'image')} damaged"
        by = f", by {_found(report)}" if found.critical or found.error or found.warning else ""
        return Verdict("bad", words, f"out of {images.total}{by}")
    if found.critical or found.error:
        return Verdict("bad", "Damage found", f"{_found(report)}; {checked}")
    if not report.complete:
        return Verdict("unknown", "Not fully checked", f"no problems in what could be checked; {checked}")
    if found.warning:
        return Verdict("warn", "Warnings", f"{_found(report)}; {checked}, none damaged")
    unread = f". Not read: {_unread(report)}" if _unread(report) else ""
    return Verdict("good", "No problems found", f"{checked}: {_level(report)}{unread}.")


def _found(report: Report) -> str:
    found = report.summary.findings
    counts = (("critical", found.critical), ("error", found.error), ("warning", found.warning))
    told = [f"{number} {name}" for name, number in counts if number]
    total = sum(number for _, number in counts)
    return " and ".join(filter(None, (", ".join(told[:-1]), told[-1]))) + (" finding" if total == 1 else " findings")


def _level(report: Report) -> str:
    return {
        Verify.SINCE_CRASH: "snapshots that were unpacked before a crash; nothing else",
        Verify.PRESENCE: "metadata and sizes; contents not read",
        Verify.SNAPSHOTS_QUICK: "metadata, sizes and disk usage of unpacked files; contents not read",
        Verify.DIGESTS: "metadata, sizes and contents",
        Verify.LAYERS: "metadata, sizes, contents and decompressed layers",
        Verify.SNAPSHOTS: "metadata, sizes, contents, decompressed layers and unpacked files",
    }[report.verify]


def _unread(report: Report) -> str:
    """What a check of this level does not read; empty if it reads everything."""
    if report.verify is Verify.PRESENCE:
        return "contents of blobs, unpacked files"
    if report.verify is Verify.SNAPSHOTS_QUICK:
        return "contents of blobs, contents of unpacked files"
    blobs = report.summary.blobs
    unread = blobs.present - blobs.verified - blobs.corrupt
    parts = [f"{unread} of {plural(blobs.present, 'blob')}"] * (unread > 0)
    parts += ["layers as they decompress"] * (report.verify is Verify.DIGESTS)
    parts += ["unpacked files"] * (report.verify is not Verify.SNAPSHOTS and report.source.kind != "archive")
    return ", ".join(parts)


def _about(report: Report) -> Iterator[tuple[str, str]]:
    source = report.source
    yield "store", plain(f"{source.kind} {source.version}", width=80)
    yield "address", plain(source.address, width=200)
    yield "checked", _level(report)
    if _unread(report):
        yield "not read", _unread(report)
    yield "finished", f"{report.finished_at:%Y-%m-%d %H:%M:%S} UTC"
    yield "took", f"{report.duration_seconds:.1f} s"


def _numbers(report: Report) -> Iterator[tuple[str, str, str]]:
    s = report.summary
    unknown = s.images.total - s.images.sound - s.images.damaged
    yield "images", str(s.images.total), f"{s.images.sound} sound" + (f", {unknown} unknown" if unknown else "")
    yield "blobs", str(s.blobs.total), f"{s.blobs.absent} absent, {s.blobs.corrupt} corrupt"
    yield "present", size(s.bytes.present), f"{size(s.bytes.read)} read"
    yield "verified", str(s.blobs.verified), f"of {s.blobs.present} present blobs"
    yield "snapshots", str(s.snapshots.total), _snapshots(s.snapshots)


def _snapshots(counts: SnapshotCounts) -> str:
    """What is known of the snapshots' files."""
    if counts.damaged:
        return f"{counts.damaged} with damaged files"
    return f"files of {counts.compared} compared" if counts.compared else "in all snapshotters"


#: The anchor of each image's row, by namespace and target.
_Anchors = Mapping[tuple[str, str], str]


def _links(found: Sequence[Finding], anchors: _Anchors) -> tuple[Link, ...]:
    """The images of some findings, each once."""
    refs = {(image.namespace, image.target or image.name): image for finding in found for image in finding.images}
    return tuple(Link(plain(image.name, width=140), anchors.get(key, "")) for key, image in refs.items())


def _steps(told: Sequence[Finding], advice: Mapping[str, Rule], anchors: _Anchors) -> Iterator[Step]:
    """The remedies, the worst rule first; one per rule."""
    by: dict[str, list[Finding]] = {}
    for finding in told:
        by.setdefault(finding.code, []).append(finding)
    for code, found in list(by.items())[:STEPS]:
        known = advice.get(code)
        images = _links(found, anchors)
        hints = tuple(dict.fromkeys(plain(finding.hint, width=400) for finding in found if finding.hint))
        yield Step(
            code=plain(code, width=60),
            severity=str(found[0].severity),
            count=len(found),
            means=known.means if known else "",
            matters=known.impact if known else "",
            hints=hints[:3],
            more=max(0, len(hints) - 3),
            images=images[:STEP_IMAGES],
            more_images=max(0, len(images) - STEP_IMAGES),
        )


def _row(finding: Finding, new: set[tuple[str, str, Subject]] | None, anchors: _Anchors) -> Row:
    images = _links([finding], anchors)
    return Row(
        severity=str(finding.severity),
        rank=finding.severity.rank,
        code=plain(finding.code, width=60),
        message=plain(finding.message, width=500),
        kind=plain(finding.subject.kind, width=40),
        subject=plain(finding.subject.id, width=160),
        namespace=plain(finding.namespace, width=60),
        cause=plain(finding.cause or "", width=80),
        images=images[:ROW_IMAGES],
        more=max(0, len(images) - ROW_IMAGES),
        change="" if new is None else "new" if finding.key in new else "known",
    )


def _normal(report: Report, advice: Mapping[str, Rule]) -> Iterator[Normal]:
    counts = Counter(finding.code for finding in report.findings if finding.severity is Severity.INFO)
    for code, number in counts.most_common():
        known = advice.get(code)
        yield Normal(plain(code, width=60), number, known.means if known else "")


def _change(comparison: Comparison) -> Change:
    def over_info(found: Sequence[Finding]) -> list[Finding]:
        return [finding for finding in found if finding.severity is not Severity.INFO]

    return Change(
        since=f"{comparison.older_at:%Y-%m-%d %H:%M} UTC" if comparison.older_at else "",
        notes=tuple(plain(note, width=300) for note in comparison.notes),
        new=len(over_info(comparison.new)),
        gone=tuple(_row(finding, None, {}) for finding in over_info(comparison.gone)[:FINDINGS]),
        unchanged=len(over_info(comparison.unchanged)),
    )
