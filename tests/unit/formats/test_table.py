"""The report as JSON and as a table, the tree, the rules: the contract, and names that strangers chose."""

from __future__ import annotations

import json
import re
import shlex
import unicodedata
from collections.abc import Callable
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditor import checks
from auditor.errors import UsageError
from auditor.formats import json_report, rulebook, schemas, table, tree
from auditor.formats.table import Style
from auditor.model.findings import SCHEMA, Finding, Report, Severity, Verify, count, order
from auditor.report.build import report
from auditor.report.image_tree import ImageTree, TreeNode
from tests.unit.build import APP, BASE, MIDDLE, NOW, TOP, Layer, World, image, index

ADVICE = checks.RULEBOOK
HOSTILE = "evil.example/\x1b]0;owned\x07\u202e\u200b" + "n" * 4000 + ":tag"
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def reported(world: World, **request: Any) -> Report:
    outcome = world.audit(**request)
    return report(outcome.evidence, outcome.findings, host="node", started=NOW, finished=NOW, seconds=0.25)


def sound() -> Report:
    world = World()
    world.pull(index(APP, image(Layer("arm"), platform="linux/arm64")), "app:1")
    return reported(world)


def test_images_that_are_neither_are_counted() -> None:
    world = World()
    world.pull(index(), "nothing:1")
    assert table.counts(reported(world)).startswith("1 image: 0 sound, 0 damaged, 1 unknown | ")
    assert table.counts(sound()).startswith("1 image: 1 sound, 0 damaged | ")


def damaged(name: str = "docker.io/library/app:1") -> Report:
    world = World()
    world.pull(APP, name)
    world.drop(BASE.digest, MIDDLE.digest)
    other = image(Layer("own"))
    world.pull(other, "other:1", unpack=False)
    world.drop(other.layers[0].digest)
    world.ingest("upload")
    return reported(world)


REPORTS: dict[str, Callable[[], Report]] = {
    "sound": sound,
    "damaged": damaged,
    "hostile": lambda: damaged(HOSTILE),
    "incomplete": lambda: msgspec.structs.replace(sound(), complete=False, incomplete=("zfs does not answer",)),
}


# JSON.


@pytest.mark.parametrize("kind", REPORTS)
def test_a_report_is_valid_by_its_schema_and_reads_back_the_same(kind: str) -> None:
    made = REPORTS[kind]()
    text = json_report.render(made)
    jsonschema.validate(json.loads(text), schemas.schema("report"), cls=jsonschema.Draft202012Validator)
    assert json_report.load(text.encode(), name="x") == made
    assert json_report.render(json_report.load(text.encode(), name="x")) == text
    assert text == json_report.render(REPORTS[kind]())
    assert text.endswith("}\n")


def test_the_fields_of_the_contract() -> None:
    made = json.loads(json_report.render(damaged()))
    assert made["schema"] == SCHEMA == "containerd-auditor/report/v1"
    wanted = "schema tool host source started_at finished_at duration_seconds verify complete incomplete summary"
    optional = ("coverage", "facts", "trees")
    assert [*wanted.split(), "findings", "images"] == [name for name in made if name not in optional]
    assert set(made["tool"]) == {"name", "version"}
    assert set(made["source"]) == {"kind", "address", "version"}
    assert set(made["summary"]) == {"images", "blobs", "bytes", "snapshots", "findings"}
    finding = made["findings"][0]
    contract = "code severity namespace subject message cause images facts hint"
    assert set(contract.split()) <= set(finding)
    assert finding["subject"] == {"kind": "layer", "digest": finding["subject"]["digest"]}
    assert set("namespaces names target status platforms".split()) - {"namespaces"} <= set(made["images"][0])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", made["started_at"])


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"not json",
        b"\xff",
        b"[" * 100_000,
        json_report.render(sound()).replace("report/v1", "report/v2").encode(),
        json_report.render(damaged()).replace('"severity": "critical"', '"severity": "dreadful"', 1).encode(),
    ],
)
def test_what_is_no_report_is_refused_by_name(raw: bytes) -> None:
    with pytest.raises(UsageError, match=r"^node-1\.json is not a report") as refused:
        json_report.load(raw, name="node-1.json")
    assert SCHEMA in refused.value.hint


def test_a_path_that_is_no_unicode_does_not_break_the_report() -> None:
    made = sound()
    odd = msgspec.structs.replace(made, source=msgspec.structs.replace(made.source, address="/tmp/\udcff.sock"))
    text = json_report.render(odd)
    assert json_report.load(text.encode(), name="x").source.address == "/tmp/\\udcff.sock"


TEXT = st.text(max_size=30)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(TEXT, TEXT, TEXT)
def test_any_text_in_a_report_comes_back_and_stays_off_the_terminal(name: str, message: str, fact: str) -> None:
    made = damaged()
    first = made.findings[0]
    ref = msgspec.structs.replace(first.images[0], name=name)
    finding = msgspec.structs.replace(first, message=message, images=(ref,), facts={"twin": fact}, hint=message)
    changed = msgspec.structs.replace(made, findings=(finding,), host=fact)
    assert json_report.load(json_report.render(changed).encode(), name="x") == changed
    harmless(table.render(changed, advice=ADVICE, style=Style(verbose=True)))


