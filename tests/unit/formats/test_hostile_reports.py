"""Every field of a saved report is hostile: each is replaced in turn, and every format still shows the report."""

from __future__ import annotations

import copy
import json
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from auditor.cli import render
from auditor.cli.choices import ReportFormat
from auditor.errors import UsageError
from auditor.formats import health as protocol
from auditor.formats import json_report
from auditor.formats.table import Style
from auditor.model.findings import Coverage, Node, Report
from auditor.report import compare, health
from tests.unit import reports

NOW = datetime(2026, 1, 1, tzinfo=UTC)
#: What acts on a terminal: control and format characters, bidi marks, lone surrogates.
HOSTILE = "\x1b]0;owned\x07\x9b2J\r\u202e\u200b\u2028"
_KINDS = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
#: Formats for browsers and continuous integration, where each has its own test of hostile names.
_PAGES = {ReportFormat.HTML, ReportFormat.JUNIT}
_LOOK = render.RenderOptions(style=Style(verbose=True))
#: Values by the type of the value they replace; those of another type are rejected when a report is read.
_INSTEAD: dict[type, tuple[Any, ...]] = {
    str: (HOSTILE, "", "`|<&'\"\\]]>"),
    int: (-1, 2**63, 10**400),
    float: (1e308, 0.0),
    list: ([],),
    dict: ({}, {HOSTILE: HOSTILE}),
}


def original() -> Any:
    report = reports.damaged()
    coverage = Coverage(blobs=3, bytes=2, proven_blobs=1, proven_bytes=1, known_bad=0, oldest_proof_at=NOW)
    made = json.loads(json_report.render(msgspec.structs.replace(report, coverage=coverage)))
    made["incomplete"] = ["half of it"]
    for finding in made["findings"]:
        finding["facts"] = {"size": 5, "namespaces": "a, b"}
    return made


ORIGINAL = original()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of all values; of a list only those of its first element."""
    if path:
        yield path
    keys = list(value) if isinstance(value, dict) else range(min(1, len(value))) if isinstance(value, list) else ()
    for key in keys:
        yield from places(value[key], (*path, key))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def changed(path: tuple[Any, ...], new: Any) -> bytes:
    made = copy.deepcopy(ORIGINAL)
    at(made, path[:-1])[path[-1]] = new
    return json.dumps(made).encode()


def shown(report: Report) -> Iterator[str]:
    """The report in every way in which it is shown on a terminal."""
    for output_format in set(ReportFormat) - _PAGES:
        yield render.one(report, output_format, _LOOK)
        yield render.many([report, report], output_format, _LOOK)
    for pair in ([report], [reports.sound()]), ([reports.sound()], [report]):
        compared = compare.pair(*pair)
        yield from (render.changes(pair[0], compared, each) for each in (ReportFormat.TABLE, ReportFormat.MARKDOWN))


def answered(raw: bytes) -> Iterator[str]:
    found = health.judge(raw, now=NOW, thresholds=health.Thresholds(max_age=timedelta(days=99_999)))
    yield protocol.render_nagios(found)
    yield protocol.render_npd(found)


@pytest.mark.parametrize("path", list(places(ORIGINAL)), ids=lambda path: ".".join(map(str, path)))
def test_no_field_of_a_report_acts_on_the_terminal(path: tuple[Any, ...]) -> None:
    read = 0
    for new in _INSTEAD.get(type(at(ORIGINAL, path)), ()):
        raw = changed(path, new)
        texts = list(answered(raw))
        try:
            texts += shown(json_report.load(raw, name="x"))
            read += 1
            if read == 1:
                assert all(render.one(json_report.load(raw, name="x"), page, _LOOK) for page in _PAGES)
        except UsageError as error:
            texts += [error.message, error.hint]
        for text in texts:
            bad = {char for char in text if char != "\n" and unicodedata.category(char) in _KINDS}
            assert not bad, (path, new, text)
    if path[-1] in {"code", "message", "host", "address", "names", "cause", "hint", "incomplete", "name"}:
        assert read


def test_a_tree_of_any_depth_is_shown_or_refused() -> None:
    for depth in (50, 400, 900, 5_000):
        node = Node(kind="index", digest="sha256:" + "0" * 64, size=1)
        text = msgspec.json.encode(node)
        raw = text[:-1] + b',"children":['
        tree = raw * depth + text + b"]}" * depth
        made = json.dumps(ORIGINAL | {"images": [ORIGINAL["images"][0] | {"tree": "HERE"}]}).encode()
        try:
            assert all(shown(json_report.load(made.replace(b'"HERE"', tree), name="x")))
        except UsageError as error:
            assert "not a report" in error.message  # noqa: PT017 - either way is right, depending on the depth
