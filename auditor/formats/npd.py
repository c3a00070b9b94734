"""An answer for node-problem-detector's custom plugin monitor.

Its plugin.go keeps 80 bytes of the message by default and makes it the node condition's, so the most important words
come first. Status 0 is OK, 1 is NonOK, anything else Unknown.
"""

from __future__ import annotations

from typing import Final

from auditor.health import Health, State

STATUS: Final = {State.OK: 0, State.WARNING: 1, State.CRITICAL: 1, State.UNKNOWN: 2}
#: The default of max_output_length, in bytes.
MOST: Final = 80


def render(health: Health) -> str:
    """One line of printable ASCII of at most MOST bytes, without a newline at its end."""
    first = health.findings[0] if health.findings and health.state in (State.CRITICAL, State.WARNING) else None
    what = f"{first.code} {(first.subject.digest or first.subject.name)[:14]}: {health.text}" if first else health.text
    shown = "".join(c if c.isascii() and c.isprintable() else "?" for c in what)
    return shown if len(shown) <= MOST else f"{shown[: MOST - 2]}.."
