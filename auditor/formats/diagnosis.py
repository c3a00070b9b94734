"""A diagnosis as text for a terminal, and as Markdown for a public issue, without hosts and credentials."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from auditor.formats.markdown import code, escape
from auditor.formats.redact import Veil
from auditor.formats.sanitize import plain, size

_WIDTH = 100
#: Most characters of one line; a name may have thousands.
_LONGEST = 600
#: Printed as code: words in backticks, digests.
_CODE = re.compile(r"`([^`]+)`|(sha(?:256|384|512):[0-9a-f]+…?)")


class Section(msgspec.Struct, frozen=True):
    """A heading and its lines; `code` marks lines that are commands."""

    title: str
    lines: tuple[str, ...]
    code: bool = False


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A diagnosis ready to print: the answer, then the evidence.

    `sure` is the confidence and its reason, `next` the first command to run, `hosts` the registries named in the text.
    """

    line: str
    cause: str
    sure: str
    next: str = ""
    sections: tuple[Section, ...] = ()
    hosts: tuple[str, ...] = ()


def text(page: Page) -> str:
    """Lines for a terminal, the answer first."""
    lines = []
    if page.line:
        lines += [*_wrap("asked: ", page.line), ""]
    lines += [*_wrap("cause: ", page.cause), *_wrap("confidence: ", page.sure)]
    if page.next:
        lines += [f"next: {plain(page.next, width=_LONGEST * 4)}"]
    for section in page.sections:
        lines += ["", *_wrap("", section.title)]
        for line in section.lines:
            lines += [f"  {plain(line, width=_LONGEST * 4)}"] if section.code else list(_wrap("  - ", line))
    return "\n".join(lines) + "\n"


def markdown(page: Page) -> str:
    """Markdown for an issue: private hosts become `registry.example` or one with a number, credentials are removed."""
    veil = Veil(page.hosts)
    lines = ["```text", *_fenced([page.line], veil), "```", ""] if page.line else []
    lines += [f"**Cause:** {_text(page.cause, veil)}  ", f"**Confidence:** {_text(page.sure, veil)}", ""]
    for section in page.sections:
        lines += [f"### {_text(section.title, veil)}", ""]
        if section.code:
            lines += ["```sh", *_fenced(section.lines, veil), "```", ""]
        else:
            lines += [*(f"- {_text(line, veil)}" for line in section.lines), ""]
    return "\n".join(lines).rstrip("\n") + "\n"


def _text(line: str, veil: Veil) -> str:
    """A line with words in backticks and digests as code, and everything else escaped."""
    shown = plain(veil.over(line), width=_LONGEST)
    parts, end = [], 0
    for found in _CODE.finditer(shown):
        parts += [escape(shown[end : found.start()]) if found.start() > end else "", code(found[1] or found[2])]
        end = found.end()
    return "".join(parts) + (escape(shown[end:]) if end < len(shown) else "")


def _fenced(lines: Iterable[str], veil: Veil) -> Iterator[str]:
    return (plain(veil.over(line), width=_LONGEST * 4).replace("```", "'''") for line in lines)


def _wrap(label: str, line: str) -> Sequence[str]:
    return textwrap.wrap(
        plain(line, width=_LONGEST), _WIDTH, initial_indent=label, subsequent_indent=" " * len(label),
        break_long_words=False, break_on_hyphens=False,
    ) or [label]  # fmt: skip


def bytes_of(number: int | None) -> str:
    """A size in binary units; empty if unknown."""
    return size(number) if number is not None else ""
