"""The report as JUnit XML: one test case per image.

Each case has at most one `failure` or `error`, with all findings in its text, as Jenkins and GitLab read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from auditor.formats.sanitize import plain
from auditor.model.findings import FailOn, Finding, ImageState, Report, Severity, Status

_NAME_WIDTH = 300
_TEXT_WIDTH = 1000


def render(reports: Sequence[Report], *, fail_on: FailOn) -> str:
    """One suite per report; findings at or above `fail_on` fail their image, others go to its output."""
    root = Element("testsuites", name="auditor")
    for report in reports:
        root.append(_suite(report, fail_on))
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    root.set("time", f"{sum(report.duration_seconds for report in reports):.3f}")
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _suite(report: Report, fail_on: FailOn) -> Element:
    suite = Element("testsuite", name=plain(f"{report.source.kind} on {report.host}", width=_NAME_WIDTH))
    suite.set("hostname", plain(report.host, width=_NAME_WIDTH))
    suite.set("timestamp", report.started_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    suite.extend([_complete(report), *_images(report, fail_on), *_others(report, fail_on)])
    suite.set("tests", str(len(suite)))
    for name, tag in (("failures", "failure"), ("errors", "error")):
        suite.set(name, str(sum(case.find(tag) is not None for case in suite)))
    suite.set("skipped", "0")
    suite.set("time", f"{report.duration_seconds:.3f}")
    return suite


def _complete(report: Report) -> Element:
    case = Element("testcase", classname="audit", name="everything could be examined", time="0")
    if not report.complete:
        error = SubElement(case, "error", type="incomplete", message="not everything could be checked")
        error.text = "\n".join(plain(why, width=_TEXT_WIDTH) for why in report.incomplete)
    return case


def _images(report: Report, fail_on: FailOn) -> Iterator[Element]:
    by_image: dict[tuple[str, str], list[Finding]] = {}
    for finding in report.findings:
        for key in dict.fromkeys((image.namespace, image.target) for image in finding.images):
            by_image.setdefault(key, []).append(finding)
    for image in report.images:
        yield _image(image, by_image.get((image.namespace, image.target), []), fail_on)


def _image(image: ImageState, found: Sequence[Finding], fail_on: FailOn) -> Element:
    name = image.names[0] if image.names else image.target
    case = _case(f"image.{image.namespace}", name, found, fail_on)
    if image.status is Status.UNKNOWN and case.find("failure") is None:
        why = [finding for finding in found if finding.code == "blob-unreadable"]
        error = SubElement(case, "error", type="unknown", message="unknown: content could not be read")
        error.text = _text(why)
    return case


def _others(report: Report, fail_on: FailOn) -> Iterator[Element]:
    """Findings that affect no image, without those of severity info."""
    for finding in report.findings:
        if not finding.images and finding.severity is not Severity.INFO:
            yield _case(f"store.{finding.namespace}", f"{finding.code} {finding.subject.id}", [finding], fail_on)


def _case(classname: str, name: str, found: Sequence[Finding], fail_on: FailOn) -> Element:
    case = Element("testcase", classname=plain(classname, width=_NAME_WIDTH), name=plain(name, width=_NAME_WIDTH))
    case.set("time", "0")
    failing = [finding for finding in found if _fails(finding, fail_on)]
    if failing:
        failure = SubElement(case, "failure", type=plain(failing[0].code, width=_NAME_WIDTH))
        more = f" (and {len(failing) - 1} more)" if len(failing) > 1 else ""
        failure.set("message", plain(failing[0].message, width=_TEXT_WIDTH) + more)
        failure.text = _text(failing)
    told = [finding for finding in found if finding not in failing and finding.severity is not Severity.INFO]
    if told:
        SubElement(case, "system-out").text = _text(told)
    return case


def _fails(finding: Finding, fail_on: FailOn) -> bool:
    return fail_on is not FailOn.NEVER and finding.severity.rank <= Severity(fail_on).rank


def _text(found: Iterable[Finding]) -> str:
    return "\n\n".join("\n".join(_lines(finding)) for finding in found)


def _lines(finding: Finding) -> Iterator[str]:
    yield f"{finding.severity} {plain(finding.code)}: {plain(finding.message, width=_TEXT_WIDTH)}"
    yield f"{plain(finding.subject.kind)} {plain(finding.subject.id, width=_TEXT_WIDTH)}"
    if finding.cause:
        yield f"cause: {plain(finding.cause)}"
    if finding.hint:
        yield f"do: {plain(finding.hint, width=_TEXT_WIDTH)}"
