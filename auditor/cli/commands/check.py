"""`auditor check`: the audit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from auditor.cli import options as o
from auditor.cli.arguments import Argument, Option
from auditor.cli.choices import CheckVerify, FailOn, ReportFormat

if TYPE_CHECKING:
    from auditor.audit.audit import AuditResult
    from auditor.model.findings import Report

Images = Annotated[
    list[str] | None,
    Argument(metavar="IMAGE", help="Names, digests or ids. Default: all images.", show_default=False),
]

EXAMPLES = """\
auditor check
auditor check docker.io/library/nginx:1.27
auditor check --verify digests --limit-rate 50MiB
auditor check --format json --output report.json
auditor check --every 6h --jitter 30m --listen :9469"""


def check(
    images: Images = None,
    verify: Annotated[
        CheckVerify, Option("--verify", metavar="LEVEL", help="Verification level.")
    ] = CheckVerify.PRESENCE,
    platform: o.Platforms = None,
    all_platforms: o.AllPlatforms = False,
    snapshotter: o.Snapshotters = None,
    fail_on: o.FailsOn = FailOn.ERROR,
    jobs: o.Jobs = None,
    limit_rate: o.LimitRate = None,
    max_layer_size: o.MaxLayer = None,
    address: o.Address = None,
    root: o.Root = None,
    while_running: o.WhileRunning = False,
    namespace: o.Namespaces = None,
    every: Annotated[
        str | None,
        Option(
            "--every",
            group="Repetition",
            metavar="TIME",
            help="Repeat the check at this interval, for example 6h.",
            show_default=False,
        ),
    ] = None,
    jitter: Annotated[
        str,
        Option("--jitter", group="Repetition", metavar="TIME", help="With --every: add a random delay of up to this."),
    ] = "0s",
    listen: Annotated[
        str | None,
        Option(
            "--listen",
            group="Repetition",
            metavar="HOST:PORT",
            help="With --every: serve /metrics and /healthz on this address.",
            show_default=False,
        ),
    ] = None,
    can_serve: Annotated[
        bool,
        Option("--can-serve", group="Readiness", help="Report what a peer-to-peer mirror could serve from this node."),
    ] = False,
    can_unpack: Annotated[
        str | None,
        Option(
            "--can-unpack",
            group="Readiness",
            metavar="SNAPSHOTTER",
            help="Report which images could be unpacked for this snapshotter without pulling them again.",
            show_default=False,
        ),
    ] = None,
    output_format: o.ReportFormats = ReportFormat.TABLE,
    output: o.Output = None,
    textfile: o.Textfile = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_progress: o.NoProgress = False,
    timeout: o.Timeout = 30.0,
    content_root: o.ContentRoot = "auto",
) -> int:
    """Check every image and report each fault with its cause.

    --verify presence checks records, documents and file sizes. --verify digests also reads and hashes every blob.
    --verify layers also decompresses every layer and compares its diffID. --verify snapshots also compares the
    unpacked files with their layers. --verify snapshots-quick checks presence and the disk usage of unpacked files.

    Exit status: 0 no findings, 1 findings at or above --fail-on, 2 invalid usage, 3 not everything could be checked.
    """
    from functools import partial

    from auditor.audit.collect import Request
    from auditor.cli import audit, connect, prover
    from auditor.cli.output import check_target, echo_limits
    from auditor.cli.publish import failure_told, metrics_places, publish
    from auditor.cli.render import tells_trees
    from auditor.cli.units import size
    from auditor.formats import sanitize
    from auditor.model import findings

    check_target(output)
    check_target(textfile)
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
    request = Request(
        verify=findings.Verify(verify),
        namespaces=common.namespaces,
        images=tuple(images or ()),
        platforms=connect.wanted_platforms(platform),
        all_platforms=all_platforms,
        snapshotters=tuple(snapshotter or ()),
    )
    limit, bound = prover.pace(limit_rate), size(max_layer_size) if max_layer_size else None
    echo_limits(
        quiet=quiet,
        reading=f"{sanitize.size(limit.rate)}/s" if limit else None,
        layers=sanitize.size(bound) if bound else None,
    )
    failing = findings.FailOn(fail_on)
    told = partial(
        failure_told, metrics_places(common, output_format, textfile), command="check", address=address or ""
    )

    def once() -> tuple[Report, int]:
        with told(), connect.read_store(common, without_records=True) as store:
            reader = prover.reader(store, request.verify, jobs=jobs, limit=limit, max_layer=bound)
            result, report = audit.audited(store, request, common, reader=reader, trees=tells_trees(output_format))
        report = _with_readiness(report, result, serve=can_serve, snapshotter=can_unpack)
        status = findings.exit_status(report, failing)
        return report, publish(report, common, output_format, status=status, fail_on=failing, textfile=textfile)

    if every is None:
        _refuse_alone(jitter=jitter, listen=listen)
        return once()[1]
    from auditor.cli.runs.check_every import repeat, schedule

    return repeat(once, schedule(every, jitter), listen=listen, address=address or "")


def _with_readiness(report: Report, result: AuditResult, *, serve: bool, snapshotter: str | None) -> Report:
    """Add what was asked for with --can-serve and --can-unpack."""
    from msgspec.structs import replace

    if serve:
        from auditor.report.can_serve import can_serve

        report = replace(report, can_serve=can_serve(result.evidence, result.findings))
    if snapshotter is not None:
        from auditor.report.can_unpack import can_unpack

        report = replace(report, can_unpack=can_unpack(result.evidence, result.findings, snapshotter))
    return report


def _refuse_alone(*, jitter: str, listen: str | None) -> None:
    from auditor.errors import UsageError

    for option, given in (("--jitter", jitter != "0s"), ("--listen", listen is not None)):
        if given:
            raise UsageError(f"{option} needs --every", hint="add --every 6h")
