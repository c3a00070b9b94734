"""A finding that appeared, changed or went, as a line of text."""

from __future__ import annotations

from datetime import datetime

from auditor.formats.sanitize import plain
from auditor.model.plural import plural
from auditor.watch.memory import Change


def line(change: Change, *, at: datetime) -> str:
    """One line: time, what changed, severity, rule, namespace, message, images."""
    finding = change.finding
    names = [image.name for image in finding.images]
    others = f" and {plural(len(names) - 1, 'more image')}" if len(names) > 1 else ""
    image = f" [{plain(names[0], width=100)}{others}]" if names else ""
    return (
        f"{at:%Y-%m-%dT%H:%M:%SZ} {change.kind} {finding.severity} {plain(finding.code, width=60)} "
        f"{plain(finding.namespace, width=60)}: {plain(finding.message, width=300)}{image}"
    )
