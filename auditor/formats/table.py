"""The report as plain text for terminals, mail and journals: findings by image, the worst first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

import msgspec

from auditor.checks.rule import Rule
from auditor.formats.sanitize import plain, plural, size
from auditor.model.findings import BlobCounts, Finding, ImageRef, PlatformState, Report, Severity, Status, Verify

#: Most findings of one code listed per image; the rest is counted.
LISTED = 8
_NAME_WIDTH = 100
INCOMPLETE = "No problems found, but not everything could be checked."
_COLOURS = {Severity.CRITICAL: "1;31", Severity.ERROR: "31", Severity.WARNING: "33", Severity.INFO: "2"}


class Style(msgspec.Struct, frozen=True):
    """Layout: colour, whether to list info findings and images, width in columns."""

    colour: bool = False
    verbose: bool = False
    width: int = 100


def render(report: Report, *, advice: Mapping[str, Rule], style: Style) -> str:
    """The whole report, with a newline at its end."""
    lines = [_head(report)]
    lines += (f"note: {plain(why)}" for why in report.incomplete)
    shown = [f for f in report.findings if style.verbose or f.severity is not Severity.INFO]
    for title, findings in _sections(shown, whole="the archive" if report.source.kind == "archive" else "the store"):
        lines += ["", _paint(style, "1", title)]
        lines += _section(findings, advice, style)
    if style.verbose:
        lines += ["", *_images(report)]
    lines += ["", _verdict(report, style), *_coverage(report), counts(report)]
    return "\n".join(lines) + "\n"


def _head(report: Report) -> str:
    source = report.source
    version = f" {source.version}" if source.version else ""
    return plain(f"{source.kind}{version} at {source.address}, verification level {report.verify}")


def _verdict(report: Report, style: Style) -> str:
    worst = report.findings[0].severity if report.findings else Severity.INFO
    if worst is Severity.INFO:
        text, code = (_no_problems(report), "32") if report.complete else (INCOMPLETE, "33")
    else:
        damaged = report.summary.images.damaged
        text = f"{plural(damaged, 'image')} damaged" if damaged else "problems found; no image damaged"
        code = _COLOURS[worst]
    return _paint(style, code, text)


def _no_problems(report: Report) -> str:
    """The verdict on a complete report without findings over info: what was checked, and what was not."""
    blobs = report.summary.blobs
    if report.verify is Verify.SINCE_CRASH:
        return "No problems found in snapshots that were unpacked before a crash; nothing else was checked."
    if report.verify is Verify.PRESENCE:
        return "No problems found in metadata and sizes; contents not read (--verify digests reads them)."
    if report.verify is Verify.SNAPSHOTS_QUICK:
        return "No problems found in metadata, sizes and disk usage; contents not read (--verify snapshots reads them)."
    if blobs.verified < blobs.present:
        return f"No problems found; contents of {blobs.verified} of {plural(blobs.present, 'blob')} verified."
    return f"No problems found; contents of all {plural(blobs.present, 'blob')} verified."


def _coverage(report: Report) -> Iterator[str]:
    """How much of the store is verified, by this scrub and earlier ones."""
    known = report.coverage
    if known is None:
        return
    oldest = f", the oldest on {known.oldest_proof_at:%Y-%m-%d %H:%M} UTC" if known.oldest_proof_at else ""
    share = known.proven_bytes / known.bytes if known.bytes else 1.0
    yield f"verified: {known.proven_blobs} of {plural(known.blobs, 'blob')}, {share:.1%} of {size(known.bytes)}{oldest}"


def counts(report: Report) -> str:
    """The last line: all counts."""
    s = report.summary
    parts = [
        f"{plural(s.images.total, 'image')}: {s.images.sound} sound, {s.images.damaged} damaged",
        f"{plural(s.blobs.total, 'blob')}: {s.blobs.present} present ({size(s.bytes.present)}), {_blobs(s.blobs)}",
        "findings: " + ", ".join(f"{getattr(s.findings, severity)} {severity}" for severity in Severity),
        f"{report.duration_seconds:.2f} s",
    ]
    return " | ".join(parts)


def _blobs(blobs: BlobCounts) -> str:
    return f"{blobs.absent} absent, {blobs.verified} verified, {blobs.corrupt} corrupt"


def _sections(findings: Sequence[Finding], *, whole: str) -> Iterator[tuple[str, list[Finding]]]:
    """Findings by the first image that each affects; those that affect none are titled `whole`."""
    by: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in findings:
        first = finding.images[0] if finding.images else None
        key = (finding.namespace, first.name if first else "", first.target if first else "")
        by.setdefault(key, []).append(finding)
    for (namespace, name, _), found in by.items():
        where = f"namespace {plain(namespace, width=_NAME_WIDTH)}" if namespace else whole
        yield (f"{plain(name, width=_NAME_WIDTH)}  ({where})" if name else where), found


def _section(findings: Sequence[Finding], advice: Mapping[str, Rule], style: Style) -> Iterator[str]:
    for code, same in groupby(findings, key=lambda f: f.code):
        found = list(same)
        severity = found[0].severity
        yield f"  {_paint(style, _COLOURS[severity], severity.upper())} {code}" + _how_many(found)
        for finding in found[:LISTED]:
            yield from _finding(finding, style.width)
        if len(found) > LISTED:
            yield f"    and {len(found) - LISTED} more of the same; --format json lists all"
        known = advice.get(code)
        if known is not None:
            yield from _wrapped("    means: ", f"{known.means} {known.impact}", style.width)
        for hint in dict.fromkeys(finding.hint for finding in found[:LISTED] if finding.hint):
            yield f"    do:    {plain(hint)}"


def _how_many(found: Sequence[Finding]) -> str:
    return f" ({len(found)})" if len(found) > 1 else ""


def _finding(finding: Finding, width: int) -> Iterator[str]:
    yield from _wrapped("    - ", plain(finding.message, width=400), width)
    details = [finding.subject.id, *_facts(finding)]
    yield f"      {plain('  '.join(details), width=400)}"
    others = _others(finding.images)
    if others:
        yield f"      also affects: {plain(', '.join(others), width=300)}"


def _facts(finding: Finding) -> Iterator[str]:
    if "size" in finding.facts:
        yield size(int(finding.facts["size"] or 0))
    if finding.facts.get("namespaces"):
        yield f"namespaces {finding.facts['namespaces']}"
    if finding.cause:
        yield f"cause {finding.cause}"


def _others(images: Sequence[ImageRef]) -> list[str]:
    names = dict.fromkeys((image.namespace, image.name) for image in images)
    first = (images[0].namespace, images[0].name) if images else None
    return [name for namespace, name in names if (namespace, name) != first]


def _wrapped(label: str, text: str, width: int) -> Iterator[str]:
    indent = " " * len(label)
    line = label
    for word in text.split():
        if len(line) + len(word) > width and line.strip() and line != indent:
            yield line.rstrip()
            line = indent
        line += f"{word} "
    yield line.rstrip()


def _images(report: Report) -> Iterator[str]:
    yield "images:"
    for image in report.images:
        mark = {Status.SOUND: "sound  ", Status.DAMAGED: "DAMAGED", Status.UNKNOWN: "unknown"}[image.status]
        shown = ", ".join(_platforms(image.platforms)) or "no platform here"
        yield f"  {mark} {plain(image.namespace)} {plain(image.names[0], width=_NAME_WIDTH)}  {plain(shown)}"


def _platforms(states: Iterable[PlatformState]) -> Iterator[str]:
    for state in states:
        unpacked = [name for name, done in state.unpacked.items() if done]
        where = f" unpacked on {', '.join(unpacked)}" if unpacked else ""
        yield f"{state.platform or 'no platform'}{where}"


def _paint(style: Style, code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if style.colour else text
