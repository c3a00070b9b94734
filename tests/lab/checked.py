"""Running the auditor on a lab daemon: as its user does, or in this process where only the findings matter."""

from __future__ import annotations

import io
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

from auditor import containerd
from auditor.audit import audit, collect
from auditor.cli import app, repair_watchdog
from auditor.containerd.find_content_root import ContentRootOption
from auditor.formats import json_report
from auditor.model.findings import FailOn, Finding, Report, Severity, exit_status
from auditor.model.store import Store
from auditor.report import build
from tests import program
from tests.lab.kit.daemon import Containerd
from tests.program import ROOT, command, environment

#: A finding as tests name it: its code, and the digest or name that it is about.
Named = tuple[str, str]


@dataclass(frozen=True)
class Run:
    """What a run of the program came to."""

    status: int
    out: str
    err: str

    @property
    def report(self) -> Report:
        """Its output, which must be a JSON report."""
        return json_report.load(self.out.encode(), name="the output")


def auditor(*arguments: str | Path, env: Mapping[str, str] | None = None, through: Sequence[str] = ()) -> Run:
    """Run the program to its end, through another one (`setpriv …`) if wanted; a traceback fails the test."""
    done = _run_through(through, arguments, env) if through else program.run(*arguments, env=env)
    assert "Traceback" not in done.stderr, done.stderr
    assert "a bug in auditor" not in done.stderr, done.stderr
    return Run(done.returncode, done.stdout, done.stderr)


def _run_through(
    through: Sequence[str], arguments: Sequence[str | Path], env: Mapping[str, str] | None
) -> subprocess.CompletedProcess[str]:
    line = [*through, *command(*arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT, env=environment(env))


def auditor_here(*arguments: str | Path) -> Run:
    """Run the whole command line in this process: what a process of its own costs, a hundred tests cannot afford."""
    out, err = io.BytesIO(), io.StringIO()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with (
            redirect_stdout(io.TextIOWrapper(out, write_through=True)) as text,
            redirect_stderr(err),
            mock.patch.object(repair_watchdog, "start_isolated", program.Watchdog),
        ):
            status = app.main([str(argument) for argument in arguments])
            text.flush()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "a bug in auditor" not in err.getvalue(), err.getvalue()
    return Run(status, out.getvalue().decode(), err.getvalue())


def check(daemon: Containerd, *arguments: str | Path, apart: bool = False) -> Run:
    """Run `auditor check --format json` on a daemon, in a process `apart` where that is what is tested."""
    run = auditor if apart else auditor_here
    return run("check", "--format", "json", "--address", daemon.socket, *arguments)


def look(
    daemon: Containerd, *, content_root: ContentRootOption = "auto", request: collect.Request | None = None
) -> Report:
    """Audit in this process; `content_root=None` reads every byte through the API."""
    with containerd.connect(daemon.socket, content_root=content_root) as store:
        return judge(store, request)


def judge(store: Store, request: collect.Request | None = None) -> Report:
    """Audit any store in this process."""
    outcome = audit.audit(store, request or collect.Request(), clock=lambda: datetime.now(UTC), pause=time.sleep)
    now = datetime.now(UTC)
    return build.report(outcome.evidence, outcome.findings, host="lab", started=now, finished=now, seconds=0)


def loud(report: Report) -> set[Named]:
    """The findings over info."""
    return {name(finding) for finding in report.findings if finding.severity is not Severity.INFO}


def quiet(report: Report) -> set[Named]:
    """The findings of severity info."""
    return {name(finding) for finding in report.findings if finding.severity is Severity.INFO}


def name(finding: Finding) -> Named:
    """A finding as tests name it."""
    return finding.code, finding.subject.id


def the(report: Report, code: str) -> Finding:
    """The only finding of a code."""
    (found,) = (finding for finding in report.findings if finding.code == code)
    return found


def status(report: Report) -> int:
    """The exit status that `check` would give."""
    return exit_status(report, FailOn.ERROR)


def assert_faults(daemon: Containerd, *wanted: Named, through_api: Sequence[Named] | None = None) -> Report:
    """Run the program, then look through the API alone: these findings, and no other over info.

    `through_api` is what the API alone shows, where that is something else. Returns the program's report.
    """
    ran = check(daemon)
    assert loud(ran.report) == set(wanted)
    assert ran.report.complete, ran.report.incomplete
    assert ran.status == (1 if any(f.severity.rank <= Severity.ERROR.rank for f in ran.report.findings) else 0)
    seen = look(daemon, content_root=None)
    assert loud(seen) == set(wanted if through_api is None else through_api)
    return ran.report


def assert_sound(daemon: Containerd) -> Report:
    """Run the program, then look through the API alone: nothing over info, and exit status 0. Returns the report."""
    report = assert_faults(daemon)
    assert {image.status for image in report.images} <= {"sound"}
    return report


@contextmanager
def signalled(*arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Start the program and hand it over, to be signalled and waited for; it does not outlive the block."""
    with subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment()
    ) as running:
        try:
            yield running
        finally:
            running.kill()
