"""JUnit, read by a library that others read it with, and by an XML parser."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest
from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite
from msgspec.structs import replace

from auditor.formats import junit
from auditor.model.findings import FailOn, Report, Status
from tests.unit import reports


def read(report: Report, *, fail_on: FailOn = FailOn.ERROR) -> TestSuite:
    parsed = JUnitXml.fromstring(junit.render([report], fail_on=fail_on).encode())
    (suite,) = parsed
    assert isinstance(suite, TestSuite)
    return suite


def case(suite: TestSuite, name: str) -> TestCase:
    (found,) = [case for case in suite if case.name == name]
    assert isinstance(found, TestCase)
    return found


def test_each_image_is_a_case_and_the_damaged_fail_with_what_and_what_to_do() -> None:
    suite = read(reports.damaged())
    assert suite.tests == 16
    assert suite.failures == 3
    (failure,) = case(suite, "registry.example/shop/checkout:2.0.1").result
    assert isinstance(failure, Failure)
    assert failure.type == "snapshot-without-blob"
    assert "(and 1 more)" in failure.message
    assert "auditor repair -n k8s.io registry.example/shop/checkout:2.0.1" in (failure.text or "")
    assert case(suite, "docker.io/library/redis:7.2-alpine").is_passed


def test_an_image_hurt_by_the_blob_of_another_fails_too() -> None:
    (failure,) = case(read(reports.damaged()), "registry.example/shop/refunds:7").result
    assert failure.type == "digest-mismatch"


def test_the_limit_decides_what_fails_and_the_rest_is_told() -> None:
    postgres = "docker.io/library/postgres:16"
    assert case(read(reports.damaged()), postgres).is_passed
    assert "gc-unprotected" in (case(read(reports.damaged()), postgres).system_out or "")
    assert not case(read(reports.damaged(), fail_on=FailOn.WARNING), postgres).is_passed
    assert read(reports.damaged(), fail_on=FailOn.NEVER).failures == 0


def test_what_could_not_be_examined_is_an_error_and_no_pass() -> None:
    report = replace(reports.sound(), complete=False, incomplete=("the disk did not answer",))
    (error,) = case(read(report), "everything could be examined").result
    assert isinstance(error, Error)
    assert "the disk did not answer" in (error.text or "")
    assert read(report).errors == 1


def test_an_image_of_unknown_state_is_an_error() -> None:
    first, *others = reports.sound().images
    report = replace(reports.sound(), images=(replace(first, status=Status.UNKNOWN), *others))
    assert isinstance(case(read(report), first.names[0]).result[0], Error)


@pytest.mark.parametrize(
    "report", [reports.sound(), reports.damaged(), reports.hostile()], ids=["sound", "damaged", "hostile"]
)
def test_the_counts_are_those_of_the_cases(report: Report) -> None:
    root = ET.fromstring(junit.render([report, report], fail_on=FailOn.ERROR))
    assert int(root.get("tests", "")) == len(root.findall(".//testcase"))
    assert int(root.get("failures", "")) == len(root.findall(".//failure"))
    assert int(root.get("errors", "")) == len(root.findall(".//error"))


def test_hostile_names_are_text_and_the_file_stays_xml() -> None:
    written = junit.render([reports.hostile()], fail_on=FailOn.ERROR)
    root = ET.fromstring(written)
    assert {element.tag for element in root.iter()} <= {
        "testsuites",
        "testsuite",
        "testcase",
        "failure",
        "error",
        "system-out",
    }
    assert written.replace("\n", "").isprintable()
    assert max(len(c.get("name", "")) for c in root.iter("testcase")) <= 300
