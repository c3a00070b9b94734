"""One file of reports: every way of packing gives the same reports, and every bad part is named and counts nowhere."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from backports import zstd

from auditor.fleet.node_report import NodeReport
from auditor.fleet.read_file import read_file
from auditor.formats import json_report, ndjson
from auditor.model.findings import Report
from tests import fleet_nodes
from tests.unit import reports

LIMIT = 1 << 20
DAMAGED = msgspec.structs.replace(reports.damaged(), host="node-1", facts={"kernel": "6.1", "smart": None, "cores": 4})
OTHER = msgspec.structs.replace(reports.sound(), host="node-2")
INDENTED = json_report.render(DAMAGED).encode()
LINE = msgspec.json.encode(DAMAGED)
EVENTS = ndjson.render(DAMAGED).encode()


def content(tmp_path: Path, raw: bytes, *, limit: int = LIMIT) -> tuple[list[NodeReport], list[str]]:
    path = tmp_path / "report.json"
    path.write_bytes(raw)
    found = read_file(path, limit=limit)
    assert {report.file for report in found.reports} | {each.file for each in found.unread} == {str(path)}
    return list(found.reports), [each.reason for each in found.unread]


def without_copies(report: NodeReport) -> NodeReport:
    """Trees are only in the JSON report."""
    return msgspec.structs.replace(report, held=b"")


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd.compress])
@pytest.mark.parametrize(
    "raw", [INDENTED, LINE, LINE + b"\n", EVENTS, b"\xef\xbb\xbf" + INDENTED, b"\xef\xbb\xbf" + LINE + b"\n"]
)
def test_a_report_in_every_form_is_the_same(tmp_path: Path, raw: bytes, pack: Callable[[bytes], bytes]) -> None:
    (wanted,), _ = content(tmp_path, INDENTED)
    (found,), unread = content(tmp_path, pack(raw))
    assert unread == []
    assert without_copies(found) == without_copies(wanted)
    if raw is not EVENTS:
        assert found.held == wanted.held


def test_what_is_kept_of_a_report(tmp_path: Path) -> None:
    (found,), _ = content(tmp_path, INDENTED)
    assert (found.host, found.complete, found.images) == ("node-1", DAMAGED.complete, DAMAGED.summary.images)
    assert found.findings == DAMAGED.summary.findings
    assert found.facts["kernel"] == "6.1"
    assert found.facts["cores"] == "4"
    assert "smart" not in found.facts
    assert found.facts["containerd"] == DAMAGED.source.version
    codes = [finding.code for finding in DAMAGED.findings if finding.severity != "info"]
    assert [fault.code for fault in found.faults] == codes
    assert found.damaged


@pytest.mark.parametrize("line", [LINE, EVENTS.removesuffix(b"\n")])
def test_many_reports_in_one_file_and_a_bad_line_between_them(tmp_path: Path, line: bytes) -> None:
    raw = b"\n".join([line, b'{"type": "other"}', b"{cut", msgspec.json.encode(OTHER)])
    found, unread = content(tmp_path, raw)
    assert [report.host for report in found] == ["node-1", "node-2"]
    first = line.count(b"\n") + 2
    assert [reason.partition(": ")[0] for reason in unread] == [f"line {first}", f"line {first + 1}"]


def test_lines_of_several_nodes_may_be_mixed(tmp_path: Path) -> None:
    one, other = EVENTS.splitlines(), ndjson.render(OTHER).encode().splitlines()
    mixed = [line for pair in zip(one, other, strict=False) for line in pair] + one[len(other) :] + other[len(one) :]
    found, unread = content(tmp_path, b"\n".join(mixed))
    assert {report.host for report in found} == {"node-1", "node-2"}
    assert unread == []


def test_a_run_that_was_cut_is_no_report(tmp_path: Path) -> None:
    cut = b"\n".join(EVENTS.splitlines()[:-1])
    found, unread = content(tmp_path, cut)
    assert (found, unread) == ([], ["a run of node-1 was cut: its summary is missing"])
    found, unread = content(tmp_path, cut + b"\n" + EVENTS)
    assert [report.host for report in found] == ["node-1"]
    assert unread == ["a run of node-1 was cut: its summary is missing"]


def changed(**fields: Any) -> bytes:
    return json.dumps(json.loads(LINE) | fields).encode()


ARCHIVE = {"kind": "archive", "address": "a.tar", "version": ""}
HOSTILE = {
    "empty": (b"", "it is not a report"),
    "cut in half": (LINE[: len(LINE) // 2], "it is not a report"),
    "cut in half, indented": (INDENTED[: len(INDENTED) // 2], "it is not a report"),
    "a program": (b"\x7fELF" + bytes(4000), "it is not a report"),
    "a page": (b"<!doctype html>\n<p>Log in", "it is not a report"),
    "trailing bytes": (LINE + b"]", "it is not a report"),
    "not UTF-8": (LINE.replace(b"node-1", b"node-\xff", 1), "it is not a report"),
    "nested arrays": (changed(more=1).replace(b'"more": 1', b'"more": ' + b"[" * 200_000), "it is not a report"),
    "nested objects": (changed(more=1).replace(b'"more": 1', b'"more": ' + b'{"a":' * 50_000), "it is not a report"),
    "a long string": (changed(more="x" * (2 << 20)), "it is larger than 1 MiB"),
    "a bomb": (gzip.compress(b" " * (64 << 20)), "it is larger than 1 MiB"),
    "a bomb of lines": (gzip.compress(b"\n" * (8 << 20) + b"{}"), "it is not a report"),
    "cut gzip": (gzip.compress(LINE)[:-20], ""),
    "cut zstd": (zstd.compress(LINE)[:-20], ""),
    "xz": (b"\xfd7zXZ\x00" + bytes(100), "xz"),
    "a duration that is a word": (changed(duration_seconds="fast"), "it is not a report"),
    "complete is a word": (changed(complete="yes"), "it is not a report"),
    "findings is an object": (changed(findings={}), "it is not a report"),
    "a time that is a word": (changed(finished_at="yesterday"), "it is not a report"),
    "another version": (changed(schema="containerd-auditor/report/v9"), "it is not a report"),
    "no findings": (b'{"host": "node-1"}', "it is not a report"),
    "no images": (json.dumps({k: v for k, v in json.loads(LINE).items() if k != "images"}).encode(), "it is not"),
    "a tree that is a word": (LINE.replace(b'"tree":{', b'"tree":{"kind":7,', 1), "it is not a report"),
    "of an archive": (changed(source=ARCHIVE), "it is the report of an archive, not of a node"),
    "its findings were taken away": (changed(findings=[]), "it lists 0 critical, 0 error, 0 warning, 0 info"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_no_report_is_named_and_gives_nothing(tmp_path: Path, name: str) -> None:
    raw, reason = HOSTILE[name]
    found, unread = content(tmp_path, raw)
    assert found == []
    assert len(unread) == 1
    assert reason in unread[0]
    assert unread[0]


def test_what_is_no_regular_file_does_not_block(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    regular = "it is not a regular file"
    for path, reason in ((fifo, regular), (tmp_path, regular), (tmp_path / "x", "No such file or directory")):
        (unread,) = read_file(path, limit=LIMIT).unread
        assert unread.reason == reason


def test_unknown_fields_of_newer_versions_are_passed_over(tmp_path: Path) -> None:
    found, unread = content(tmp_path, changed(newer={"a": [1]}))
    assert (len(found), unread) == (1, [])


def test_a_report_without_facts_is_one_of_an_older_version(tmp_path: Path) -> None:
    older = json.loads(LINE)
    del older["facts"]
    (found,), unread = content(tmp_path, json.dumps(older).encode())
    assert unread == []
    assert found.facts.keys() == {"containerd", "auditor", "verify"}


def test_the_fault_of_a_copy_rules_it_out_whatever_other_images_say(tmp_path: Path) -> None:
    from auditor.fleet.copies import Copies  # noqa: PLC0415 - used here alone

    good = fleet_nodes.image("1")
    bad = fleet_nodes.image("2", state=lambda digest: "corrupt" if digest == fleet_nodes.BASES[0] else "present")
    made = fleet_nodes.report("node", (good, bad), (), {}, at=fleet_nodes.DAY)
    (found,), _ = content(tmp_path, msgspec.json.encode(made))
    own = fleet_nodes.sha("layer-2-0")
    with Copies() as copies:
        copies.add(1, found.held)
        held = copies.holders([*fleet_nodes.BASES, own, good.target, "sha256:" + "0" * 64], of=frozenset({1}))
    assert held[fleet_nodes.BASES[0]].verified == []
    assert held[fleet_nodes.BASES[0]].present == []
    assert held[fleet_nodes.BASES[1]].verified == [1]
    assert held[own].present == [1]
    assert held[good.target].sound == [1]
    assert held["sha256:" + "0" * 64] == type(held[own])([], [], [])


def test_reports_are_as_strict_as_elsewhere() -> None:
    """The fields are those of the report, so that nothing is read loosely here alone."""
    from auditor.fleet.node_report import SlimReport  # noqa: PLC0415

    ours = {field.name: field.type for field in msgspec.structs.fields(SlimReport) if field.name != "images"}
    theirs = {field.name: field.type for field in msgspec.structs.fields(Report) if field.name != "images"}
    assert ours == theirs
