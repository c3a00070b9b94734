"""`auditor repair`: check, print a plan, apply it, check again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from auditor.cli import options as o
from auditor.cli.arguments import Argument, Option
from auditor.cli.choices import FailOn, Format, Rebuild, Verify

EXAMPLES = """\
auditor repair --dry-run
auditor repair docker.io/library/nginx:1.27
auditor repair --verify digests --yes
auditor repair --from archive:/backup/nginx.tar --from registry --yes"""


def repair(
    images: Annotated[
        list[str] | None,
        Argument(
            metavar="IMAGE", help="Names, digests or ids; or digests of blobs. Default: all images.", show_default=False
        ),
    ] = None,
    verify: Annotated[
        Verify, Option("--verify", metavar="LEVEL", help="Verification level of the first check.")
    ] = Verify.PRESENCE,
    snapshots: Annotated[
        bool,
        Option("--snapshots", help="Also compare all unpacked files with their layers, and rebuild damaged snapshots."),
    ] = False,
    rebuild: Annotated[
        Rebuild | None,
        Option(
            "--rebuild",
            help="How --snapshots does it: exchange the directories under running containers (default), or replace: "
            "remove unused snapshots, with those above them, and unpack them again.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the plan and write nothing.")] = False,
    yes: Annotated[bool, Option("--yes", "-y", help="Apply the plan without asking.")] = False,
    sources: o.From = None,
    include_discarded: Annotated[
        bool,
        Option(
            "--include-discarded",
            group="Sources",
            help="Also fetch layers that the node discards by its configuration, and those of images of which only the "
            "documents were fetched.",
        ),
    ] = False,
    hosts_dir: o.HostsDir = o.HOSTS_DIR,
    docker_config: o.DockerConfig = None,
    jobs: Annotated[
        int, Option("--jobs", "-j", metavar="N", min=1, max=64, help="Number of blobs to repair at once.")
    ] = 4,
    keep_quarantine: Annotated[
        Path | None,
        Option("--keep-quarantine", metavar="DIR", help="Keep damaged copies in DIR.", show_default=False),
    ] = None,
    platform: o.Platforms = None,
    all_platforms: o.AllPlatforms = False,
    snapshotter: o.Snapshotters = None,
    fail_on: o.FailsOn = FailOn.ERROR,
    address: o.Address = None,
    namespace: o.Namespaces = None,
    output_format: o.PlainFormats = Format.TABLE,
    output: o.Output = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_progress: o.NoProgress = False,
    timeout: o.Timeout = 30.0,
    content_root: o.ContentRoot = "auto",
) -> int:
    """Restore missing and damaged blobs and unpacked files: check, print a plan, apply it, check again.

    Without --yes, ask for confirmation on a terminal; without a terminal, refuse. --dry-run writes nothing.

    The digest of a blob repairs this blob alone; the whole store is checked for that.

    Exit status: as of `auditor check`, for the last check; 2 if there is no terminal to ask on.
    """
    from auditor.audit.collect import Request
    from auditor.cli import connect
    from auditor.cli.output import check_target
    from auditor.cli.runs.repair import Session
    from auditor.cli.sources import choice
    from auditor.errors import UsageError
    from auditor.model import findings
    from auditor.repair import plan_snapshots
    from auditor.repair.session import RepairOptions

    check_target(output)
    _refuse_unasked(yes=yes, dry_run=dry_run)
    if rebuild is not None and not snapshots:
        raise UsageError("--rebuild needs --snapshots", hint="add --snapshots")
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
        verify=findings.Verify.SNAPSHOTS if snapshots else findings.Verify(verify),
        namespaces=common.namespaces,
        images=tuple(images or ()),
        platforms=connect.wanted_platforms(platform),
        all_platforms=all_platforms,
        snapshotters=tuple(snapshotter or ()),
        layers_wanted=include_discarded,
    )
    chosen = choice(sources, hosts_dir=hosts_dir, docker_config=docker_config)
    options = RepairOptions(
        include_discarded=include_discarded,
        jobs=jobs,
        quarantine=_kept(keep_quarantine, dry_run=dry_run),
        snapshots=plan_snapshots.Rebuild(rebuild or Rebuild.EXCHANGE) if snapshots else None,
    )
    session = Session(common, request, chosen, options, output_format, yes=yes, dry_run=dry_run)
    document = session.run()
    return session.publish(document, status=findings.exit_status(document.after, findings.FailOn(fail_on)))


def _refuse_unasked(*, yes: bool, dry_run: bool) -> None:
    import sys

    from auditor.errors import UsageError

    if not (yes or dry_run or (sys.stdin.isatty() and sys.stderr.isatty())):
        raise UsageError(
            "repair writes to the store, and there is no terminal to ask on",
            hint="--dry-run prints the plan, --yes applies it",
        )


def _kept(folder: Path | None, *, dry_run: bool) -> Path | None:
    from auditor.errors import UsageError

    if folder is None:
        return None
    try:
        if not dry_run:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make {folder}: {error.strerror}") from None
    return folder
