"""Merged reports of several nodes, as plain text and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tabulate import tabulate

from auditor.formats.markdown import code, escape
from auditor.formats.sanitize import plain
from auditor.formats.table import wrapped
from auditor.model.findings import Severity, Status
from auditor.model.plural import plural
from auditor.report.fleet import Fleet, FleetFinding, FleetImage, FleetNode

#: Most lines of a table; the rest is counted. The JSON has all.
LISTED = 40
_NODES = ("node", "verdict", "images", "damaged", "critical", "error", "warning", "level", "when (UTC)")


def render(fleet: Fleet, *, width: int = 110) -> str:
    """Plain text: the verdict, the findings with their nodes, the nodes, the images with damage or unknown."""
    lines = [verdict(fleet)]
    for finding in fleet.findings[:LISTED]:
        lines += ["", *_finding(finding, width)]
    lines += _more(len(fleet.findings), "finding")
    rows = [[plain(str(cell), width=40) for cell in _cells(node)] for node in _worst(fleet)]
    lines += ["", tabulate(rows, headers=_headers(fleet), tablefmt="simple", disable_numparse=True)]
    lines += _more(len(fleet.nodes), _noun(fleet))
    bad = [image for image in fleet.images if image.damaged or image.unknown]
    if bad:
        lines += [
            "",
            "images:",
            *(line for image in bad[:LISTED] for line in wrapped("  ", _image(image), width)),
            *_more(len(bad), "image"),
        ]
    if fleet.unread:
        lines += ["", "files that could not be read:", *(f"  {reason}" for reason in _unread(fleet))]
    return "\n".join(lines) + "\n"


def verdict(fleet: Fleet) -> str:
    """One sentence on all nodes: damaged, not fully checked, or no problems."""
    damaged = [node for node in fleet.nodes if node.status is Status.DAMAGED]
    unknown = [node for node in fleet.nodes if node.status is Status.UNKNOWN]
    parts = [f"{len(damaged)} damaged"] if damaged else []
    parts += [f"{len(unknown)} not fully checked"] if unknown else []
    parts += [f"{plural(len(fleet.unread), 'file')} could not be read"] if fleet.unread else []
    return f"{plural(len(fleet.nodes), _noun(fleet))}: {', '.join(parts) or 'no problems found'}"


def _worst(fleet: Fleet) -> list[FleetNode]:
    """Return the nodes to list: those with damage first, then those that were not fully checked."""
    order = (Status.DAMAGED, Status.UNKNOWN, Status.SOUND)
    return sorted(fleet.nodes, key=lambda node: order.index(node.status))[:LISTED]


def _noun(fleet: Fleet) -> str:
    archives = all(node.source.kind == "archive" for node in fleet.nodes)
    return "archive" if archives and fleet.nodes else "node"


def _headers(fleet: Fleet) -> tuple[str, ...]:
    return (_noun(fleet), *_NODES[1:])


def copies(finding: FleetFinding) -> str:
    """The nodes that have a good copy of the blob; empty if the finding is not about a blob."""
    if finding.proven_on:
        return f"verified copy on {_names(finding.proven_on)}"
    if finding.held_on:
        return f"unverified copy on {_names(finding.held_on)}"
    damaged = bool(finding.subject.digest) and finding.severity.rank <= Severity.ERROR.rank
    return "no good copy on any of these nodes" if damaged else ""


def markdown(fleet: Fleet) -> str:
    """The same as GitHub's Markdown."""
    lines = [f"## {verdict(fleet)}"]
    if fleet.findings:
        lines += ["", "| severity | code | what | bad on | good copy |", "| --- | --- | --- | --- | --- |"]
        lines += (_markdown_row(finding) for finding in fleet.findings[:LISTED])
    lines += _more(len(fleet.findings), "finding")
    lines += ["", f"| {' | '.join(_headers(fleet))} |", "| --- " * len(_NODES) + "|"]
    for node in _worst(fleet):
        first, *others = _cells(node)
        lines.append(f"| {code(str(first), width=60)} | {' | '.join(str(cell) for cell in others)} |")
    lines += _more(len(fleet.nodes), _noun(fleet))
    if fleet.unread:
        lines += ["", "Files that could not be read:", "", *(f"* {escape(reason)}" for reason in _unread(fleet))]
    return "\n".join(lines) + "\n"


def _unread(fleet: Fleet) -> Iterator[str]:
    yield from (plain(file.reason, width=300) for file in fleet.unread[:LISTED])
    if len(fleet.unread) > LISTED:
        yield f"and {plural(len(fleet.unread) - LISTED, 'more file')}; --format json lists all"


def _cells(node: FleetNode) -> Sequence[object]:
    found = node.findings
    status = {Status.SOUND: "sound", Status.DAMAGED: "DAMAGED", Status.UNKNOWN: "not fully checked"}[node.status]
    counts = (node.images.total, node.images.damaged, found.critical, found.error, found.warning)
    return node.name, status, *counts, node.verify, f"{node.finished_at:%Y-%m-%d %H:%M}"


def _finding(finding: FleetFinding, width: int) -> Iterator[str]:
    yield f"{finding.severity.upper()} {plain(finding.code)}"
    yield f"  {plain(finding.subject.kind)} {plain(finding.subject.id, width=100)}"
    yield from wrapped("  ", plain(finding.message, width=300), width)
    yield from wrapped("  on:   ", plain(_names(finding.nodes)), width)
    if found := copies(finding):
        yield from wrapped("  copy: ", plain(found), width)
    if finding.images:
        yield from wrapped("  affects ", plain(_names(finding.images), width=300), width)


def _image(image: FleetImage) -> str:
    parts = (("damaged", image.damaged), ("unknown", image.unknown), ("sound", image.sound))
    where = "; ".join(f"{word} on {_names(nodes)}" for word, nodes in parts if nodes)
    return f"{plain(image.name, width=100)}: {plain(where)}"


def _names(names: Sequence[str], *, most: int = 6) -> str:
    listed = ", ".join(name if len(name) <= 60 else f"{name[:59]}…" for name in names[:most])  # noqa: PLR2004
    return f"{listed} and {len(names) - most} more" if len(names) > most else listed


def _more(number: int, word: str) -> list[str]:
    return ["", f"and {plural(number - LISTED, f'more {word}')}; --format json lists all"] if number > LISTED else []


def _markdown_row(finding: FleetFinding) -> str:
    severity = finding.severity if finding.severity in set(Severity) else Severity.INFO
    subject = f"{escape(finding.subject.kind)} {code(finding.subject.id, width=100)}"
    cells = (str(severity), code(finding.code), subject, code(_names(finding.nodes)), escape(copies(finding)))
    return f"| {' | '.join(cells)} |"
