"""`auditor tree`: print the descriptor graph of an image with the state of each node."""

from __future__ import annotations

import enum
from typing import Annotated

from auditor.cli import options as o
from auditor.cli.arguments import Argument, Option
from auditor.cli.choices import CheckVerify

EXAMPLES = """\
auditor tree docker.io/library/nginx:1.27
auditor tree --all-platforms nginx:1.27
auditor tree --verify snapshots nginx:1.27
auditor tree nginx:1.27 --format dot --output nginx.dot"""


class Format(enum.StrEnum):
    """Output formats of a tree."""

    TABLE = "table"
    JSON = "json"
    DOT = "dot"


def tree(
    images: Annotated[list[str], Argument(metavar="IMAGE", help="Names, digests or ids.")],
    platform: o.Platforms = None,
    all_platforms: o.AllPlatforms = False,
    snapshotter: o.Snapshotters = None,
    verify: Annotated[
        CheckVerify, Option("--verify", metavar="LEVEL", help="Verification level.")
    ] = CheckVerify.PRESENCE,
    address: o.Address = None,
    root: o.Root = None,
    while_running: o.WhileRunning = False,
    namespace: o.Namespaces = None,
    output_format: Annotated[Format, Option("--format", "-f", group="Output", help="Output format.")] = Format.TABLE,
    output: o.Output = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_progress: o.NoProgress = False,
    timeout: o.Timeout = 30.0,
    content_root: o.ContentRoot = "auto",
) -> int:
    """Print the descriptor graph of an image: index, manifests, configs, layers, their state and its cause.

    A layer that is unpacked names the snapshotters; where its files were looked at, with their state (--verify).
    --format dot is for Graphviz: auditor tree IMAGE -f dot | dot -Tsvg -o image.svg. Exit status: as of check.
    """
    import sys

    from auditor.audit.collect import Request
    from auditor.cli import audit, connect, prover
    from auditor.cli.output import check_target, deliver, print_message, refuse_below
    from auditor.formats.json_report import to_json
    from auditor.formats.sanitize import plain
    from auditor.formats.tree import render_dot, render_text
    from auditor.model.findings import FailOn, Verify, exit_status
    from auditor.report.image_tree import trees

    check_target(output)
    refuse_below(root, output)
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
    )
    request = Request(
        verify=Verify(verify),
        namespaces=common.namespaces,
        images=tuple(images),
        platforms=connect.wanted_platforms(platform),
        all_platforms=all_platforms,
        snapshotters=tuple(snapshotter or ()),
    )
    with connect.read_store(common) as store:
        outcome, report = audit.audited(store, request, common, reader=prover.reader(store, request.verify))
    drawn = trees(outcome.evidence, outcome.findings)
    if output_format is Format.JSON:
        text = to_json(drawn)
    elif output_format is Format.DOT:
        text = render_dot(drawn)
    else:
        colour = o.colour(output is None and sys.stdout.isatty())
        text = "\n".join(render_text(each, colour=colour) for each in drawn)
    deliver(text, output)
    for reason in report.incomplete:
        print_message(f"note: {plain(reason)}")
    if not quiet and verify in (CheckVerify.PRESENCE, CheckVerify.SNAPSHOTS_QUICK):
        print_message("contents not read (auditor check --verify digests reads them)")
    return exit_status(report, FailOn.ERROR)
