"""`auditor watch`: look at each image when its pull has settled."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from auditor.cli import options as o
from auditor.cli.arguments import Option
from auditor.cli.choices import Format

EXAMPLES = """\
auditor watch
auditor watch --state /var/lib/containerd-auditor/watch.json
auditor watch --format json --exec '/usr/local/bin/notify --quiet'"""


def watch(
    every: Annotated[
        str,
        Option("--every", metavar="TIME", help="Also check everything at this interval: files, collections, labels."),
    ] = "1h",
    state: Annotated[
        Path | None,
        Option(
            "--state",
            metavar="FILE",
            help="Record reported findings in FILE; a restart does not report them again.",
            show_default=False,
        ),
    ] = None,
    execute: Annotated[
        str | None,
        Option(
            "--exec",
            metavar="COMMAND",
            help="Run COMMAND for each change, with the finding as JSON on its standard input.",
            show_default=False,
        ),
    ] = None,
    listen: Annotated[
        str | None,
        Option(
            "--listen", metavar="HOST:PORT", help="Serve /metrics and /healthz on this address.", show_default=False
        ),
    ] = None,
    textfile: o.Textfile = None,
    output_format: o.PlainFormats = Format.TABLE,
    address: o.Address = None,
    timeout: o.Timeout = 30.0,
    content_root: o.ContentRoot = "auto",
) -> int:
    """Check each image once its pull has settled; report findings that are new, changed or gone.

    It subscribes to the daemon's events and looks at each image by a few calls. It checks everything at the start, at
    each interval, after the connection was lost, and where a look finds something. What has no event (a file that was
    damaged or deleted, a garbage collection) is found at the interval. It also runs while the daemon restarts.

    Exit status: 0 after SIGTERM or SIGINT; 2 invalid usage; 3 if the state cannot be read.
    """
    from auditor.cli.output import check_target
    from auditor.cli.runs import watch as run

    check_target(state)
    check_target(textfile)
    common = o.common(
        address=address,
        namespaces=None,
        output=None,
        quiet=True,
        verbose=False,
        no_progress=True,
        timeout=timeout,
        content_root=content_root,
    )
    wish = run.Wish(
        every=run.interval(every),
        state=state,
        command=run.words(execute),
        listen=listen,
        textfile=textfile,
        as_json=output_format is Format.JSON,
    )
    return run.watch(common, wish)
