"""Answer the questions about a fleet from the tables: who is damaged, by what, since when, and who has a good copy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, Final, NamedTuple

import msgspec

from auditor.fleet.common import clearest, shared
from auditor.fleet.copies import Holders
from auditor.fleet.database import Database, parse_time
from auditor.fleet.onset import Damage, Onsets, Store
from auditor.fleet.picture import (
    Cause,
    Change,
    CodeCount,
    NodeCounts,
    Picture,
    PictureDigest,
    PictureImage,
    PictureNode,
)
from auditor.model.findings import Severity
from auditor.report.fleet import UnreadFile

#: Most nodes named with a digest; the rest is counted.
NAMED: Final = 20
#: A digest that is damaged on this many nodes is a cause of its own: its nodes are left out of the other groups.
_WIDE: Final = 5
#: Codes of content that differs from its digest: one bad copy travels to many nodes, a bad disk damages many digests.
_CONTENT: Final = frozenset({"digest-mismatch", "size-mismatch", "layer-undecodable"})
_DAMAGE: Final = Severity.ERROR.rank


class Current(NamedTuple):
    """The times at which a report that counts was finished; one from the future has no known age."""

    since: datetime
    until: datetime


def picture(
    database: Database,
    *,
    unread: Sequence[UnreadFile] = (),
    expected: Mapping[str, Mapping[str, str]] | None = None,
    current: Current | None = None,
    older: Database | None = None,
) -> Picture:
    """Answer the questions about a fleet.

    Args:
        database: The reports.
        unread: The files that could not be read.
        expected: The nodes that should report, with their facts; None where that is not known.
        current: Reports that finished at other times are outdated; None accepts any age.
        older: The reports of an earlier day.

    """
    names = database.names()
    nodes = _nodes(database, names, current)
    hosts = [host for (host,) in database.rows("SELECT DISTINCT host FROM report ORDER BY host")]
    digests, images = _digests_and_images(database, names)
    silent = tuple(sorted(set(expected or ()) - set(hosts)))
    oldest, newest = database.rows("SELECT min(finished_at), max(finished_at) FROM report")[0]
    damaged = sum(node.status == "damaged" for node in nodes)
    return Picture(
        complete=not (unread or silent or len(nodes) > damaged),
        oldest=parse_time(oldest),
        newest=parse_time(newest),
        counts=NodeCounts(
            reported=len(names),
            sound=len(names) - len(nodes),
            damaged=damaged,
            unknown=len(nodes) - damaged,
            silent=len(silent),
            unread=len(unread),
        ),
        superseded=database.superseded,
        causes=_causes(database, expected or {}, _onsets(database, older)),
        digests=digests,
        nodes=nodes,
        codes=_codes(database),
        images=images,
        changes=None if older is None else _changes(database, older),
        silent=silent,
        unexpected=() if expected is None else tuple(host for host in hosts if host not in expected),
        unread=tuple(unread),
    )


def _nodes(database: Database, names: Mapping[int, str], current: Current | None) -> tuple[PictureNode, ...]:
    codes: dict[int, dict[str, int]] = {}
    for number, code, count in database.rows(
        "SELECT report, code, count(*) FROM finding WHERE rank <= ? GROUP BY report, code ORDER BY code", _DAMAGE
    ):
        codes.setdefault(number, {})[code] = count
    # As text, each time is greater than "" and less than "~".
    found = database.rows(
        "SELECT id, finished_at, complete, images, images_damaged, critical, error, warning FROM report"
        " WHERE critical + error > 0 OR NOT complete OR finished_at < ? OR finished_at > ?"
        " ORDER BY critical DESC, error DESC, host",
        *(("", "~") if current is None else (current.since.isoformat(), current.until.isoformat())),
    )
    return tuple(_node(row, names, codes, current) for row in found)


def _node(
    row: Sequence[Any], names: Mapping[int, str], codes: Mapping[int, dict[str, int]], current: Current | None
) -> PictureNode:
    number, at, complete, images, images_damaged, critical, error, warning = row
    finished_at = parse_time(at)
    return PictureNode(
        name=names[number],
        status="damaged" if critical + error else "unknown",
        finished_at=finished_at,
        complete=bool(complete),
        outdated=current is not None and not current.since <= finished_at <= current.until,
        images=images,
        images_damaged=images_damaged,
        critical=critical,
        error=error,
        warning=warning,
        codes=codes.get(number, {}),
    )


def _digests_and_images(
    database: Database, names: Mapping[int, str]
) -> tuple[tuple[PictureDigest, ...], tuple[PictureImage, ...]]:
    digests, images = _damaged_digests(database), _damaged_images(database)
    holders = database.holders([row[0] for row in (*digests, *images)])
    return (
        tuple(_digest(row, names, holders[row[0]]) for row in digests),
        tuple(
            PictureImage(target=target, name=name, damaged=damaged, sound=len(holders[target].sound))
            for target, name, damaged in images
        ),
    )


def _damaged_digests(database: Database) -> list[tuple[Any, ...]]:
    # With one min(), SQLite takes the other columns from the row that has it (sqlite.org/lang_select.html, 2.5).
    return database.rows(
        "SELECT digest, kind, code, min(rank), count(DISTINCT report), group_concat(DISTINCT report), images"
        " FROM finding WHERE rank <= ? AND digest != '' GROUP BY digest ORDER BY count(DISTINCT report) DESC, digest",
        _DAMAGE,
    )


def _damaged_images(database: Database) -> list[tuple[Any, ...]]:
    return database.rows(
        "SELECT target, min(name), count(DISTINCT report) FROM image GROUP BY target ORDER BY 3 DESC, 2, target"
    )


def _digest(row: Sequence[Any], names: Mapping[int, str], holders: Holders) -> PictureDigest:
    digest, kind, code, rank, damaged, on, images = row
    numbers = {int(number) for number in on.split(",")}
    verified = [number for number in holders.verified if number not in numbers]
    others = numbers.union(verified)
    present = [number for number in holders.present if number not in others]
    return PictureDigest(
        digest=digest,
        kind=kind,
        code=code,
        severity=list(Severity)[rank],
        damaged=damaged,
        damaged_on=_named(names, numbers),
        verified=len(verified),
        verified_on=_named(names, verified),
        present=len(present),
        present_on=_named(names, present),
        images=tuple(msgspec.json.decode(images, type=tuple[str, ...])),
    )


def _named(names: Mapping[int, str], numbers: Collection[int]) -> tuple[str, ...]:
    return tuple(sorted(names[number] for number in numbers)[:NAMED])


def _codes(database: Database) -> tuple[CodeCount, ...]:
    found = database.rows(
        "SELECT code, rank, cause, count(*), count(DISTINCT report), count(DISTINCT nullif(digest, '')) FROM finding"
        " GROUP BY rank, code, cause ORDER BY rank, 5 DESC, code, cause"
    )
    return tuple(
        CodeCount(
            code=code, severity=list(Severity)[rank], cause=cause, findings=findings, nodes=nodes, digests=digests
        )
        for code, rank, cause, findings, nodes, digests in found
    )


def _changes(database: Database, older: Database) -> tuple[Change, ...]:
    """Count what is new, gone and the same; nodes that only one day has are left out."""
    hosts, hosts_before = ({host for (host,) in each.rows("SELECT host FROM report")} for each in (database, older))
    both = hosts & hosts_before
    now, then = ({key for key in each.keys() if key[0] in both} for each in (database, older))  # noqa: SIM118
    new, gone, same = (Counter(code for _, code, _ in keys) for keys in (now - then, then - now, now & then))
    codes = sorted(new | gone | same, key=lambda code: (-new[code], -gone[code], code))
    return tuple(Change(code=code, new=new[code], gone=gone[code], same=same[code]) for code in codes)


def _onsets(database: Database, older: Database | None) -> Onsets:
    every = [database, *([older] if older is not None else [])]
    first: dict[Damage, str] = {}
    for damage, at in (item for each in every for item in each.first_seen().items()):
        first[damage] = min(at, first.get(damage, at))
    return Onsets(chain.from_iterable(each.looks() for each in every), first)


class _Group(msgspec.Struct):
    """Nodes with the same cause."""

    numbers: set[int] = set()
    digests: set[str] = set()
    damages: set[Damage] = set()


def _causes(database: Database, expected: Mapping[str, Mapping[str, str]], onsets: Onsets) -> tuple[Cause, ...]:
    """Group the damaged nodes, the largest group first."""
    facts = _facts(database, expected)
    found = database.rows(
        "SELECT report, code, cause, digest, name, host, address FROM finding JOIN report ON report.id = report"
        " WHERE rank <= ?",
        _DAMAGE,
    )
    on: dict[str, set[int]] = {}
    for number, code, _, digest, *_ in found:
        if code in _CONTENT:
            on.setdefault(digest, set()).add(number)
    wide = {digest for digest, numbers in on.items() if digest and len(numbers) >= _WIDE}
    groups: dict[tuple[str, str], _Group] = {}
    for number, code, cause, digest, name, host, address in found:
        group = groups.setdefault((cause or code, digest if digest in wide and code in _CONTENT else ""), _Group())
        group.numbers.add(number)
        group.digests.add(digest)
        group.damages.add(Damage(Store(host, address), code, digest + name))
    made = (
        Cause(
            cause=cause,
            digest=digest,
            nodes=len(group.numbers),
            digests=len(group.digests),
            shared=clearest((*shared(facts, group.numbers), *onsets.shared(group.damages))),
        )
        for (cause, digest), group in groups.items()
    )
    return tuple(sorted(made, key=lambda each: (-each.nodes, each.cause, each.digest)))


def _facts(database: Database, expected: Mapping[str, Mapping[str, str]]) -> Mapping[int, Mapping[str, str]]:
    """Return the facts of each report, with those of the list of expected nodes."""
    facts = database.facts()
    hosts = database.rows("SELECT id, host FROM report")
    return {number: {**facts[number], **expected.get(host, {})} for number, host in hosts}
