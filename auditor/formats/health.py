"""The answers of `auditor health`: for monitoring plugins (Nagios, Icinga, Naemon) and for node-problem-detector.

Statuses and form follow the Monitoring Plugins' development guidelines: one line with performance data, then long text.
The output is limited to the 1,024 bytes that NRPE 2 transfers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from auditor.formats.sanitize import plain
from auditor.report.health import Health, State

NAGIOS_STATUS: Final = {State.OK: 0, State.WARNING: 1, State.CRITICAL: 2, State.UNKNOWN: 3}
#: The longest output, in bytes, its last newline included.
NAGIOS_MOST: Final = 1024
_LINE: Final = 400


def render_nagios(health: Health) -> str:
    """The plugin output: ASCII, at most NAGIOS_MOST bytes; performance data is never cut."""
    first = f"CONTAINERD {health.state.value.upper()}: {_clean(health.text, _LINE)}"
    data = " ".join(_data(health))
    output = f"{first} | {data}" if data else first
    for finding in health.findings:
        line = f"\n{_clean(f'{finding.severity} {finding.code}: {finding.message}', 250)}"
        if len(output) + len(line) + 1 > NAGIOS_MOST:
            break
        output += line
    return output + "\n"


def _data(health: Health) -> Iterator[str]:
    """Performance data: `'label'=value[UOM];[warn];[crit];[min]`."""
    for name in ("critical", "error", "warning", "images", "damaged_images"):
        if name in health.counts:
            yield f"'{name}'={health.counts[name]};;;0"
    if health.age is not None:
        yield f"'age'={health.age:.0f}s;;;0"


def _clean(text: str, width: int) -> str:
    """One line of ASCII without `|`, which begins performance data."""
    shown = plain(text).replace("|", "/").encode("ascii", "backslashreplace").decode()
    return shown if len(shown) <= width else f"{shown[: width - 3]}..."


NPD_STATUS: Final = {State.OK: 0, State.WARNING: 1, State.CRITICAL: 1, State.UNKNOWN: 2}
#: Longest output in bytes: the default of node-problem-detector's max_output_length.
NPD_MOST: Final = 80


def render_npd(health: Health) -> str:
    """One line of printable ASCII of at most NPD_MOST bytes, without a newline at its end."""
    first = health.findings[0] if health.findings and health.state in (State.CRITICAL, State.WARNING) else None
    what = f"{first.code} {(first.subject.digest or first.subject.name)[:14]}: {health.text}" if first else health.text
    shown = "".join(c if c.isascii() and c.isprintable() else "?" for c in what)
    return shown if len(shown) <= NPD_MOST else f"{shown[: NPD_MOST - 2]}.."
