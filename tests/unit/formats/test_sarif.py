"""SARIF and GitLab's Code Quality: the fields that their readers require, and stable fingerprints."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from msgspec.structs import replace

from auditor import checks
from auditor.formats import gitlab, sarif
from auditor.model.findings import Report, Severity, Source
from tests.unit import reports


def run(report: Report) -> dict[str, Any]:
    log = json.loads(sarif.render([report], advice=checks.RULEBOOK))
    assert log["version"] == "2.1.0"
    (found,) = log["runs"]
    assert isinstance(found, dict)
    return found


def issues(*made: Report) -> list[dict[str, Any]]:
    found = json.loads(gitlab.render(made))
    assert isinstance(found, list)
    return found


def test_each_finding_over_info_is_a_result_of_its_rule() -> None:
    report = reports.damaged()
    made = run(report)
    rules = made["tool"]["driver"]["rules"]
    told = [finding for finding in report.findings if finding.severity is not Severity.INFO]
    assert [result["ruleId"] for result in made["results"]] == [finding.code for finding in told]
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in made["results"])
    assert {result["level"] for result in made["results"]} <= {"error", "warning"}
    assert told[0].message in made["results"][0]["message"]["text"]
    assert made["invocations"][0]["executionSuccessful"] is True


@pytest.mark.parametrize("make", [reports.damaged, reports.hostile])
def test_a_location_is_a_relative_uri(make: Any) -> None:
    for result in run(make())["results"]:
        (location,) = result["locations"]
        uri = location["physicalLocation"]["artifactLocation"]["uri"]
        assert re.fullmatch(r"[A-Za-z0-9._~/%@-]+", uri)
        assert urlsplit(uri).scheme == urlsplit(uri).netloc == ""
    first = run(reports.damaged())["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert unquote(first).startswith("k8s.io/registry.example/")


def test_a_finding_in_an_archive_is_at_the_archive() -> None:
    report = replace(reports.damaged(), source=Source(kind="archive", address="/srv/out/app.tar", version=""))
    found = {result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for result in run(report)["results"]}
    assert found == {"srv/out/app.tar"}
    assert {issue["location"]["path"] for issue in issues(report)} == {"srv/out/app.tar"}


def test_fingerprints_differ_and_stay_the_same_on_another_node_and_day() -> None:
    report = reports.damaged()
    prints = [issue["fingerprint"] for issue in issues(report)]
    assert len(set(prints)) == len(prints) > 1
    other = replace(report, host="other", finished_at=report.finished_at.replace(year=2030))
    assert [issue["fingerprint"] for issue in issues(other)] == prints
    assert [r["partialFingerprints"]["finding/v1"] for r in run(other)["results"]] == prints


def test_issues_have_what_gitlab_requires() -> None:
    for issue in issues(reports.damaged()):
        assert set(issue) == {"description", "check_name", "fingerprint", "severity", "location"}
        assert issue["severity"] in ("blocker", "critical", "minor")
        assert issue["location"]["lines"]["begin"] == 1


def test_what_could_not_be_checked_is_an_issue_and_a_notification() -> None:
    report = replace(reports.sound(), complete=False, incomplete=("zfs does not answer",))
    (issue,) = issues(report)
    assert issue["description"] == "not everything could be checked: zfs does not answer"
    invocation = run(report)["invocations"][0]
    assert invocation["executionSuccessful"] is False
    assert invocation["toolExecutionNotifications"][0]["message"]["text"] == "zfs does not answer"


def test_a_sound_report_has_no_result_and_no_issue() -> None:
    assert run(reports.sound())["results"] == []
    assert issues(reports.sound()) == []


def test_the_reports_of_several_nodes_are_runs_of_one_log_and_one_list() -> None:
    log = json.loads(sarif.render([reports.damaged(), reports.sound()], advice=checks.RULEBOOK))
    assert [len(found["results"]) > 0 for found in log["runs"]] == [True, False]
    assert issues(reports.damaged(), reports.damaged()) == issues(reports.damaged())
