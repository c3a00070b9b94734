"""The JSON report: the contract of DESIGN, version 1, and its schema."""

from __future__ import annotations

from typing import Any

import msgspec

from auditor.errors import UsageError
from auditor.findings import SCHEMA, Report
from auditor.formats.plain import json_plain


def render(report: Report) -> str:
    """The report as indented JSON with a newline at its end; the same report gives the same text."""
    return to_json(report)


def to_json(value: object) -> str:
    """Any of our records as indented JSON with a newline at its end."""
    return json_plain(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()) + "\n"


def load(raw: bytes, *, name: str) -> Report:
    """Read a saved report; `name` is what to call it in an error. Raises UsageError for anything else."""
    try:
        return msgspec.json.decode(raw, type=Report)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        hint = f"a report says {SCHEMA!r} under `schema`; auditor check --format json writes one"
        raise UsageError(f"{name} is not a report of this version: {str(error)[:200]}", hint=hint) from None


def schema() -> dict[str, Any]:
    """The JSON Schema of the report, from the same types."""
    made = msgspec.json.schema(Report)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": SCHEMA, **made}


def render_schema() -> str:
    """The schema as the file under reports/ has it."""
    return msgspec.json.format(msgspec.json.encode(schema(), order="deterministic"), indent=2).decode() + "\n"
