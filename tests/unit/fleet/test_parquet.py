"""The tables for other engines: every query of reports/queries gives what this program itself answers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from auditor.errors import OutputError, UsageError
from auditor.fleet import answers
from auditor.fleet.database import Database
from auditor.fleet.node_report import SlimReport, condense
from auditor.fleet.parquet import TABLES, export_parquet
from auditor.fleet.picture import Picture
from auditor.report.fleet import UnreadFile
from tests import fleet_nodes

QUERIES = Path(__file__).parents[3] / "reports" / "queries"
UNREAD = [UnreadFile(file="it's.json", reason="a \x1b[31mreason\u202e")]


@pytest.fixture(scope="module")
def database() -> Iterator[Database]:
    decoder = msgspec.json.Decoder(SlimReport)
    with Database() as made:
        for host, raw in fleet_nodes.fleet(1200):
            made.add(condense(decoder.decode(raw), file=host))
        yield made


@pytest.fixture(scope="module")
def picture(database: Database) -> Picture:
    return answers.picture(database)


@pytest.fixture(scope="module")
def tables(database: Database, tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    folder = tmp_path_factory.mktemp("it's here") / "new"
    export_parquet(database, UNREAD, folder)
    return opened(folder)


def opened(folder: Path) -> duckdb.DuckDBPyConnection:
    engine = duckdb.connect()
    engine.execute("SET VARIABLE folder = $1", [str(folder)])
    engine.execute((QUERIES / "tables.sql").read_text())
    return engine


def rows(engine: duckdb.DuckDBPyConnection, name: str) -> list[tuple[Any, ...]]:
    return engine.execute((QUERIES / f"{name}.sql").read_text()).fetchall()


def test_every_query_runs(tables: duckdb.DuckDBPyConnection) -> None:
    names = {path.stem for path in QUERIES.glob("*.sql")} - {"tables"}
    assert names == {"worst_nodes", "digests", "common_facts", "trend", "rules", "images"}
    for name in names:
        rows(tables, name)


def test_worst_nodes(tables: duckdb.DuckDBPyConnection, picture: Picture) -> None:
    assert [row[:3] for row in rows(tables, "worst_nodes")] == [
        (node.name, node.critical, node.error) for node in picture.nodes
    ]


def test_digests_with_their_copies(tables: duckdb.DuckDBPyConnection, picture: Picture) -> None:
    found = {row[0]: (row[3], row[5]) for row in rows(tables, "digests")}
    for digest in picture.digests[:100]:
        assert found[digest.digest] == (digest.damaged, digest.verified)


def test_rules_and_images(tables: duckdb.DuckDBPyConnection, picture: Picture) -> None:
    assert [row[1:] for row in rows(tables, "rules")] == [
        (each.code, each.cause, each.findings, each.nodes, each.digests) for each in picture.codes
    ]
    found = {row[0]: row[2:] for row in rows(tables, "images")}
    assert found == {image.target: (image.damaged, image.sound) for image in picture.images[:100]}


def test_common_facts(tables: duckdb.DuckDBPyConnection) -> None:
    found = rows(tables, "common_facts")
    assert ("bytes-changed", "disk_model", fleet_nodes.BAD_DISK) in {row[:3] for row in found}


def test_names_come_through_as_they_are(tables: duckdb.DuckDBPyConnection) -> None:
    assert tables.execute("SELECT file, reason FROM unread").fetchall() == [(UNREAD[0].file, UNREAD[0].reason)]
    kernel = tables.execute("SELECT facts['zone'] FROM report WHERE host = 'node-00000'").fetchone()
    assert kernel == ("zone-a",)


def test_two_days_make_a_trend(tmp_path: Path) -> None:
    decoder = msgspec.json.Decoder(SlimReport)
    reports = [condense(decoder.decode(raw), file=host) for host, raw in fleet_nodes.fleet(200)]
    bad = next(report for report in reports if report.faults)
    for day in (0, 1):
        with Database() as made:
            for report in reports:
                healed = report is bad and day == 1
                fields = {"faults": (), "damaged": ()} if healed else {}
                at = report.finished_at + timedelta(days=day)
                made.add(msgspec.structs.replace(report, finished_at=at, **fields))
            export_parquet(made, [], tmp_path / f"export-{day}")
    engine = opened(tmp_path)
    trend = rows(engine, "trend")
    assert sum(row[1] for row in trend) == 0
    assert sum(row[2] for row in trend) == len(bad.faults)
    assert engine.execute("SELECT count(*) FROM unread").fetchone() == (0,)
    assert {
        name for (name,) in engine.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    } == (set(TABLES))


def test_a_folder_with_files_is_left_alone(database: Database, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UsageError, match="is not empty"):
        export_parquet(database, [], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_place_that_cannot_be_written_is_one_sentence(database: Database, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write the tables"):
        export_parquet(database, [], tmp_path / "file" / "folder")


def test_without_duckdb_the_extra_is_named(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "duckdb", None)
    with pytest.raises(UsageError, match="needs DuckDB"):
        export_parquet(database, [], tmp_path / "new")
    assert not (tmp_path / "new").exists()
