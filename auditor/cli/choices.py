"""Values of options. Imports nothing heavy, so that `--help` is fast."""

from __future__ import annotations

import enum


class Format(enum.StrEnum):
    """Output formats other than those of a report."""

    TABLE = "table"
    JSON = "json"


class FleetFormat(enum.StrEnum):
    """Output formats of the picture of a fleet."""

    TABLE = "table"
    JSON = "json"
    HTML = "html"


class ReportFormat(enum.StrEnum):
    """Output formats of a report; the first two are those of Format."""

    TABLE = "table"
    JSON = "json"
    NDJSON = "ndjson"
    PROMETHEUS = "prometheus"
    JUNIT = "junit"
    MARKDOWN = "markdown"
    HTML = "html"
    SARIF = "sarif"
    GITLAB = "gitlab"


class Verify(enum.StrEnum):
    """Verification levels of content; values of auditor.model.findings.Verify."""

    PRESENCE = "presence"
    DIGESTS = "digests"
    LAYERS = "layers"


class CheckVerify(enum.StrEnum):
    """Verification levels of a store's check; the same values as auditor.model.findings.Verify."""

    PRESENCE = "presence"
    SNAPSHOTS_QUICK = "snapshots-quick"
    DIGESTS = "digests"
    LAYERS = "layers"
    SNAPSHOTS = "snapshots"


class Rebuild(enum.StrEnum):
    """How to rebuild snapshots; the same values as auditor.repair.plan_snapshots.Rebuild."""

    EXCHANGE = "exchange"
    REPLACE = "replace"


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
