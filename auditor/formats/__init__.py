"""One file per output format: functions from a report to text. `cli.render` maps format names to them."""

from __future__ import annotations
