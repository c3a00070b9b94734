"""What changed since an older report: plain text, Markdown, and lines of JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from auditor.formats import ndjson
from auditor.formats.markdown import code, escape, sentence
from auditor.formats.sanitize import plain
from auditor.formats.table import wrapped
from auditor.model.findings import Finding, Severity
from auditor.report.compare import Comparison

#: Most findings of one kind listed; the rest is counted.
LISTED = 40
_WORDS = {"new": "new", "gone": "gone", "unchanged": "still there"}
_SIGNS = {"new": "+", "gone": "-", "unchanged": " "}
_Changes = Sequence[tuple[str, Sequence[Finding]]]


def render(comparisons: Iterable[Comparison], *, width: int = 100) -> str:
    """Plain text: new findings first, info findings left out."""
    return "\n".join("\n".join(_text(comparison, width)) + "\n" for comparison in comparisons)


def markdown(comparisons: Iterable[Comparison]) -> str:
    """The same as GitHub's Markdown."""
    return "\n".join("\n".join(_markdown(comparison)).rstrip("\n") + "\n" for comparison in comparisons)


def lines(comparisons: Iterable[Comparison]) -> str:
    """A line of JSON for each finding with its `change`, and one with the counts and notes."""
    return "".join(line for comparison in comparisons for line in _json_lines(comparison))


def counts(comparison: Comparison) -> str:
    """`2 new, 1 gone, 4 still there`, without info findings."""
    return ", ".join(f"{len(found)} {_WORDS[change]}" for change, found in _changes(comparison))


def _changes(comparison: Comparison) -> _Changes:
    found = (("new", comparison.new), ("gone", comparison.gone), ("unchanged", comparison.unchanged))
    return [(change, [f for f in same if f.severity is not Severity.INFO]) for change, same in found]


def _text(comparison: Comparison, width: int) -> Iterator[str]:
    yield f"{plain(comparison.host, width=100)}: {counts(comparison)}{_since(comparison)}"
    for note in comparison.notes:
        yield from wrapped("note: ", plain(note), width)
    for change, found in _changes(comparison):
        for finding in found[:LISTED]:
            told = f"{finding.severity} {plain(finding.code)}: {plain(finding.message, width=300)}"
            yield from wrapped(f"{_SIGNS[change]} ", told, width)
            yield f"    {plain(finding.subject.id, width=200)}"
        if len(found) > LISTED:
            yield f"  and {len(found) - LISTED} more {_WORDS[change]}"


def _since(comparison: Comparison) -> str:
    return f" (since {comparison.older_at:%Y-%m-%d %H:%M} UTC)" if comparison.older_at else ""


def _markdown(comparison: Comparison) -> Iterator[str]:
    yield f"## {code(comparison.host, width=100)}: {counts(comparison)}{_since(comparison)}"
    yield ""
    yield from (f"* {escape(note)}" for note in comparison.notes)
    for change, found in _changes(comparison):
        if found:
            yield from ("", f"### {_WORDS[change]}", "")
            yield from (f"* {f.severity} {code(f.code)}: {sentence(f)}" for f in found[:LISTED])
        if len(found) > LISTED:
            yield f"* and {len(found) - LISTED} more"


def _json_lines(comparison: Comparison) -> Iterator[str]:
    for change, found in (("new", comparison.new), ("gone", comparison.gone), ("unchanged", comparison.unchanged)):
        yield from (ndjson.finding(finding, host=comparison.host, change=change) for finding in found)
    yield ndjson.line(
        "comparison",
        host=comparison.host,
        older_at=comparison.older_at,
        newer_at=comparison.newer_at,
        notes=comparison.notes,
        new=len(comparison.new),
        gone=len(comparison.gone),
        unchanged=len(comparison.unchanged),
    )
