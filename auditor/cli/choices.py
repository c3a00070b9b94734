"""The words that options choose among, in a module so light that `--help` stays instant."""

from __future__ import annotations

import enum


class Format(enum.StrEnum):
    """How to print what is no report: a tree, the rules."""

    TABLE = "table"
    JSON = "json"


class ReportFormat(enum.StrEnum):
    """How to print a report; the first two are the words of Format."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    PROMETHEUS = "prometheus"
    JUNIT = "junit"
    MARKDOWN = "markdown"
    HTML = "html"


class Verify(enum.StrEnum):
    """How hard to look; the same words as auditor.model.findings.Verify."""

    PRESENCE = "presence"
    DIGESTS = "digests"
    LAYERS = "layers"


class Compress(enum.StrEnum):
    """How to compress an archive."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


class Depth(enum.StrEnum):
    """How far a scrub reads."""

    DIGESTS = "digests"
    LAYERS = "layers"


class FailOn(enum.StrEnum):
    """From which severity on to fail; the same words as auditor.model.findings.FailOn."""

    CRITICAL = "critical"
    ERROR = "error"
    WARNING = "warning"
    INFO = "info"
    NEVER = "never"
