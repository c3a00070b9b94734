"""`auditor check`: the audit."""

from __future__ import annotations

from typing import Annotated

import typer

from auditor.cli import options as o
from auditor.cli.choices import FailOn, Format, Verify

Images = Annotated[
    list[str] | None,
    typer.Argument(metavar="IMAGE", help="Names, digests or ids; all images by default.", show_default=False),
]


def check(
    images: Images = None,
    verify: Annotated[Verify, typer.Option("--verify", help="How hard to look.")] = Verify.PRESENCE,
    platform: o.Platforms = None,
    all_platforms: o.AllPlatforms = False,
    snapshotter: o.Snapshotters = None,
    fail_on: Annotated[FailOn, typer.Option("--fail-on", help="From which severity on to exit with 1.")] = FailOn.ERROR,
    address: o.Address = None,
    namespace: o.Namespaces = None,
    output_format: Annotated[Format, typer.Option("--format", "-f", help="How to print the report.")] = Format.TABLE,
    output: o.Output = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_progress: o.NoProgress = False,
    timeout: o.Timeout = 30.0,
    content_root: o.ContentRoot = "auto",
) -> int:
    """Walk every image and name what is wrong.

    Exit status: 0 sound, 1 findings at or over --fail-on, 2 wrong usage, 3 could not audit all of it.
    """
    from auditor import findings
    from auditor.audit import Request
    from auditor.cli import run
    from auditor.cli.output import check_target
    from auditor.cli.publish import publish

    check_target(output)
    common = o.common(
        address=address,
        namespaces=namespace,
        output=output,
        quiet=quiet,
        verbose=verbose,
        no_progress=no_progress,
        timeout=timeout,
        content_root=content_root,
    )
    request = Request(
        verify=findings.Verify(verify),
        namespaces=common.namespaces,
        images=tuple(images or ()),
        platforms=run.wanted_platforms(platform),
        all_platforms=all_platforms,
        snapshotters=tuple(snapshotter or ()),
    )
    with run.connected(common) as store:
        _, report = run.audited(store, request, common)
    return publish(report, common, output_format, status=findings.exit_status(report, findings.FailOn(fail_on)))
