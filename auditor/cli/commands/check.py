"""`auditor check`: the audit."""
# Annotations are no texts here: to evaluate texts would take a millisecond of each check.

from functools import partial
from typing import Annotated

from auditor.cli import options as o
from auditor.cli.arguments import Argument, Option
from auditor.cli.choices import CheckVerify, FailOn, ReportFormat

Images = Annotated[
    list[str] | None,
    Argument(metavar="IMAGE", help="Names, digests or ids. Default: all images.", show_default=False),
]

EXAMPLES = """\
auditor check
auditor check docker.io/library/nginx:1.27
auditor check --verify digests --limit-rate 50MiB
auditor check --format json --output report.json
auditor check --address all --textfile /var/lib/node_exporter/auditor.prom
auditor check --every 6h --jitter 30m --listen :9469"""


def check(
    images: Images = None,
    verify: Annotated[
        CheckVerify, Option("--verify", metavar="LEVEL", help="Verification level.")
    ] = CheckVerify.PRESENCE,
    since_crash: Annotated[
        bool,
        Option("--since-crash", help="Check only the files of snapshots that were unpacked just before a crash."),
    ] = False,
    platform: o.Platforms = None,
    all_platforms: o.AllPlatforms = False,
    snapshotter: o.Snapshotters = None,
    allow_empty: o.AllowEmpty = False,
    fail_on: o.FailsOn = FailOn.ERROR,
    jobs: o.Jobs = None,
    limit_rate: o.LimitRate = None,
    max_layer_size: o.MaxLayer = None,
    address: o.Addresses = None,
    root: o.Root = None,
    while_running: o.WhileRunning = False,
    namespace: o.Namespaces = None,
    every: o.Every = None,
    jitter: o.Jitter = "0s",
    listen: o.Listen = None,
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
    --since-crash checks only missing directories, and file sizes of snapshots unpacked in the minute before the last
    write before each boot or start of the daemon; --verify presence includes it.

    Several --address give one report each, merged by formats that merge (json, html, markdown: as auditor report).

    Exit status: 0 no findings, 1 findings at or above --fail-on, 2 invalid usage, 3 not everything could be checked.
    """
    from auditor.cli import connect
    from auditor.cli.output import check_target, refuse_below
    from auditor.cli.runs import check as run

    check_target(output)
    check_target(textfile)
    refuse_below(root, output, textfile)
    wanted = o.addresses(address)
    common = o.common(
        address=[*wanted[:1]] if root is not None else None,
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
    wish = run.Wish(
        images=tuple(images or ()),
        verify=run.level(verify, since_crash=since_crash, root=root),
        platforms=connect.wanted_platforms(platform),
        all_platforms=all_platforms,
        snapshotters=tuple(snapshotter or ()),
        allow_empty=allow_empty,
        fail_on=fail_on,
        jobs=jobs,
        limit_rate=limit_rate,
        max_layer_size=max_layer_size,
        can_serve=can_serve,
        can_unpack=can_unpack,
        output_format=output_format,
        textfile=textfile,
    )
    o.require_every(every, jitter=jitter, listen=listen)
    daemons = run.daemons(common, wish, wanted, repeated=every is not None)
    prepared = run.prepare(common, wish)
    if len(daemons) > 1:
        from auditor.cli.runs.check_several import check_each

        return check_each(prepared, daemons)
    once = partial(prepared.once, daemons[0])
    if every is None:
        return once()[1]
    from auditor.cli.runs.every import repeat, schedule

    return repeat(once, schedule(every, jitter), listen=listen, command="check", address=daemons[0].address or "")
