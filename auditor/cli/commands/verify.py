"""`auditor verify`: audit archives and OCI layouts."""

from __future__ import annotations

from typing import Annotated

from auditor.cli import options as o
from auditor.cli.arguments import Argument, Option
from auditor.cli.choices import FailOn, ReportFormat, Verify


def verify(
    paths: Annotated[list[str], Argument(metavar="PATH", help="Archives or layout folders; - reads a pipe.")],
    depth: Annotated[
        Verify, Option("--verify", help="How hard to look; layers decompresses each to its diffID.")
    ] = Verify.LAYERS,
    platform: o.Platforms = None,
    all_platforms: o.AllPlatforms = False,
    max_layer_size: o.MaxLayer = None,
    fail_on: Annotated[FailOn, Option("--fail-on", help="From which severity on to exit with 1.")] = FailOn.ERROR,
    output_format: Annotated[
        ReportFormat, Option("--format", "-f", help="How to print the report.")
    ] = ReportFormat.TABLE,
    output: o.Output = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_progress: o.NoProgress = False,
) -> int:
    """Audit archives: of ctr, docker save, podman save, skopeo, buildah, nerdctl; OCI layouts; plain, gzip or zstd.

    Each is read once, in constant memory, and never unpacked. The platforms that an archive holds are wanted unless
    others are asked for. Exit status as of check, the worst of all archives.
    """
    from auditor.cli import connect
    from auditor.cli.output import check_target
    from auditor.cli.runs import verify as run
    from auditor.cli.units import size
    from auditor.model import findings

    check_target(output)
    common = o.common(
        address=None,
        namespaces=None,
        output=output,
        quiet=quiet,
        verbose=verbose,
        no_progress=no_progress,
        timeout=30.0,
        content_root="none",
    )
    wish = run.Wish(
        depth=findings.Verify(depth),
        platforms=connect.wanted_platforms(platform),
        all_platforms=all_platforms,
        max_layer=size(max_layer_size) if max_layer_size else None,
    )
    reports = [run.verified(path, wish, common) for path in run.distinct(paths)]
    return run.publish_all(reports, common, output_format, fail_on=findings.FailOn(fail_on))
