"""The report as one self-contained HTML page: no external script, style, font or image; readable without scripts."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from auditor.checks.rule import Rule
from auditor.fleet.picture import Picture
from auditor.formats.html import fleet_page, node_page, picture_page
from auditor.formats.sanitize import plain, size
from auditor.model.command_line import is_command
from auditor.model.findings import Report
from auditor.model.plural import plural
from auditor.report.compare import Comparison
from auditor.report.fleet import Fleet


def render(report: Report, *, advice: Mapping[str, Rule], comparison: Comparison | None = None) -> str:
    """The page of one node; with `comparison`, the changes since an older report come first."""
    page = node_page.page(report, advice=advice, comparison=comparison)
    return _environment().get_template("node.html.j2").render(page=page, policy=_policy())


def render_fleet(fleet: Fleet, *, advice: Mapping[str, Rule]) -> str:
    """The page of several nodes."""
    page = fleet_page.page(fleet, advice=advice)
    return _environment().get_template("fleet.html.j2").render(page=page, policy=_policy())


def render_picture(picture: Picture) -> str:
    """The page of a fleet's picture."""
    page = picture_page.page(picture)
    return _environment().get_template("picture.html.j2").render(page=page, policy=_policy())


@cache
def _environment() -> Environment:
    """The template environment: autoescape, undefined names are errors; names from reports also go through `plain`."""
    environment = Environment(
        loader=PackageLoader("auditor.formats.html", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(plain=plain, size=size, ticks=_ticks, breaks=_breaks)
    environment.globals.update(plural=plural, is_command=is_command)
    return environment


def _ticks(text: str) -> Markup:
    """Text with `words` in backticks as code, everything escaped."""
    parts = (
        Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(text.split("`"))
    )
    return Markup("").join(parts)


def _breaks(text: str) -> Markup:
    """Text that may be broken after the separators of names, but not within their words; everything escaped."""
    return Markup("<wbr>").join(escape(part) for part in re.split(r"(?<=[/@])(?=\w)|(?<=:)(?<!sha256:)(?=\w)", text))


@cache
def _policy() -> str:
    """The Content-Security-Policy that allows only the style and script of the page, by their hashes."""
    style, script = (_hash(_environment().get_template(name).render()) for name in ("style.css", "script.js"))
    return (
        f"default-src 'none'; img-src data:; style-src '{style}'; script-src '{script}'; base-uri 'none'; "
        "form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
