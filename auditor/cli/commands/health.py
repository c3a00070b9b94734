"""`auditor health`: answer monitoring systems from the last saved report, without an audit."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from auditor.report.health import Health

app = typer.Typer(
    name="health",
    help="Answer monitoring systems from the last saved report, without reading the store.",
    rich_markup_mode=None,
)

Saved = Annotated[Path, typer.Argument(metavar="REPORT", help="The file that `check --format json --output` writes.")]
MaxAge = Annotated[str, typer.Option("--max-age", metavar="TIME", help="Maximum age of the report, for example 26h.")]


class Level(enum.StrEnum):
    """Severities for thresholds."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"


@app.command()
def nagios(
    report: Saved,
    max_age: MaxAge = "26h",
    critical: Annotated[
        Level, typer.Option("--critical", "-c", metavar="SEVERITY", help="Lowest severity that is CRITICAL.")
    ] = Level.CRITICAL,
    warning: Annotated[
        Level, typer.Option("--warning", "-w", metavar="SEVERITY", help="Lowest severity that is WARNING.")
    ] = Level.WARNING,
) -> int:
    """Answer as a monitoring plugin: exit 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN."""
    from auditor.formats import health as protocol

    found = _health(report, max_age=max_age, critical=critical, warning=warning)
    _print(protocol.render_nagios(found))
    return protocol.NAGIOS_STATUS[found.state]


@app.command()
def npd(
    report: Saved,
    max_age: MaxAge = "26h",
    fail_on: Annotated[
        Level, typer.Option("--fail-on", metavar="SEVERITY", help="Lowest severity that is a problem.")
    ] = Level.ERROR,
) -> int:
    """Answer node-problem-detector: exit 0 OK, 1 a problem, 2 unknown; at most 80 bytes."""
    from auditor.formats import health as protocol

    found = _health(report, max_age=max_age, critical=fail_on, warning=fail_on)
    _print(protocol.render_npd(found) + "\n")
    return protocol.NPD_STATUS[found.state]


def _health(path: Path, *, max_age: str, critical: Level, warning: Level) -> Health:
    from datetime import UTC, datetime

    from auditor.cli.units import duration
    from auditor.regular_file import read_regular
    from auditor.report import health

    thresholds = health.Thresholds(critical=str(critical), warning=str(warning), max_age=duration(max_age))
    try:
        raw = read_regular(path, limit=health.MAX_REPORT)
    except OSError as error:
        return health.unknown(f"no report: {(error.strerror or str(error)).lower()}: {path}")
    return health.judge(raw, now=datetime.now(UTC), thresholds=thresholds)


def _print(text: str) -> None:
    from auditor.cli.output import deliver

    deliver(text, None)
