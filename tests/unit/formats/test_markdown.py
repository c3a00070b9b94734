"""Markdown: what is said, and that a name is never markup."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace

from auditor.formats import comparison, fleet, markdown
from auditor.report.compare import compare
from auditor.report.fleet import join
from tests.unit import reports


def test_the_heading_has_the_verdict() -> None:
    assert markdown.render(reports.sound()).splitlines()[0] == "## containerd on `node-a`: no problems found"
    assert markdown.render(reports.damaged()).startswith("## containerd on `worker-07.fra.example`: 3 images damaged")


def test_nothing_wrong_where_not_all_was_examined_is_not_sound() -> None:
    report = replace(reports.sound(), complete=False, incomplete=("half of it",))
    written = markdown.render(report)
    assert "not everything could be checked" in written.splitlines()[0]
    assert "* half of it" in written


def test_findings_are_grouped_and_say_what_to_do() -> None:
    written = markdown.render(reports.damaged())
    assert "error: `snapshot-without-blob` (2)" in written
    assert "Do: `auditor repair -n k8s.io registry.example/shop/checkout:2.0.1`" in written
    assert "blob-discarded" not in written
    assert "3 findings of severity info not listed" in written


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("plain", "`plain`"),
        ("a`b", "``a`b``"),
        ("`x`", "`` `x` ``"),
        ("a|b", "`a\\|b`"),
        ("``", "``` `` ```"),
        ("", "` `"),
    ],
)
def test_nothing_ends_a_code_span(text: str, span: str) -> None:
    assert markdown.code(text) == span


def outside_code(written: str) -> str:
    return re.sub(r"(?<!`)(`+)(?!`).+?(?<!`)\1(?!`)", "", written)


@pytest.mark.parametrize("kind", ["report", "fleet", "against"])
def test_hostile_names_are_code_or_escaped(kind: str) -> None:
    report = reports.hostile()
    written = {
        "report": lambda: markdown.render(report),
        "fleet": lambda: fleet.markdown(join([report, reports.sound()])),
        "against": lambda: comparison.markdown([compare(report, reports.sound())]),
    }[kind]()
    assert written.replace("\n", "").isprintable()
    bare = outside_code(written)
    assert not re.search(r"<(?!/?$)\w|\[link\]|@everyone|http://|\*\*bold", bare), bare
    assert max(map(len, written.splitlines())) < 2_500
