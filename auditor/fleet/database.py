"""The condensed reports of a fleet as tables in SQLite: the newest report of each store of each host."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from auditor.fleet.copies import Copies, Holders
from auditor.fleet.node_report import NodeReport
from auditor.fleet.onset import Damage, Look, Store
from auditor.model.findings import Severity, Verify

SCHEMA: Final = """
CREATE TABLE report (
    id INTEGER PRIMARY KEY, host TEXT NOT NULL, address TEXT NOT NULL, file TEXT NOT NULL, finished_at TEXT NOT NULL,
    verify TEXT NOT NULL, complete INTEGER NOT NULL, images INTEGER NOT NULL, images_damaged INTEGER NOT NULL,
    critical INTEGER NOT NULL, error INTEGER NOT NULL, warning INTEGER NOT NULL, info INTEGER NOT NULL,
    UNIQUE (host, address)
);
CREATE TABLE finding (
    report INTEGER NOT NULL, code TEXT NOT NULL, severity TEXT NOT NULL, rank INTEGER NOT NULL, cause TEXT NOT NULL,
    kind TEXT NOT NULL, digest TEXT NOT NULL, name TEXT NOT NULL, namespace TEXT NOT NULL, images TEXT NOT NULL
);
CREATE TABLE fact (report INTEGER NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL);
CREATE TABLE image (report INTEGER NOT NULL, target TEXT NOT NULL, name TEXT NOT NULL);
CREATE TABLE look (
    host TEXT NOT NULL, address TEXT NOT NULL, finished_at TEXT NOT NULL, depth INTEGER NOT NULL,
    complete INTEGER NOT NULL
);
CREATE TABLE sight (
    host TEXT NOT NULL, address TEXT NOT NULL, finished_at TEXT NOT NULL, code TEXT NOT NULL, subject TEXT NOT NULL
);
"""
_DAMAGE: Final = Severity.ERROR.rank


class Database:
    """The tables, in a temporary file that SQLite deletes, and the copies beside them.

    Attributes:
        superseded: Number of reports that a newer one of the same store replaced.

    """

    def __init__(self) -> None:
        # An empty name is a temporary database on disk (sqlite.org/inmemorydb.html): large fleets do not fill memory.
        self.connection = sqlite3.connect("", isolation_level=None)
        self.connection.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN; {SCHEMA}")
        self._copies = Copies()
        self.superseded = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._copies.__exit__(kind, error, trace)
        self.connection.close()

    def add(self, report: NodeReport) -> None:
        """Add a report, unless a newer one of the same host and store is there; an older one is replaced."""
        store = (report.host, report.address)
        time = report.finished_at.isoformat()
        self._note(store, time, report)
        known = self.rows("SELECT id, finished_at FROM report WHERE host = ? AND address = ?", *store)
        for number, other in known:
            self.superseded += 1
            if datetime.fromisoformat(other) >= report.finished_at:
                return
            self._remove(number)
        counts = report.findings
        number = self._insert(
            "report (host, address, file, finished_at, verify, complete, images, images_damaged, critical, error,"
            " warning, info)",
            (*store, report.file, time, report.verify, report.complete, report.images.total, report.images.damaged),
            (counts.critical, counts.error, counts.warning, counts.info),
        )
        self._details(number, report)
        self._copies.add(number, report.held)

    def _note(self, store: tuple[str, str], time: str, report: NodeReport) -> None:
        """Keep what was seen when, also of reports that are replaced."""
        look = (*store, time, Verify(report.verify).depth, report.complete)
        self.connection.execute("INSERT INTO look VALUES (?, ?, ?, ?, ?)", look)
        self.connection.executemany(
            "INSERT INTO sight VALUES (?, ?, ?, ?, ?)",
            [(*store, time, f.code, f.digest + f.name) for f in report.faults if f.severity.rank <= _DAMAGE],
        )

    def _insert(self, table: str, *values: tuple[object, ...]) -> int:
        row = [each for part in values for each in part]
        places = ", ".join("?" * len(row))
        return self.connection.execute(f"INSERT INTO {table} VALUES ({places})", row).lastrowid or 0  # noqa: S608

    def _details(self, number: int, report: NodeReport) -> None:
        self.connection.executemany(
            "INSERT INTO finding VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (number, f.code, f.severity, f.severity.rank, f.cause, f.kind, f.digest, f.name, f.namespace, images)
                for f in report.faults
                for images in (msgspec.json.encode(f.images).decode(),)
            ],
        )
        self.connection.executemany("INSERT INTO fact VALUES (?, ?, ?)", [(number, *f) for f in report.facts.items()])
        self.connection.executemany("INSERT INTO image VALUES (?, ?, ?)", [(number, *i) for i in report.damaged])

    def _remove(self, number: int) -> None:
        self.connection.execute("DELETE FROM report WHERE id = ?", (number,))
        for table in ("finding", "fact", "image"):
            self.connection.execute(f"DELETE FROM {table} WHERE report = ?", (number,))  # noqa: S608

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return self.connection.execute(query, values).fetchall()

    def holders(self, digests: Iterable[str]) -> Mapping[str, Holders]:
        """Return who holds each digest."""
        current = frozenset(number for (number,) in self.connection.execute("SELECT id FROM report"))
        return self._copies.holders(digests, of=current)

    def names(self) -> dict[int, str]:
        """Return the name of each report's node: its host, with the address where a host has several stores."""
        found = self.connection.execute(
            "SELECT id, host, address, count(*) OVER (PARTITION BY host) FROM report ORDER BY host, address"
        )
        return {number: host if stores == 1 else f"{host} {address}" for number, host, address, stores in found}

    def facts(self) -> dict[int, dict[str, str]]:
        """Return the facts of each report."""
        found: dict[int, dict[str, str]] = {number: {} for (number,) in self.rows("SELECT id FROM report")}
        for number, name, value in self.connection.execute("SELECT report, name, value FROM fact"):
            found[number][name] = value
        return found

    def looks(self) -> list[Look]:
        """Return all reports, also those that were replaced."""
        found = self.connection.execute("SELECT host, address, finished_at, depth, complete FROM look")
        return [Look(Store(host, address), at, depth, bool(complete)) for host, address, at, depth, complete in found]

    def first_seen(self) -> dict[Damage, str]:
        """Return the time of the first report with each damage."""
        found = self.connection.execute(
            "SELECT host, address, code, subject, min(finished_at) FROM sight GROUP BY host, address, code, subject"
        )
        return {Damage(Store(host, address), code, subject): at for host, address, code, subject, at in found}

    def keys(self) -> set[tuple[str, str, str]]:
        """Return host, code and subject of each finding of error or critical, to compare two days."""
        return set(
            self.connection.execute(
                "SELECT host, code, digest || name FROM finding JOIN report ON report.id = report WHERE rank <= ?",
                (_DAMAGE,),
            )
        )


def parse_time(text: str) -> datetime:
    """Return a time from the table `report`, in UTC."""
    return datetime.fromisoformat(text).astimezone(UTC)
