"""The report as GitHub's Markdown, for an issue, a chat or a job summary.

Text from the store is escaped. Names are code spans: Markdown, HTML, mentions and links have no effect there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from auditor.formats.sanitize import plain, size
from auditor.model.command_line import is_command
from auditor.model.findings import Finding, ImageRef, Report, Severity, Status
from auditor.model.plural import plural

#: Most findings of one code listed; the rest is counted.
LISTED = 20
#: Most images listed; the rest is counted.
IMAGES = 50
_MARK = {Severity.CRITICAL: "🔴", Severity.ERROR: "🟠", Severity.WARNING: "🟡", Severity.INFO: "⚪"}
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&@#$^]|:(?=//)|(?<=www)\.|^[-+=\d])", re.IGNORECASE)
_TICKS = re.compile(r"`+")


def render(report: Report) -> str:
    """The whole report, ending with a newline."""
    lines = [f"## containerd on {code(report.host)}: {verdict(report)}", "", *_head(report), ""]
    lines += list(_incomplete(report))
    shown = [finding for finding in report.findings if finding.severity is not Severity.INFO]
    for key, same in groupby(shown, key=lambda f: (f.severity, f.code)):
        lines += [*_section(*key, list(same)), ""]
    lines += _damaged(report)
    info = report.summary.findings.info
    if info:
        lines += [f"{plural(info, 'finding')} of severity info not listed.", ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def verdict(report: Report) -> str:
    """A few words for the heading."""
    if report.summary.images.damaged:
        return f"{plural(report.summary.images.damaged, 'image')} damaged"
    if any(finding.severity is not Severity.INFO for finding in report.findings):
        return "problems found"
    return "no problems found" if report.complete else "not everything could be checked"


def code(text: str, *, width: int = 200) -> str:
    """A code span with a fence longer than any run of backticks in the text; `|` is escaped for tables."""
    shown = plain(text, width=width).replace("|", "\\|") or " "
    fence = "`" * (max((len(run) for run in _TICKS.findall(shown)), default=0) + 1)
    pad = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def escape(text: str, *, width: int = 600) -> str:
    """Text with the special characters of Markdown and HTML escaped."""
    return _SPECIAL.sub(lambda match: f"&#{ord(match[1])};", plain(text, width=width))


def sentence(finding: Finding) -> str:
    """The finding's message, with the names in it as code."""
    names = sorted({image.name for image in finding.images if image.name and image.name in finding.message}, key=len)
    if not names:
        return escape(finding.message)
    before, _, after = finding.message.partition(names[-1])
    return f"{escape(before, width=300)}{code(names[-1], width=120)}{escape(after, width=400)}"


def _head(report: Report) -> Iterator[str]:
    s = report.summary
    yield (
        f"Checked {code(report.source.address)} at level {code(report.verify)} on "
        f"{report.finished_at:%Y-%m-%d %H:%M} UTC, {report.duration_seconds:.1f} s."
    )
    yield ""
    yield "| images | sound | damaged | blobs | absent | verified | corrupt | bytes |"
    yield "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
    cells = (s.images.total, s.images.sound, s.images.damaged, s.blobs.total, s.blobs.absent, s.blobs.verified)
    yield "| " + " | ".join(map(str, (*cells, s.blobs.corrupt, size(s.bytes.present)))) + " |"


def _incomplete(report: Report) -> Iterator[str]:
    if not report.complete:
        yield "**Not everything could be checked:**"
        yield ""
        yield from (f"* {escape(why)}" for why in report.incomplete[:LISTED])
        yield ""


def _section(severity: Severity, name: str, found: Sequence[Finding]) -> Iterator[str]:
    yield f"### {_MARK[severity]} {severity}: {code(name)} ({len(found)})"
    yield ""
    for finding in found[:LISTED]:
        yield from _finding(finding)
    if len(found) > LISTED:
        yield f"* and {len(found) - LISTED} more; the JSON report lists all"
    hints = list(dict.fromkeys(finding.hint for finding in found[:LISTED] if finding.hint))
    yield ""
    yield from (f"Do: {code(hint, width=300) if is_command(hint) else escape(hint)}  " for hint in hints[:5])


def _finding(finding: Finding) -> Iterator[str]:
    yield f"* {sentence(finding)}  "
    cause = f", cause {code(finding.cause)}" if finding.cause else ""
    yield f"  {escape(finding.subject.kind)} {code(finding.subject.id)}{cause}{_others(finding.images)}"


def _others(images: Sequence[ImageRef]) -> str:
    names = list(dict.fromkeys(image.name for image in images))[1:]
    listed = ", ".join(code(name, width=100) for name in names[:5])
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""  # noqa: PLR2004
    return f"; also affects {listed}{more}" if names else ""


def _damaged(report: Report) -> list[str]:
    bad = [image for image in report.images if image.status is not Status.SOUND]
    if not bad:
        return []
    lines = ["| image | namespace | verdict |", "| --- | --- | --- |"]
    for image in bad[:IMAGES]:
        name = image.names[0] if image.names else image.target
        lines.append(f"| {code(name, width=120)} | {code(image.namespace, width=60)} | {image.status} |")
    return [*lines, *([f"\nand {len(bad) - IMAGES} more"] if len(bad) > IMAGES else []), ""]
