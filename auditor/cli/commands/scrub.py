"""`auditor scrub`: verify content within a budget, and record the results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from auditor.cli import options as o
from auditor.cli.arguments import Option
from auditor.cli.choices import Depth, FailOn, ReportFormat

if TYPE_CHECKING:
    from auditor.model.findings import Report

#: Default of --state.
STATE = Path("/var/lib/containerd-auditor/state.db")

EXAMPLES = """\
auditor scrub --max-duration 30m --limit-rate 50MiB
auditor scrub --snapshots --max-duration 30m --limit-rate 50MiB
auditor scrub --known-bad
auditor scrub --new-only --format prometheus --output /run/auditor.prom
auditor scrub --every 24h --max-duration 30m --limit-rate 50MiB"""


def scrub(
    state: Annotated[Path, Option("--state", metavar="FILE", help="File that records the results.")] = STATE,
    max_age: Annotated[
        str, Option("--max-age", metavar="TIME", help="Verify again after this long, for example 7d.")
    ] = "7d",
    max_duration: Annotated[
        str | None,
        Option("--max-duration", metavar="TIME", help="Stop after this long, for example 30m.", show_default=False),
    ] = None,
    limit_rate: o.LimitRate = None,
    jobs: o.Jobs = None,
    max_layer_size: o.MaxLayer = None,
    known_bad: Annotated[bool, Option("--known-bad", help="Only what was found damaged before.")] = False,
    new_only: Annotated[bool, Option("--new-only", help="Only what was never verified.")] = False,
    snapshots: Annotated[
        bool, Option("--snapshots", help="Also compare unpacked files with their layers, as check --verify snapshots.")
    ] = False,
    verify: Annotated[Depth, Option("--verify", metavar="LEVEL", help="Verification level.")] = Depth.DIGESTS,
    allow_empty: o.AllowEmpty = False,
    fail_on: o.FailsOn = FailOn.ERROR,
    address: o.Address = None,
    root: o.Root = None,
    while_running: o.WhileRunning = False,
    namespace: o.Namespaces = None,
    every: o.Every = None,
    jitter: o.Jitter = "0s",
    listen: o.Listen = None,
    output_format: o.ReportFormats = ReportFormat.TABLE,
    output: o.Output = None,
    textfile: o.Textfile = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_progress: o.NoProgress = False,
    timeout: o.Timeout = 30.0,
    content_root: o.ContentRoot = "auto",
) -> int:
    """Verify the store's content in the background: what was damaged first, then what is new, then the oldest results.

    A killed scrub continues where it stopped. Exit status: as of check; reaching a limit is not an error.
    """
    from auditor.audit.collect import Request
    from auditor.cli import connect, prover
    from auditor.cli.metrics_files import failure_told, metrics_places
    from auditor.cli.output import check_target, echo_limits, refuse_below
    from auditor.cli.publish import publish
    from auditor.cli.runs import scrub as run
    from auditor.cli.units import duration, pace, shown, size
    from auditor.formats import sanitize
    from auditor.model import findings

    check_target(output)
    check_target(textfile)
    refuse_below(root, output, textfile, state)
    common = o.common(
        address=address,
        namespaces=namespace,
        output=output,
        quiet=quiet,
        verbose=verbose,
        no_progress=no_progress,
        timeout=timeout,
        content_root=content_root,
        root=root,
        while_running=while_running,
        stream=output_format is ReportFormat.NDJSON and output is None,
    )
    budget = run.Budget(
        max_age=duration(max_age),
        max_duration=duration(max_duration) if max_duration else None,
        pace=pace(limit_rate),
        jobs=jobs or prover.default_jobs(),
        max_layer=size(max_layer_size) if max_layer_size else None,
        known_bad=known_bad,
        new_only=new_only,
        snapshots=snapshots,
    )
    echo_limits(
        quiet=quiet or (max_duration is None and budget.pace is None and budget.max_layer is None),
        time=shown(budget.max_duration) if budget.max_duration is not None else None,
        reading=f"{sanitize.size(budget.pace.rate)}/s" if budget.pace else None,
        layers=sanitize.size(budget.max_layer) if budget.max_layer else None,
        age=shown(budget.max_age),
    )
    request = Request(verify=findings.Verify(verify), namespaces=common.namespaces, allow_empty=allow_empty)
    o.require_every(every, jitter=jitter, listen=listen)
    failing = findings.FailOn(fail_on)
    places = metrics_places(common, output_format, textfile)

    def once() -> tuple[Report, int]:
        with failure_told(places, command="scrub", address=common.address or ""), connect.read_store(common) as store:
            report = run.scrubbed(store, request, common, budget, state)
        status = findings.exit_status(report, failing)
        published = publish(
            report, common, output_format, status=status, fail_on=failing, command="scrub", textfile=textfile
        )
        return report, published

    if every is None:
        return once()[1]
    from auditor.cli.runs.every import repeat, schedule

    return repeat(once, schedule(every, jitter), listen=listen, command="scrub", address=common.address or "")