# The table.


def harmless(text: str, *, colour: bool = False) -> None:
    rest = ESCAPE.sub("", text) if colour else text
    assert not [char for char in rest if char != "\n" and unicodedata.category(char)[0] == "C"]


@pytest.mark.parametrize("kind", REPORTS)
@pytest.mark.parametrize("style", [Style(), Style(verbose=True), Style(colour=True), Style(width=40)])
def test_a_table_is_plain_text_with_the_counts_at_its_end(kind: str, style: Style) -> None:
    made = REPORTS[kind]()
    text = table.render(made, advice=ADVICE, style=style)
    harmless(text, colour=style.colour)
    assert ("\x1b[" in text) is style.colour
    assert " | ".join(text.splitlines()[-4:]).endswith(table.counts(made))
    assert text.endswith("\n")
    assert max(len(line) for line in text.splitlines() if " " in line.strip()) < 500  # a command is never cut


def test_a_sound_store_is_said_in_a_few_lines() -> None:
    lines = table.render(sound(), advice=ADVICE, style=Style()).splitlines()
    assert lines[0] == "No problems found in metadata and sizes; contents not read (--verify digests reads them)."
    assert lines[1].startswith("containerd v2.1.9 at memory")
    assert lines[3].startswith("1 image: 1 sound, 0 damaged | ")
    assert len(lines) == 5


def test_info_is_printed_only_where_asked_for() -> None:
    assert "platform-not-pulled" not in table.render(sound(), advice=ADVICE, style=Style())
    assert "platform-not-pulled" in table.render(sound(), advice=ADVICE, style=Style(verbose=True))


def test_the_worst_rule_comes_first_with_what_it_means_and_what_to_do() -> None:
    text = table.render(damaged(), advice=ADVICE, style=Style())
    lines = text.splitlines()
    assert lines[0] == "2 images damaged"
    assert lines.index("CRITICAL incomplete-image") < lines.index("ERROR snapshot-without-blob (2 findings in 1 image)")
    assert "    do:    auditor repair -n k8s.io docker.io/library/app:1" in lines
    assert sum(line.startswith("    means: ") for line in lines) == 2
    assert f"    {BASE.digest}" in lines
    assert f"  - layer 2 of docker.io/library/app:1 (linux/amd64)  {MIDDLE.digest[:19]}" in lines


def test_with_verbose_or_into_a_file_every_finding_has_its_details() -> None:
    for style in (Style(verbose=True), Style(complete=True)):
        lines = table.render(damaged(), advice=ADVICE, style=style).splitlines()
        assert f"    {BASE.digest}" in lines
        assert f"    {MIDDLE.digest}" in lines


@pytest.mark.parametrize("rules", [1, 4, len(checks.RULES)])
@pytest.mark.parametrize("width", [80, 110])
def test_2000_findings_are_below_200_lines_and_break_no_word(rules: int, width: int) -> None:
    made = damaged()
    codes = [rule.code for rule in checks.RULES[:rules]]
    many = [
        msgspec.structs.replace(
            made.findings[0],
            code=codes[n % rules],
            images=(msgspec.structs.replace(made.findings[0].images[0], name=f"registry.example/team/app-{n}:1"),),
            hint=f"auditor repair -n k8s.io registry.example/a-team-with-a-long-name/app-{n}:1",
        )
        for n in range(2000)
    ]
    large = msgspec.structs.replace(made, findings=order(many), incomplete=tuple(f"reason {n}" for n in range(50)))
    lines = table.render(large, advice=ADVICE, style=Style(width=width)).splitlines()
    assert len(lines) < 200
    assert max(map(len, lines)) <= width
    assert any(re.fullmatch(r"and \d+ more findings; --output FILE has all", line) for line in lines)
    everything = table.render(large, advice=ADVICE, style=Style(width=width, complete=True))
    assert everything.count("  - ") == 2000
    assert "--output FILE" not in everything


def test_a_command_that_is_broken_over_lines_can_be_pasted() -> None:
    hint = "auditor diagnose 'content digest sha256:0a37: not found' --archive \"a b\" -n k8s.io image:1"
    made = msgspec.structs.replace(damaged().findings[0], hint=hint)
    report = msgspec.structs.replace(damaged(), findings=(made,))
    text = table.render(report, advice=ADVICE, style=Style(width=40))
    command = text.partition("do:    ")[2].partition("\n\n")[0]
    assert len(command.splitlines()) > 2
    assert shlex.split(command.replace("\\\n", "")) == shlex.split(hint)


