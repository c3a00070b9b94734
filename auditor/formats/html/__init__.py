"""The report as one self-contained page."""

from __future__ import annotations

from collections.abc import Mapping

from auditor.comparison import Comparison
from auditor.findings import Report
from auditor.fleet import Fleet
from auditor.formats.table import Advice


def render(report: Report, *, advice: Mapping[str, Advice], comparison: Comparison | None = None) -> str:
    """The page of one node."""
    raise NotImplementedError


def render_fleet(fleet: Fleet, *, advice: Mapping[str, Advice]) -> str:
    """The page of several nodes."""
    raise NotImplementedError
