"""Read the reports in one file: JSON, one object per line, plain or packed; every part that cannot be read is named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from auditor.archive.compression import decompress
from auditor.archive.problems import StopReading
from auditor.concurrency import CHUNK
from auditor.errors import AuditorError
from auditor.fleet.node_report import Foreign, NodeReport, SlimImage, SlimReport, condense
from auditor.model.findings import SCHEMA, Coverage, Fact, Finding, Source, Summary, Tool, Verify
from auditor.regular_file import open_regular
from auditor.report.fleet import UnreadFile

_BOM: Final = b"\xef\xbb\xbf"
_EVENTS: Final = frozenset({"start", "progress", "finding", "image"})


class FileContent(msgspec.Struct, frozen=True):
    """The reports of a file, and the parts of it that are none."""

    reports: tuple[NodeReport, ...] = ()
    unread: tuple[UnreadFile, ...] = ()


class _TooLarge(Exception):
    """A report has more bytes than allowed."""


class _Line(msgspec.Struct):
    """What tells a line's kind."""

    type: str = ""
    schema: str = ""
    host: str = ""


class _SummaryLine(msgspec.Struct, kw_only=True):
    """The last line of `check --format ndjson`."""

    time: datetime
    tool: Tool
    host: str
    source: Source
    verify: Verify
    duration_seconds: float
    complete: bool
    incomplete: tuple[str, ...] = ()
    summary: Summary
    coverage: Coverage | None = None
    facts: dict[str, Fact] = {}


#: What a decoder raises for bytes that are no report; deep nesting ends in RecursionError.
_NO_REPORT: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_report: Final = msgspec.json.Decoder(SlimReport)
_line: Final = msgspec.json.Decoder(_Line)
_finding: Final = msgspec.json.Decoder(Finding)
_image: Final = msgspec.json.Decoder(SlimImage)
_summary: Final = msgspec.json.Decoder(_SummaryLine)


def read_file(path: Path, *, limit: int) -> FileContent:
    """Read the reports in a file.

    Args:
        path: A file with one report as `check --format json` writes it, with one report per line, or with the lines of
            `check --format ndjson`, of one node or several; packed with gzip or zstd or not.
        limit: The most bytes of one report, and of one line, after decompression.

    Returns:
        The reports, and what could not be read with its reason; nothing is raised for a file that is no report.

    """
    name = str(path)
    try:
        with open_regular(path) as file:
            return _content(name, file, limit)
    except OSError as error:
        return _none(name, error.strerror or str(error))


def _content(name: str, file: BinaryIO, limit: int) -> FileContent:
    try:
        _, chunks = decompress(iter(lambda: file.read(CHUNK) or b"", b""))
        lines = _lines(chunks, limit)
        first, second = next(lines, b"").removeprefix(_BOM), next(lines, None)
        if second is not None and _complete(first):
            return _each(name, chain([first, second], lines))
        whole = _joined_lines(first, [] if second is None else chain([second], lines), limit)
        return FileContent((condense(_report.decode(whole), file=name),))
    except _TooLarge:
        most = f"{limit >> 20} MiB" if limit >= 1 << 20 else f"{limit} bytes"
        return _none(name, f"it is larger than {most}; --max-file-size allows more")
    except StopReading as stopped:
        return _none(name, stopped.problem.message)
    except AuditorError as error:
        return _none(name, error.message)
    except (*_NO_REPORT, Foreign) as error:
        return _none(name, _why(error))


def _none(name: str, why: str) -> FileContent:
    return FileContent((), (UnreadFile(file=name, reason=why),))


def _why(error: Exception) -> str:
    if isinstance(error, Foreign):
        return str(error)
    if isinstance(error, RecursionError):
        return "it is not a report: it is nested too deeply"
    return f"it is not a report of this version: {str(error)[:200]}"


def _lines(chunks: Iterable[bytes], limit: int) -> Iterator[bytes]:
    """Yield the lines that are not empty, without their ends. Raises _TooLarge for a longer one."""
    rest = bytearray()
    for piece in chunks:
        if b"\n" in piece:
            *whole, last = (bytes(rest) + piece if rest else piece).split(b"\n")
            yield from filter(None, whole)
            rest = bytearray(last)
        else:
            rest += piece
        if len(rest) > limit:
            raise _TooLarge
    if rest:
        yield bytes(rest)


def _joined_lines(first: bytes, others: Iterable[bytes], limit: int) -> bytes:
    """Join the lines of one report. Raises _TooLarge."""
    lines, size = [first], len(first)
    for line in others:
        size += len(line) + 1
        if size > limit:
            break
        lines.append(line)
    if size > limit:
        raise _TooLarge
    return b"\n".join(lines)


def _complete(line: bytes) -> bool:
    """Whether a line is a whole JSON object."""
    try:
        _line.decode(line)
    except _NO_REPORT:
        return False
    return True


def _each(name: str, lines: Iterable[bytes]) -> FileContent:
    runs = _Runs(name)
    for number, line in enumerate(lines, 1):
        try:
            runs.add(line)
        except (*_NO_REPORT, Foreign) as error:
            runs.unread.append(UnreadFile(file=name, reason=f"line {number}: {_why(error)}"))
    return runs.end()


class _Run(msgspec.Struct):
    """The lines of one host's run, up to its summary."""

    findings: list[Finding] = []
    images: list[SlimImage] = []


class _Runs:
    """Puts lines of `check --format ndjson` together again, by host."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: dict[str, _Run] = {}
        self._reports: list[NodeReport] = []
        self.unread: list[UnreadFile] = []

    def add(self, line: bytes) -> None:
        """Take a line; Foreign and the decoder's errors for one that is neither a report nor part of one."""
        kind = _line.decode(line)
        if kind.schema == SCHEMA and not kind.type:
            self._reports.append(condense(_report.decode(line), file=self._name))
        elif kind.type == "summary":
            run = self._open.pop(kind.host, _Run())
            self._reports.append(condense(_joined(_summary.decode(line), run), file=self._name))
        elif kind.type in _EVENTS:
            self._event(kind, line)
        else:
            raise Foreign("it is neither a report nor a line of --format ndjson")

    def _event(self, kind: _Line, line: bytes) -> None:
        if kind.type == "start" and kind.host in self._open:
            self._cut(kind.host)
        run = self._open.setdefault(kind.host, _Run())
        if kind.type == "finding":
            run.findings.append(_finding.decode(line))
        elif kind.type == "image":
            run.images.append(_image.decode(line))

    def _cut(self, host: str) -> None:
        del self._open[host]
        self.unread.append(UnreadFile(file=self._name, reason=f"a run of {host} was cut: its summary is missing"))

    def end(self) -> FileContent:
        """Return the reports; a run without its summary was cut."""
        for host in list(self._open):
            self._cut(host)
        return FileContent(tuple(self._reports), tuple(self.unread))


def _joined(end: _SummaryLine, run: _Run) -> SlimReport:
    return SlimReport(
        tool=end.tool,
        host=end.host,
        source=end.source,
        started_at=end.time,
        finished_at=end.time,
        duration_seconds=end.duration_seconds,
        verify=end.verify,
        complete=end.complete,
        incomplete=end.incomplete,
        summary=end.summary,
        findings=tuple(run.findings),
        images=tuple(run.images),
        coverage=end.coverage,
        facts=end.facts,
    )
