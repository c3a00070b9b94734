"""The picture of a fleet as plain text: the verdict, what damaged nodes share, digests, nodes, and who is silent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from tabulate import tabulate

from auditor.fleet.common import Shared
from auditor.fleet.onset import FIRST_SEEN
from auditor.fleet.picture import Cause, Picture, PictureDigest, PictureNode
from auditor.formats.sanitize import plain, shorten

#: Most lines of a part; the rest is counted. The JSON has all.
LISTED: Final = 20
#: Facts that are listed for one cause.
_FACTS: Final = 4
#: Rules that are listed for one node.
_RULES: Final = 2
_NODES: Final = ("node", "verdict", "damaged images", "critical", "error", "warning", "rules", "report (UTC)")
_NAME: Final = 60


def render(picture: Picture, *, verbose: bool = False) -> str:
    """Render the picture as text.

    Args:
        picture: The picture.
        verbose: Whether to list everything, not the first 20 of each part.

    """
    most = None if verbose else LISTED
    parts = (
        [verdict(picture), *_period(picture)],
        _titled("What damaged nodes share:", _causes(picture), most),
        _titled("Damaged digests:", [_digest(each) for each in picture.digests], most),
        _titled("Damaged images:", _images(picture), most),
        _nodes(picture.nodes, most),
        _titled("Findings by rule:", _codes(picture), most),
        _titled("Against the older reports:", _changes(picture), most),
        _titled("Expected, without a report:", [_name(name) for name in picture.silent], most),
        _titled("Reports of nodes that are not expected:", [_name(name) for name in picture.unexpected], most),
        _titled("Not read:", [f"{plain(each.file)}: {plain(each.reason)}" for each in picture.unread], most),
    )
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def verdict(picture: Picture) -> str:
    """One sentence on all nodes."""
    counts = picture.counts
    said = [
        f"{number:,} {words}"
        for number, words in (
            (counts.damaged, "damaged"),
            (counts.unknown, "not fully checked or outdated"),
            (counts.sound, "without problems"),
        )
        if number
    ]
    missing = [f"{counts.silent:,} expected without a report"] if counts.silent else []
    missing += [f"{counts.unread:,} {'report' if counts.unread == 1 else 'reports'} not read"] if counts.unread else []
    nodes = "node" if counts.reported == 1 else "nodes"
    return "; ".join([f"{counts.reported:,} {nodes}: {', '.join(said)}", *missing])


def _period(picture: Picture) -> Iterator[str]:
    yield f"Reports from {picture.oldest:%Y-%m-%d %H:%M} to {picture.newest:%Y-%m-%d %H:%M} UTC."
    if picture.superseded:
        older = "older report" if picture.superseded == 1 else "older reports"
        yield f"Left out: {picture.superseded:,} {older} of the same stores."


def _titled(title: str, lines: Sequence[str], most: int | None) -> list[str]:
    if not lines:
        return []
    rest = 0 if most is None else len(lines) - most
    more = [f"  and {rest:,} more; --verbose lists all, --format json has all"] if rest > 0 else []
    return [title, *(f"  {line}" for line in lines[:most]), *more]


def _name(name: str) -> str:
    return plain(name, width=_NAME)


def _causes(picture: Picture) -> list[str]:
    """Causes with facts that tell the damaged nodes from the others; one without is listed too, with its count."""
    return [line for cause in picture.causes for line in _cause(cause)]


def _cause(cause: Cause) -> Iterator[str]:
    nodes = "1 node" if cause.nodes == 1 else f"{cause.nodes:,} nodes"
    digests = "1 digest" if cause.digests == 1 else f"{cause.digests:,} digests"
    what = f"{plain(cause.cause)} of {_short(cause.digest)}" if cause.digest else plain(cause.cause)
    yield f"{what}: {nodes}" + ("" if cause.digest else f", {digests}")
    for each in cause.shared[:_FACTS]:
        yield f"  {share(each)}"


def share(each: Shared) -> str:
    """A fact that damaged nodes share, as a clause."""
    where = f"{plain(each.fact, width=40)} {plain(each.value, width=60)}"
    of = "reports" if each.fact == FIRST_SEEN else "nodes"
    return f"{where}: {each.damaged:,} of {each.nodes:,} {of}, {each.lift:g} times the average (score {each.score:g})"


def _short(digest: str) -> str:
    return plain(shorten(digest, 23))


def _digest(digest: PictureDigest) -> str:
    return (
        f"{_short(digest.digest)} {plain(digest.kind)} {plain(digest.code)} on {digest.damaged:,}: "
        f"{_listed(digest.damaged_on, digest.damaged)}; {copies(digest)}"
    )


def copies(digest: PictureDigest) -> str:
    """The nodes with a copy, as a clause."""
    if digest.verified:
        return f"verified copy on {digest.verified:,}: {_listed(digest.verified_on, digest.verified)}"
    if digest.present:
        return f"copy that was not read on {digest.present:,}: {_listed(digest.present_on, digest.present)}"
    return "no copy on any other node"


def _listed(names: Sequence[str], number: int, *, most: int = 3) -> str:
    rest = number - len(names[:most])
    return ", ".join(_name(name) for name in names[:most]) + (f" and {rest:,} more" if rest else "")


def _images(picture: Picture) -> list[str]:
    return [
        f"{plain(image.name, width=100)}: damaged on {image.damaged:,}, without problems on {image.sound:,}"
        for image in picture.images
    ]


def _nodes(nodes: Sequence[PictureNode], most: int | None) -> list[str]:
    if not nodes:
        return []
    table = tabulate([_cells(node) for node in nodes[:most]], headers=_NODES, tablefmt="simple", disable_numparse=True)
    rest = 0 if most is None else len(nodes) - most
    more = [f"and {rest:,} more; --verbose lists all, --format json has all"] if rest > 0 else []
    return [table, *more]


def _cells(node: PictureNode) -> tuple[str, ...]:
    codes = [code if count == 1 else f"{count:,} {code}" for code, count in node.codes.items()]
    rest = len(codes) - _RULES
    listed = ", ".join(codes[:_RULES]) + (f" and {rest} more" if rest > 0 else "")
    return (
        plain(node.name, width=40),
        "DAMAGED" if node.status == "damaged" else "outdated" if node.outdated else "not fully checked",
        f"{node.images_damaged:,} of {node.images:,}",
        f"{node.critical:,}",
        f"{node.error:,}",
        f"{node.warning:,}",
        plain(listed, width=100),
        f"{node.finished_at:%Y-%m-%d %H:%M}",
    )


def _codes(picture: Picture) -> list[str]:
    return [
        f"{each.severity} {plain(each.code)}{f' ({plain(each.cause)})' if each.cause else ''}: "
        f"{each.findings:,} on {each.nodes:,} {'node' if each.nodes == 1 else 'nodes'}"
        for each in picture.codes
    ]


def _changes(picture: Picture) -> list[str]:
    changes = picture.changes
    if changes is None:
        return []
    lines = [f"{plain(c.code)}: {c.new:,} new, {c.gone:,} gone, {c.same:,} unchanged" for c in changes]
    return lines or ["no findings on either day"]
