"""`auditor diagnose`: a digest, an image or a whole error message, explained."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from auditor.cli import options as o


class Format(enum.StrEnum):
    """How to print a diagnosis."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


def diagnose(
    text: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEXT", help="A digest or its beginning, an image, a message; - reads standard input."),
    ] = None,
    archive: Annotated[
        Path | None, typer.Option("--archive", metavar="PATH", help="Look into this archive, not at a daemon.")
    ] = None,
    message_only: Annotated[bool, typer.Option("--message-only", help="Look at no store at all.")] = False,
    address: o.Address = None,
    namespace: o.Namespaces = None,
    output_format: Annotated[Format, typer.Option("--format", "-f", help="How to print it.")] = Format.TEXT,
    output: o.Output = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_progress: o.NoProgress = False,
    timeout: o.Timeout = 30.0,
    content_root: o.ContentRoot = "auto",
) -> int:
    """Explain a digest, an image or an error message: what it is, the likely cause, and what helps.

    Exit status: 0 where nothing is wrong with what was asked about, 1 where a fault was found, 2 and 3 as of check.
    """
    from auditor.cli import asking
    from auditor.cli.diagnosing import page
    from auditor.cli.output import check_target, deliver
    from auditor.formats import diagnosis as formats
    from auditor.formats.jsonreport import to_json

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
    said = asking.read(text or [])
    answer, status = asking.answer(said, common, archive=archive, message_only=message_only)
    if output_format is Format.JSON:
        deliver(to_json(answer), output)
    else:
        render = formats.markdown if output_format is Format.MARKDOWN else formats.text
        deliver(render(page(answer)), output)
    return status
