"""The report as plain text for terminals, mail and journals: the verdict, the findings by rule, the counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby

import msgspec
from msgspec import UNSET

from auditor.checks.rule import Rule
from auditor.formats.readiness import serve_lines, unpack_lines
from auditor.formats.sanitize import plain, shorten, size
from auditor.model.command_line import is_command
from auditor.model.findings import (
    BlobCounts,
    Fact,
    Finding,
    ImageCounts,
    ImageRef,
    PlatformState,
    Report,
    Severity,
    Status,
    Verify,
)
from auditor.model.plural import plural

#: Findings of one rule that are listed; the first with its details, the others on a line each.
LISTED = 5
#: Lines after which a rule has one finding and no meaning, and after which it has its title only.
ENOUGH = 90
MOST = 150
#: Remedies listed for one rule, and reasons why not everything could be checked.
REMEDIES = 3
REASONS = 10
_NAME_WIDTH = 100
INCOMPLETE = "No problems found, but not everything could be checked."
_COLOURS = {Severity.CRITICAL: "1;31", Severity.ERROR: "31", Severity.WARNING: "33", Severity.INFO: "2"}
#: A word of a shell command, with its quoted parts.
_WORD = r"""(?:[^\s'"]|'[^']*'|"(?:[^"\\]|\\.)*")+|['"]"""


class Style(msgspec.Struct, frozen=True):
    """Layout: colour, whether to list info findings and images, width in columns, whether to list every finding."""

    colour: bool = False
    verbose: bool = False
    width: int = 100
    complete: bool = False

    @property
    def all(self) -> bool:
        """Whether every finding is listed with its details."""
        return self.complete or self.verbose


def render(report: Report, *, advice: Mapping[str, Rule], style: Style) -> str:
    """The whole report, with a newline at its end."""
    lines = [_verdict(report, style), *wrapped("", _head(report), style.width), *_notes(report, style)]
    shown = [f for f in report.findings if style.verbose or f.severity is not Severity.INFO]
    left = 0
    for _, group in groupby(shown, key=lambda f: (f.severity, f.code)):
        every = list(group)
        found = folded(every)
        most = len(found) if style.all else LISTED if len(lines) < ENOUGH else int(len(lines) < MOST)
        rule = advice.get(every[0].code)
        lines += ["", *_rule(every, found, rule, style, most=most)] if most else [_title(every, style)]
        left += max(0, len(found) - most)
    if left:
        lines += ["", f"and {plural(left, 'more finding')}; --output FILE has all"]
    if style.verbose:
        lines += ["", *_images(report)]
    lines += ["", *_coverage(report), *_readiness(report, style), *_counts(report, style.width)]
    return "\n".join(lines) + "\n"


def _head(report: Report) -> str:
    source = report.source
    version = f" {source.version}" if source.version else ""
    return plain(f"{source.kind}{version} at {source.address}, verification level {report.verify}")


def _notes(report: Report, style: Style) -> Iterator[str]:
    shown = report.incomplete if style.all else report.incomplete[:REASONS]
    for why in shown:
        yield from wrapped("note: ", plain(why), style.width)
    if len(shown) < len(report.incomplete):
        yield f"note: and {plural(len(report.incomplete) - len(shown), 'more reason')}; --output FILE has all"


def _verdict(report: Report, style: Style) -> str:
    worst = report.findings[0].severity if report.findings else Severity.INFO
    if worst is Severity.INFO:
        text, code = (_no_problems(report), "32") if report.complete else (INCOMPLETE, "33")
    else:
        damaged = report.summary.images.damaged
        text = f"{plural(damaged, 'image')} damaged" if damaged else "problems found; no image damaged"
        code = _COLOURS[worst]
    return "\n".join(_paint(style, code, line) for line in wrapped("", text, style.width))


def _no_problems(report: Report) -> str:
    """The verdict on a complete report without findings over info: what was checked, and what was not."""
    blobs = report.summary.blobs
    if report.verify is Verify.SINCE_CRASH:
        return "No problems found in snapshots that were unpacked before a crash; nothing else was checked."
    if not (blobs.total or report.summary.images.total):
        return "Nothing to check: the store has no image and no blob."
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
    if known.snapshots is not UNSET and known.compared_snapshots is not UNSET:
        first = known.oldest_comparison_at
        oldest = f", the oldest on {first:%Y-%m-%d %H:%M} UTC" if first is not UNSET else ""
        yield f"unpacked files intact: {known.compared_snapshots} of {plural(known.snapshots, 'snapshot')}{oldest}"


def _readiness(report: Report, style: Style) -> Iterator[str]:
    """What the node could serve or unpack, where that was asked for."""
    if report.can_serve is not UNSET:
        yield from serve_lines(report.can_serve, verbose=style.all)
    if report.can_unpack is not UNSET:
        yield from unpack_lines(report.can_unpack, verbose=style.all)


def counts(report: Report) -> str:
    """All counts on one line."""
    return " | ".join(_parts(report))


def _counts(report: Report, width: int) -> Iterator[str]:
    """All counts, on as many lines as the width asks for."""
    line = ""
    for part in _parts(report):
        if line and len(line) + len(part) + 3 > width:
            yield line
            line = ""
        line = f"{line} | {part}" if line else part
    yield line


def _parts(report: Report) -> list[str]:
    s = report.summary
    return [
        f"{plural(s.images.total, 'image')}: {s.images.sound} sound, {s.images.damaged} damaged{_unknown(s.images)}",
        f"{plural(s.blobs.total, 'blob')}: {s.blobs.present} present ({size(s.bytes.present)}), {_blobs(s.blobs)}",
        "findings: " + ", ".join(f"{getattr(s.findings, severity)} {severity}" for severity in Severity),
        f"{report.duration_seconds:.2f} s",
    ]


def _unknown(images: ImageCounts) -> str:
    unknown = images.total - images.sound - images.damaged
    return f", {unknown} unknown" if unknown else ""


def _blobs(blobs: BlobCounts) -> str:
    return f"{blobs.absent} absent, {blobs.verified} verified, {blobs.corrupt} corrupt"


def _rule(
    every: Sequence[Finding], found: Sequence[Finding], known: Rule | None, style: Style, *, most: int
) -> Iterator[str]:
    """The first findings of a rule, what they mean, and what to do; a single one of them on one line.

    `every` has the findings before they were folded.
    """
    yield _title(every, style)
    brief = most == 1 and not style.all
    for number, finding in enumerate(found[:most]):
        if brief or (number and not style.all):
            yield shorten(f"  - {_place(finding, found[0])}", style.width)
        else:
            yield from _finding(finding, style)
    if most < len(found) and not brief:
        yield f"    and {len(found) - most} more of this rule"
    if known is not None and not brief:
        yield from wrapped("    means: ", f"{known.means} {known.impact}", style.width)
    yield from _remedies(every, style, most=1 if brief else REMEDIES)


def _title(found: Sequence[Finding], style: Style) -> str:
    severity = found[0].severity
    images = len({(image.namespace, image.target or image.name) for finding in found for image in finding.images})
    number = f" ({plural(len(found), 'finding')} in {plural(images, 'image')})" if len(found) > 1 else ""
    return f"{_paint(style, _COLOURS[severity], severity.upper())} {plain(found[0].code, width=_NAME_WIDTH)}{number}"


def _remedies(found: Sequence[Finding], style: Style, *, most: int) -> Iterator[str]:
    hints = list(dict.fromkeys(plain(finding.hint) for finding in found if finding.hint))
    shown = hints if style.all else hints[:most]
    for hint in shown:
        lines = _command if is_command(hint) else wrapped
        yield from lines("    do:    ", hint, style.width)
    if most > 1 and len(shown) < len(hints):
        yield f"           and {plural(len(hints) - len(shown), 'more command')} like this"


def _finding(finding: Finding, style: Style) -> Iterator[str]:
    yield from wrapped("  - ", plain(finding.message, width=400), style.width)
    yield f"    {plain(finding.subject.id, width=400 if style.all else style.width - 4)}"
    yield from wrapped("    ", plain(", ".join(_facts(finding)), width=400), style.width)
    others = _others(finding.images)
    if others:
        yield from wrapped("    also affects: ", plain(", ".join(others), width=300), style.width)


def _place(finding: Finding, first: Finding) -> str:
    """The object of a finding on one line; its namespace if it is not that of the first."""
    image = finding.images[0] if finding.images else None
    where = f" in {finding.namespace}" if finding.namespace and finding.namespace != first.namespace else ""
    short = finding.subject.id[: len("sha256:") + 12] if finding.subject.digest else finding.subject.name
    if image is None:
        return plain(f"{finding.subject.kind} {short}{where}", width=_NAME_WIDTH)
    part = image.role if image.layer is None else f"{image.role} {image.layer + 1}"
    platform = f" ({image.platform})" if image.platform else ""
    return f"{plain(f'{part} of {image.name}{platform}{where}', width=_NAME_WIDTH)}  {plain(short)}"


def _facts(finding: Finding) -> Iterator[str]:
    if finding.namespace:
        yield f"namespace {finding.namespace}"
    if isinstance(number := finding.facts.get("size"), int):
        yield size(number)
    if finding.facts.get("namespaces"):
        yield f"namespaces {finding.facts['namespaces']}"
    if finding.cause:
        yield f"cause {finding.cause}"
    if finding.facts.get("containers"):
        yield f"containers {finding.facts['containers']}"


def folded(findings: Iterable[Finding]) -> list[Finding]:
    """Findings of one rule; those about one snapshot in several namespaces are one, with all images and containers."""
    by: dict[object, list[Finding]] = {}
    for number, finding in enumerate(findings):
        by.setdefault(finding.subject if finding.subject.kind == "snapshot" else number, []).append(finding)
    return [_joined(same) if len(same) > 1 else same[0] for same in by.values()]


def _joined(same: Sequence[Finding]) -> Finding:
    facts: dict[str, Fact] = {**same[0].facts, "namespaces": ", ".join(finding.namespace for finding in same)}
    containers = [str(finding.facts["containers"]) for finding in same if finding.facts.get("containers")]
    if containers:
        facts["containers"] = ", ".join(containers)
    images = tuple(image for finding in same for image in finding.images)
    return msgspec.structs.replace(same[0], images=images, facts=facts)


def _others(images: Sequence[ImageRef]) -> list[str]:
    """The images but the first; with their namespace if it is not that of the first."""
    names = dict.fromkeys((image.namespace, image.name) for image in images)
    first = (images[0].namespace, images[0].name) if images else ("", "")
    return [
        name if namespace == first[0] else f"{name} (namespace {namespace})"
        for namespace, name in names
        if (namespace, name) != first
    ]


def wrapped(label: str, text: str, width: int) -> Iterator[str]:
    """Lines that begin with the label or are indented by it, broken between words."""
    return _filled(label, text.split(), width, end="")


def _command(label: str, text: str, width: int) -> Iterator[str]:
    r"""A command that can be pasted: lines end with `\` between words; quoted parts stay whole."""
    return _filled(label, re.findall(_WORD, text), width - 2, end=" \\")


def _filled(label: str, words: Sequence[str], width: int, *, end: str) -> Iterator[str]:
    indent = " " * len(label)
    line = label
    for number, word in enumerate(words):
        if number and len(line) + len(word) > width and line.strip():
            yield line.rstrip() + end
            line = indent
        line += f"{word} "
    if words:
        yield line.rstrip()


def _images(report: Report) -> Iterator[str]:
    yield "images:"
    for image in report.images:
        mark = {Status.SOUND: "sound  ", Status.DAMAGED: "DAMAGED", Status.UNKNOWN: "unknown"}[image.status]
        shown = ", ".join(_platforms(image.platforms)) or "no platform here"
        name = image.names[0] if image.names else image.target
        yield f"  {mark} {plain(image.namespace)} {plain(name, width=_NAME_WIDTH)}  {plain(shown)}"


def _platforms(states: Iterable[PlatformState]) -> Iterator[str]:
    for state in states:
        unpacked = [name for name, done in state.unpacked.items() if done]
        where = f" unpacked on {', '.join(unpacked)}" if unpacked else ""
        yield f"{state.platform or 'no platform'}{where}"


def _paint(style: Style, code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if style.colour else text
