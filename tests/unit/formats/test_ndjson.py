"""Lines of JSON: each one whole, the summary the last."""

from __future__ import annotations

import json

from auditor.formats import ndjson
from tests.unit import reports


def test_a_stream_starts_tells_everything_and_ends_with_the_summary() -> None:
    report = reports.damaged()
    lines = [json.loads(line) for line in ndjson.render(report).splitlines()]
    kinds = [line["type"] for line in lines]
    assert kinds == ["start", *["finding"] * len(report.findings), *["image"] * len(report.images), "summary"]
    assert lines[0]["schema"] == "containerd-auditor/report/v1"
    assert {line["host"] for line in lines} == {report.host}
    assert lines[1]["code"] == "digest-mismatch"
    assert lines[-1]["complete"] is True
    assert lines[-1]["summary"]["images"]["damaged"] == 3


def test_progress_is_a_line() -> None:
    line = json.loads(ndjson.progress("reading", 3, 10, time=reports.AT, host="n"))
    at = "2026-03-04T05:06:07Z"
    assert line == {"type": "progress", "host": "n", "time": at, "what": "reading", "done": 3, "total": 10}


def test_hostile_names_are_kept_exactly_and_cannot_move_a_terminal() -> None:
    written = ndjson.render(reports.hostile())
    assert all(line.isprintable() for line in written.split("\n"))
    found = {json.loads(line)["names"][0] for line in written.splitlines() if '"type":"image"' in line}
    assert found == set(reports.HOSTILE)
