"""One file a format, each a function from a report to text; chosen by an enum, so a new one is a file and a line."""

from __future__ import annotations
