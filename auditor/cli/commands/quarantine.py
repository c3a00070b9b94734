"""`auditor quarantine`: list and delete the old files of rebuilt snapshots."""

from __future__ import annotations

from typing import Annotated

import typer

from auditor.cli import options as o
from auditor.cli.arguments import Argument, Option
from auditor.cli.choices import Format
from auditor.cli.program import annotated

app = typer.Typer(
    name="quarantine",
    help="List and delete the old files of snapshots that `repair --snapshots` rebuilt.",
    rich_markup_mode=None,
)


def list_entries(
    address: o.Address = None,
    output_format: o.PlainFormats = Format.TABLE,
    timeout: o.Timeout = 30.0,
) -> int:
    """List the old files that are kept, and why: a container that started before the rebuild may use them.

    Exit status: 0; 3 if containerd or the quarantine cannot be read.
    """
    from auditor.cli.output import deliver
    from auditor.cli.runs import quarantine as run
    from auditor.formats.quarantine import render

    document = run.listed(o.one_address(address), timeout=timeout)
    deliver(render(document, as_json=output_format is Format.JSON), None)
    return 0


def drop(
    entries: Annotated[
        list[str] | None,
        Argument(metavar="ID", help="Ids of `auditor quarantine list`. Default: all unused ones.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Print what would be deleted.")] = False,
    address: o.Address = None,
    output_format: o.PlainFormats = Format.TABLE,
    timeout: o.Timeout = 30.0,
) -> int:
    """Delete the old files that are proven unused: no container that started before the rebuild is left.

    Exit status: 0; 1 if a named entry is in use and kept; 2 if there is no such entry; 3 if it cannot be deleted.
    """
    from auditor.cli.output import deliver
    from auditor.cli.runs import quarantine as run
    from auditor.formats.quarantine import render

    wanted = tuple(entries or ())
    document = run.dropped(o.one_address(address), wanted, timeout=timeout, dry_run=dry_run)
    deliver(render(document, as_json=output_format is Format.JSON), None)
    return int(bool(wanted) and any(row.reason for row in document.entries))


app.command(name="list")(annotated(list_entries))
app.command(name="drop")(annotated(drop))
