"""`auditor verify`: audit archives and OCI layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from auditor.cli import options as o
from auditor.cli.arguments import Argument, Option
from auditor.cli.choices import FailOn, ReportFormat, Verify

EXAMPLES = """\
auditor verify nginx.tar
auditor verify backup/*.tar.gz some-oci-layout/
ctr images export - docker.io/library/nginx:1.27 | auditor verify -"""


def verify(
    paths: Annotated[
        list[str], Argument(metavar="PATH", help="Archives or OCI layout folders; - reads standard input.")
    ],
    depth: Annotated[Verify, Option("--verify", metavar="LEVEL", help="Verification level.")] = Verify.LAYERS,
    platform: o.ArchivePlatforms = None,
    all_platforms: o.AllPlatforms = False,
    max_layer_size: o.MaxLayer = None,
    blobs: Annotated[
        Path | None,
        Option(
            "--blobs",
            metavar="DIR",
            help="Shared folder with blobs of the archives: DIR/sha256/...",
            show_default=False,
        ),
    ] = None,
    sparse: Annotated[
        bool, Option("--sparse", help="Absent blobs are absent on purpose; verify those that are present.")
    ] = False,
    fail_on: o.FailsOn = FailOn.ERROR,
    output_format: o.ReportFormats = ReportFormat.TABLE,
    output: o.Output = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_progress: o.NoProgress = False,
) -> int:
    """Check archives and OCI layouts: of ctr, docker save, podman save, skopeo, buildah, nerdctl; compressed or not.

    Each archive is read once, in constant memory, and not unpacked.
    Exit status: as of check, the worst of all archives.
    """
    from auditor.cli import connect
    from auditor.cli.output import check_target, echo_limits
    from auditor.cli.runs import verify as run
    from auditor.cli.units import size
    from auditor.formats import sanitize
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
        blobs=run.shared(blobs),
        sparse=sparse,
    )
    echo_limits(quiet=quiet, layers=sanitize.size(wish.max_layer) if wish.max_layer else None)
    reports = run.verified_all(run.distinct(paths), wish, common)
    return run.publish_all(reports, common, output_format, fail_on=findings.FailOn(fail_on))
