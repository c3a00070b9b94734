"""`auditor diagnose`: explain a digest, an image or an error message."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

from auditor.cli import options as o
from auditor.cli.arguments import Argument, Option
from auditor.errors import UsageError

EXAMPLES = """\
auditor diagnose 'content digest sha256:0a37…: not found'
auditor diagnose 0a37c1d2
auditor diagnose docker.io/library/nginx:1.27
journalctl -u containerd --since -1h | auditor diagnose -"""


class Format(enum.StrEnum):
    """Output formats of a diagnosis."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


def diagnose(
    text: Annotated[
        list[str] | None,
        Argument(
            metavar="TEXT", help="A digest or its first digits, an image, or an error message; - reads standard input."
        ),
    ] = None,
    archive: Annotated[
        Path | None, Option("--archive", metavar="PATH", help="Read this archive instead of a daemon.")
    ] = None,
    message_only: Annotated[
        bool, Option("--message-only", help="Explain the message without reading a store.")
    ] = False,
    max_duration: Annotated[
        str, Option("--max-duration", metavar="TIME", help="Time limit for reading content.")
    ] = "20s",
    address: o.Address = None,
    root: o.Root = None,
    while_running: o.WhileRunning = False,
    namespace: o.Namespaces = None,
    platform: o.Platforms = None,
    output_format: Annotated[Format, Option("--format", "-f", group="Output", help="Output format.")] = Format.TEXT,
    output: o.Output = None,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_progress: o.NoProgress = False,
    timeout: o.Timeout = 30.0,
    content_root: o.ContentRoot = "auto",
) -> int:
    """Explain a digest, an image or an error message: what it is, the likely cause, and the remedy.

    Exit status: 0 no fault, or absent by design; 1 a fault was found; 2 invalid usage; 3 the store could not be read,
    or does not know anything that the text names.
    """
    from auditor.cli import connect
    from auditor.cli.output import check_target, deliver, refuse_below
    from auditor.cli.runs import diagnose as run
    from auditor.cli.runs.diagnosis_page import page
    from auditor.cli.units import duration
    from auditor.formats import diagnosis as formats
    from auditor.formats.json_report import to_json

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
    if archive is not None and root is not None:
        raise UsageError("--archive and --root exclude each other", hint="leave one of them out")
    if archive is not None and (message_only or not archive.exists()):
        raise _unusable(archive, message_only=message_only)
    budget = duration(max_duration)
    question = run.Question(
        mentions=run.read(text or []),
        archive=archive,
        message_only=message_only,
        budget=budget,
        platforms=connect.wanted_platforms(platform),
    )
    answer, status = run.answer(question, common)
    if output_format is Format.JSON:
        deliver(to_json(run.without_credentials(answer)), output)
    else:
        render = formats.markdown if output_format is Format.MARKDOWN else formats.text
        deliver(render(page(run.without_credentials(answer))), output)
    return status


def _unusable(archive: Path, *, message_only: bool) -> UsageError:
    if message_only:
        return UsageError("--archive and --message-only exclude each other", hint="leave one of them out")
    return UsageError(f"there is no {archive}", hint="name an archive or a layout folder")