def test_what_was_not_examined_is_said_first_and_last() -> None:
    lines = table.render(REPORTS["incomplete"](), advice=ADVICE, style=Style()).splitlines()
    assert lines[0] == "No problems found, but not everything could be checked."
    assert lines[2] == "note: zfs does not answer"


def test_a_great_many_findings_of_one_image_are_counted_not_listed() -> None:
    layers = [Layer(f"layer {n}") for n in range(100)]
    world = World()
    world.pull(image(*layers))
    world.drop(*(layer.digest for layer in layers))
    text = table.render(reported(world), advice=ADVICE, style=Style())
    assert f"and {100 - table.LISTED} more of this rule" in text
    assert f"and {100 - table.LISTED} more findings; --output FILE has all" in text
    assert len(text.splitlines()) < 60


def test_a_long_name_is_cut_in_the_middle() -> None:
    lines = table.render(damaged(HOSTILE), advice=ADVICE, style=Style()).splitlines()
    line = next(line for line in lines if line.startswith("  - layer 2 of evil.example/"))
    assert r"\x1b]0;owned\x07\u202e\u200b" in line
    assert len(line) <= 100


# Findings.


@given(st.permutations(list(damaged().findings)))
def test_findings_have_one_order(findings: list[Finding]) -> None:
    assert order(findings) == damaged().findings


def test_counts_are_by_severity() -> None:
    counted = count(damaged().findings)
    assert (counted.critical, counted.error, counted.warning, counted.info) == (1, 2, 0, 0)
    assert [severity.rank for severity in Severity] == [0, 1, 2, 3]
    assert [verify.depth for verify in Verify] == [0, 1, 2, 3, 4, 5]


# Trees and rules.


def test_a_tree_is_drawn_with_its_states() -> None:
    leaf = TreeNode(kind="layer 1", digest=TOP.digest, size=2048, state="absent")
    bad = TreeNode(
        kind="config",
        digest=BASE.digest,
        size=5,
        state="corrupt",
        faults=("digest-mismatch",),
        why="why",
        unpacked=("a",),
    )
    root = TreeNode(kind="manifest", platform="linux/arm64", digest=APP.digest, size=1, children=(leaf, bad))
    assert tree.render_text(ImageTree(namespace="k8s.io", names=("app:1", "app:2"), root=root)).splitlines() == [
        "app:1  (namespace k8s.io)",
        f"└─ manifest linux/arm64  {APP.digest[:19]}  1 B  present",
        f"   ├─ layer 1  {TOP.digest[:19]}  2.0 KiB  absent",
        f"   └─ config  {BASE.digest[:19]}  5 B  CORRUPT  digest-mismatch  why  unpacked on a",
    ]


def test_a_tree_shows_the_state_of_unpacked_files() -> None:
    node = TreeNode(kind="layer 1", digest=TOP.digest, size=1, unpacked=("a", "b"), snapshots={"b": "damaged"})
    text = tree.render_text(ImageTree(namespace="k8s.io", names=("app:1",), root=node))
    assert text.endswith("present  unpacked on a, b (damaged)\n")


def test_a_hostile_tree_is_harmless() -> None:
    node = TreeNode(kind=HOSTILE, digest=HOSTILE, size=1, state=HOSTILE, why=HOSTILE, faults=(HOSTILE,))
    text = tree.render_text(ImageTree(namespace=HOSTILE, names=(HOSTILE,), root=node))
    harmless(text)
    assert max(map(len, text.splitlines())) < 500


def test_a_tree_as_a_graph_quotes_hostile_text() -> None:
    node = TreeNode(kind='a "b" \\ c\n', digest=TOP.digest, size=7, state="missing", why="x\x1b")
    root = TreeNode(kind="index", digest=BASE.digest, size=1, children=(node, node))
    drawn = [
        ImageTree(namespace="k8s.io", names=('evil" -> "x',), root=root),
        ImageTree(namespace="default", names=("other",), root=root),
    ]
    graph = tree.render_dot(drawn)
    assert graph.count(f'"k8s.io {TOP.digest}" [label=') == 1
    assert graph.count(f'"default {TOP.digest}" [label=') == 1
    assert r"a \"b\" \\ c\\n\nsha256:" in graph
    assert r'"image evil\" -> \"x  (namespace k8s.io)"' in graph
    assert "MISSING" in graph
    assert "\x1b" not in graph
    assert graph.endswith("}\n")


def test_the_rules_are_listed_and_explained() -> None:
    entries = tuple(checks.RULEBOOK.values())
    listed = rulebook.listed(entries)
    assert all(f"\n  {entry.code}\n" in listed for entry in entries)
    assert max(map(len, listed.splitlines())) <= 80
    assert json.loads(rulebook.as_json(entries)) == [
        {"code": r.code, "severity": r.severity.value, "means": r.means, "matters": r.impact, "do": r.remedy}
        for r in entries
    ]
    for entry in entries:
        told = rulebook.explained(entry)
        assert told.startswith(f"{entry.code} ({entry.severity})\n")
        assert max(map(len, told.splitlines())) <= 80
