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
    max_duration: Annotated[
        str, typer.Option("--max-duration", metavar="TIME", help="Read bytes no longer than this.")
    ] = "20s",
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

    Exit status: 0 where nothing is wrong with what was asked about or it is absent by design, 1 where a fault was
    found, 3 where nothing could be looked at or nothing that was named is known, 2 as of check.
    """
    from auditor.cli.output import check_target, deliver
    from auditor.cli.runs import diagnose as run
    from auditor.cli.runs.diagnosis_page import page
    from auditor.cli.units import duration
    from auditor.formats import diagnosis as formats
    from auditor.formats.json_report import to_json

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
    if archive is not None and (message_only or not archive.exists()):
        raise _unusable(archive, message_only=message_only)
    budget = duration(max_duration)
    question = run.Question(mentions=run.read(text or []), archive=archive, message_only=message_only, budget=budget)
    answer, status = run.answer(question, common)
    if output_format is Format.JSON:
        deliver(to_json(run.without_credentials(answer)), output)
    else:
        render = formats.markdown if output_format is Format.MARKDOWN else formats.text
        deliver(render(page(run.without_credentials(answer))), output)
    return status


def _unusable(archive: Path, *, message_only: bool) -> Exception:
    from auditor.errors import UsageError

    if message_only:
        return UsageError("--archive and --message-only exclude each other", hint="leave one of them out")
    return UsageError(f"there is no {archive}", hint="name an archive or a layout folder")
