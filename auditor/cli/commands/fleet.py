"""`auditor fleet`: the reports of thousands of nodes as one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from auditor.cli import options as o
from auditor.cli.arguments import Argument, Option
from auditor.cli.choices import FleetFormat

EXAMPLES = """\
auditor fleet reports/ --nodes nodes.csv
auditor fleet 'reports/*/2026-11-28.json.zst' --older reports-of-last-week/
auditor fleet reports/ --format html --output fleet.html"""


def fleet(
    paths: Annotated[
        list[str],
        Argument(
            metavar="PATH",
            help="Reports of --format json or ndjson, plain, gzip or zstd; folders; patterns such as 'r/*.json'.",
        ),
    ],
    nodes: Annotated[
        Path | None,
        Option(
            "--nodes",
            metavar="FILE",
            help="The nodes that should report: a name per line, or CSV with a column host, whose other columns (rack, "
            "zone, disk) are searched for what damaged nodes share.",
            show_default=False,
        ),
    ] = None,
    older: Annotated[
        list[str] | None,
        Option(
            "--older",
            metavar="PATH",
            help="Reports of an earlier day: count new, gone and unchanged findings. Repeatable.",
            show_default=False,
        ),
    ] = None,
    max_age: Annotated[
        str | None,
        Option(
            "--max-age",
            metavar="TIME",
            help="Older reports, and those from the future, are outdated, for example 26h.",
            show_default=False,
        ),
    ] = None,
    max_file_size: Annotated[
        str,
        Option("--max-file-size", metavar="SIZE", help="Most bytes of one report after decompression."),
    ] = "64MiB",
    export_parquet: Annotated[
        Path | None,
        Option(
            "--export-parquet",
            group="Output",
            metavar="DIR",
            help="Also write tables for DuckDB, Spark, Trino, Athena or BigQuery; needs the extra [fleet].",
            show_default=False,
        ),
    ] = None,
    jobs: o.Jobs = None,
    output_format: Annotated[
        FleetFormat, Option("--format", "-f", group="Output", help="Output format.")
    ] = FleetFormat.TABLE,
    output: o.Output = None,
    quiet: o.Quiet = False,
    verbose: Annotated[
        bool, Option("--verbose", "-v", group="Output", help="List everything, not the first 20 of each part.")
    ] = False,
) -> int:
    """Show the reports of thousands of nodes as one picture.

    It lists what damaged nodes have in common, each damaged digest with the nodes that have a verified copy, the worst
    nodes, and the nodes without a report. Nodes without problems are counted. The newest report of each store counts.
    Exit status: 1 with damage (findings of error or critical) on any node; 3 where a file could not be read, a node is
    silent, outdated or not fully checked; else 0.
    """
    from auditor.cli.output import check_target
    from auditor.cli.runs import fleet as run
    from auditor.cli.units import duration, size

    check_target(output)
    wish = run.Wish(
        paths=tuple(paths),
        nodes=nodes,
        older=tuple(older or ()),
        max_age=duration(max_age) if max_age else None,
        limit=size(max_file_size),
        parquet=export_parquet,
        jobs=jobs,
    )
    return run.fleet(wish, output_format=output_format, output=output, quiet=quiet, verbose=verbose)
