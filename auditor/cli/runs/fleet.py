"""The run of `auditor fleet`: list the files, read them in a pool, answer, print."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import msgspec

from auditor.cli.audit import now
from auditor.cli.choices import FleetFormat
from auditor.cli.output import deliver
from auditor.cli.saved_reports import files_of
from auditor.errors import UsageError
from auditor.fleet.answers import Current, picture
from auditor.fleet.database import Database
from auditor.fleet.inventory import load_inventory
from auditor.fleet.picture import Picture
from auditor.fleet.read_reports import read_reports
from auditor.formats import fleet_picture
from auditor.formats.json_report import to_json
from auditor.model.plural import plural
from auditor.report.fleet import UnreadFile
from auditor.report.health import SKEW

DAMAGED, NOT_COMPLETE = 1, 3


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for; `limit` in bytes."""

    paths: tuple[str, ...]
    nodes: Path | None
    older: tuple[str, ...]
    max_age: timedelta | None
    limit: int
    parquet: Path | None
    jobs: int | None


def fleet(wish: Wish, *, output_format: FleetFormat, output: Path | None, quiet: bool, verbose: bool) -> int:
    """Answer the questions about a fleet and print the answers.

    Returns:
        1 with damage on any node; 3 where something is missing or was not read; else 0.

    Raises:
        UsageError: A path does not exist, no file is a report, or the list of nodes cannot be read.
        OutputError: The result could not be written.

    """
    expected = load_inventory(wish.nodes) if wish.nodes is not None else None
    files, older_files = _files(wish.paths), _files(wish.older)
    with ExitStack() as stack:
        database = stack.enter_context(Database())
        unread = _fill(database, files, wish)
        older = stack.enter_context(Database()) if wish.older else None
        if older is not None:
            unread += _fill(older, older_files, wish)
        at = now()
        current = Current(at - wish.max_age, at + SKEW) if wish.max_age is not None else None
        made = picture(database, unread=unread, expected=expected, current=current, older=older)
        if wish.parquet is not None:
            from auditor.fleet.parquet import export_parquet

            export_parquet(database, unread, wish.parquet)
    status = DAMAGED if made.counts.damaged else 0 if made.complete else NOT_COMPLETE
    if not (quiet and status == 0 and output is None):
        deliver(_rendered(made, output_format, verbose=verbose), output)
    return status


def _rendered(made: Picture, output_format: FleetFormat, *, verbose: bool) -> str:
    if output_format is FleetFormat.JSON:
        return to_json(made)
    if output_format is FleetFormat.HTML:
        from auditor.formats.html import render_picture

        return render_picture(made)
    return fleet_picture.render(made, verbose=verbose)


def _fill(database: Database, files: Sequence[Path], wish: Wish) -> list[UnreadFile]:
    """Read the files into the tables; return what could not be read. Raises UsageError where no file is a report."""
    unread: list[UnreadFile] = []
    for content in read_reports(files, limit=wish.limit, jobs=wish.jobs or len(os.sched_getaffinity(0))):
        unread += content.unread
        for report in content.reports:
            database.add(report)
    if not database.rows("SELECT 1 FROM report LIMIT 1"):
        first = f"{unread[0].file}: {unread[0].reason}"
        hint = "auditor check --format json --output FILE writes a report"
        raise UsageError(f"no report of a node in {plural(len(files), 'file')}; the first is {first}", hint=hint)
    return sorted(unread, key=lambda each: each.file)


def _files(paths: Sequence[str]) -> list[Path]:
    """Return the files that the paths name, each once. Raises UsageError where a path names none."""
    found: dict[Path, None] = {}
    for path in paths:
        for each in _matches(path):
            found.update(dict.fromkeys(files_of(each)))
    return list(found)


def _matches(path: str) -> list[Path]:
    if Path(path).exists() or not glob.has_magic(path):
        if not os.path.lexists(path):
            raise UsageError(f"there is no file or folder {path}", hint="give files, folders, or a pattern in quotes")
        return [Path(path)]
    found = sorted(glob.iglob(path, recursive=True))  # noqa: PTH207 - a pattern may be absolute
    if not found:
        raise UsageError(f"no file matches {path}", hint="give files, folders, or a pattern in quotes")
    return [Path(each) for each in found]
