"""A diagnosis as text for the person on call, and as Markdown for an issue, without hosts and credentials."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from auditor.formats.plain import plain, size

_WIDTH = 100
#: What stands before an @ in an address, and the host of an image's name; neither belongs in a public issue.
_SECRET = re.compile(
    r"(?<=://)[^/@\s]+@|(?i:(?:authorization|bearer|basic|token|password|identitytoken)[\s:=]+)[^\s,;]+"
)
_HOST = re.compile(
    r"(?<![\w./@-])(?!sha\d)(?:localhost|\[[0-9a-f:]+\]|(?:[a-z0-9-]+\.)+[a-z0-9-]+)(?::\d+)?(?=/[a-z0-9])"
    r"|(?<=https://)[^/\s]+|(?<=http://)[^/\s]+|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b",
)
#: Hosts that everybody has, which say more than they reveal.
_PUBLIC = frozenset({"docker.io", "quay.io", "ghcr.io", "gcr.io", "registry.k8s.io", "mcr.microsoft.com", "github.com"})


class Section(msgspec.Struct, frozen=True):
    """A heading and its lines; `code` marks lines that are commands."""

    title: str
    lines: tuple[str, ...]
    code: bool = False


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A diagnosis ready to print: the answer, then what it rests on."""

    line: str
    cause: str
    sure: str
    sections: tuple[Section, ...]


def text(page: Page) -> str:
    """Lines for a terminal, the answer first."""
    lines = []
    if page.line:
        lines += [*_wrap("asked   ", page.line), ""]
    lines += [*_wrap("cause   ", page.cause), f"sure    {page.sure}"]
    for section in page.sections:
        lines += ["", section.title]
        for line in section.lines:
            lines += [f"  {plain(line)}"] if section.code else list(_wrap("  - ", line))
    return "\n".join(lines) + "\n"


def markdown(page: Page) -> str:
    """Markdown for an issue; hosts of images become `registry.example`, credentials go."""
    lines = [f"**Cause** ({page.sure}): {_text(page.cause)}", ""]
    if page.line:
        lines = ["```", *_fenced([page.line]), "```", "", *lines]
    for section in page.sections:
        lines += [f"### {section.title}", ""]
        if section.code:
            lines += ["```sh", *_fenced(section.lines), "```", ""]
        else:
            lines += [*(f"- {_text(line)}" for line in section.lines), ""]
    return "\n".join(lines)


def without_secrets(line: str) -> str:
    """The line without credentials and without the names of private hosts."""
    return _HOST.sub(_host, _SECRET.sub("", line))


def _host(found: re.Match[str]) -> str:
    return found[0] if found[0] in _PUBLIC else "registry.example"


def _text(line: str) -> str:
    """Markdown's own characters and HTML made harmless."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", plain(without_secrets(line)))


def _fenced(lines: Iterable[str]) -> Iterator[str]:
    return (plain(without_secrets(line)).replace("```", "'''") for line in lines)


def _wrap(label: str, line: str) -> Sequence[str]:
    shown = plain(line, width=2_000)
    return textwrap.wrap(
        shown, _WIDTH, initial_indent=label, subsequent_indent=" " * len(label), break_long_words=False,
        break_on_hyphens=False,
    ) or [label]  # fmt: skip


def bytes_of(number: int | None) -> str:
    """A size for people, or nothing."""
    return size(number) if number is not None else ""
