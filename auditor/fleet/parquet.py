"""Write the tables of a fleet as Parquet, by DuckDB, for questions and sizes beyond this program."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from auditor.errors import OutputError, UsageError
from auditor.fleet.database import Database
from auditor.model.findings import Severity
from auditor.report.fleet import UnreadFile

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

#: DuckDB's own limit; its process takes some 120 MB more.
MEMORY: Final = "512MB"
#: The tables and their columns; `day` is the date of `finished_at` in UTC, by which the folders are partitioned.
TABLES: Final = {
    "report": {
        "host": "VARCHAR", "address": "VARCHAR", "file": "VARCHAR", "finished_at": "TIMESTAMPTZ", "verify": "VARCHAR",
        "complete": "BOOLEAN", "images": "BIGINT", "images_damaged": "BIGINT", "critical": "BIGINT", "error": "BIGINT",
        "warning": "BIGINT", "info": "BIGINT", "facts": "MAP(VARCHAR, VARCHAR)", "day": "DATE",
    },
    "finding": {
        "host": "VARCHAR", "address": "VARCHAR", "code": "VARCHAR", "severity": "VARCHAR", "cause": "VARCHAR",
        "kind": "VARCHAR", "digest": "VARCHAR", "name": "VARCHAR", "namespace": "VARCHAR", "images": "VARCHAR[]",
        "day": "DATE",
    },
    "image": {"host": "VARCHAR", "target": "VARCHAR", "name": "VARCHAR", "status": "VARCHAR", "day": "DATE"},
    "copy": {"host": "VARCHAR", "digest": "VARCHAR", "state": "VARCHAR", "day": "DATE"},
    "unread": {"file": "VARCHAR", "reason": "VARCHAR", "day": "DATE"},
}  # fmt: skip
_ELSEWHERE: Final = "free some space, or give another folder"
_DAMAGE: Final = Severity.ERROR.rank


def export_parquet(database: Database, unread: Sequence[UnreadFile], folder: Path) -> None:
    """Write `report`, `finding`, `image`, `copy` and `unread` below a folder, each partitioned by day.

    `copy` has the nodes with a copy of a damaged digest; `image` has images that are damaged somewhere.

    Args:
        database: The reports.
        unread: The files that could not be read; they get the day of the newest report.
        folder: A folder that does not exist or is empty.

    Raises:
        UsageError: DuckDB is not installed, or the folder has files.
        OutputError: The tables could not be written.

    """
    try:
        import duckdb  # noqa: PLC0415 - an optional extra
    except ImportError:
        raise UsageError(
            "--export-parquet needs DuckDB", hint="pip install 'containerd-auditor[fleet]' installs it"
        ) from None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageError(f"{folder} is not empty", hint="give a new folder for each export")
        with tempfile.TemporaryDirectory() as staged:
            engine = _engine(Path(staged), folder)
            ((day,),) = database.rows("SELECT max(substr(finished_at, 1, 10)) FROM report")
            for table, columns in TABLES.items():
                lines = Path(staged) / f"{table}.ndjson"
                _stage(lines, _rows(database, unread, day, table), tuple(columns))
                engine.execute(_copy(table, columns, lines, folder, day=day))
    except OSError as error:
        raise OutputError(f"cannot write the tables to {folder}: {error.strerror or error}", hint=_ELSEWHERE) from None
    except duckdb.Error as error:
        raise OutputError(f"DuckDB could not write the tables: {str(error)[:200]}", hint=_ELSEWHERE) from None


def _engine(staged: Path, folder: Path) -> DuckDBPyConnection:
    """Open DuckDB with bounded memory, no extensions from a network, and no file outside two folders."""
    import duckdb  # noqa: PLC0415 - an optional extra

    engine = duckdb.connect(
        config={
            "memory_limit": MEMORY,
            "temp_directory": str(staged),
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
    )
    engine.execute(f"SET allowed_directories = [{_text(str(staged))}, {_text(str(folder.resolve()))}]")
    engine.execute("SET enable_external_access = false")
    engine.execute("SET lock_configuration = true")
    return engine


def _stage(path: Path, rows: Iterable[Sequence[object]], columns: Sequence[str]) -> None:
    """Write the rows as JSON, one per line."""
    with path.open("wb") as file:
        for row in rows:
            file.write(msgspec.json.encode(dict(zip(columns, row, strict=True))) + b"\n")


def _copy(table: str, columns: Mapping[str, str], lines: Path, folder: Path, *, day: str) -> str:
    """Return the statement that writes a table; one without rows gets a file without rows under `day`."""
    described = ", ".join(f"{_text(name)}: {_text(kind)}" for name, kind in columns.items())
    source = f"read_json({_text(str(lines))}, format = 'newline_delimited', columns = {{{described}}})"
    place = folder.resolve() / table
    if lines.stat().st_size:
        return f"COPY (SELECT * FROM {source}) TO {_text(str(place))} (FORMAT parquet, PARTITION_BY (day))"  # noqa: S608
    place /= f"day={day}"
    place.mkdir(parents=True)
    return f"COPY (SELECT * EXCLUDE (day) FROM {source}) TO {_text(str(place / 'data_0.parquet'))} (FORMAT parquet)"  # noqa: S608


def _text(value: str) -> str:
    """Quote a value as SQL text."""
    return "'" + value.replace("'", "''") + "'"


def _rows(database: Database, unread: Sequence[UnreadFile], day: str, table: str) -> Iterable[Sequence[object]]:
    match table:
        case "report":
            return _reports(database)
        case "finding":
            return _findings(database)
        case "image":
            return _images(database)
        case "copy":
            return _copies(database)
        case _:
            return ((each.file, each.reason, day) for each in unread)


def _reports(database: Database) -> Iterable[Sequence[object]]:
    facts = database.facts()
    found = database.rows(
        "SELECT host, address, file, finished_at, verify, complete, images, images_damaged, critical, error, warning,"
        " info, id, substr(finished_at, 1, 10) FROM report"
    )
    return ((*row[:5], bool(row[5]), *row[6:12], facts[row[12]], row[13]) for row in found)


def _findings(database: Database) -> Iterable[Sequence[object]]:
    found = database.rows(
        "SELECT host, address, code, severity, cause, kind, digest, name, namespace, finding.images,"
        " substr(finished_at, 1, 10) FROM finding JOIN report ON report.id = report"
    )
    return ((*row[:9], msgspec.json.decode(row[9]), row[10]) for row in found)


def _images(database: Database) -> Iterable[Sequence[object]]:
    days = _days(database)
    found = database.rows("SELECT report, target, name FROM image")
    names = {target: name for _, target, name in found}
    holders = database.holders(list(names))
    for number, target, name in found:
        host, day = days[number]
        yield host, target, name, "damaged", day
    for target, held in holders.items():
        for number in held.sound:
            yield days[number][0], target, names[target], "sound", days[number][1]


def _copies(database: Database) -> Iterable[Sequence[object]]:
    days = _days(database)
    found = database.rows("SELECT DISTINCT digest FROM finding WHERE rank <= ? AND digest != ''", _DAMAGE)
    for digest, held in database.holders([row[0] for row in found]).items():
        for state, numbers in (("verified", held.verified), ("present", held.present)):
            for number in numbers:
                yield days[number][0], digest, state, days[number][1]


def _days(database: Database) -> dict[int, tuple[str, str]]:
    """Return host and day of each report."""
    found = database.rows("SELECT id, host, substr(finished_at, 1, 10) FROM report")
    return {number: (host, day) for number, host, day in found}
