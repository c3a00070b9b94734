"""The JSON report, version 1."""

from __future__ import annotations

import msgspec

from auditor.errors import UsageError
from auditor.formats.sanitize import json_plain
from auditor.model.findings import SCHEMA, Report


def render(report: Report) -> str:
    """The report as indented JSON with a newline at its end; the same report gives the same text."""
    return to_json(report)


def to_json(value: object) -> str:
    """A record as indented JSON with a newline at its end."""
    try:
        raw = msgspec.json.encode(value)
    except UnicodeEncodeError:
        raw = msgspec.json.encode(_unicode(msgspec.to_builtins(value)))
    return json_plain(msgspec.json.format(raw, indent=2).decode()) + "\n"


def _unicode(value: object) -> object:
    """The value with lone surrogates escaped; paths that are not valid UTF-8 contain them."""
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {_unicode(name): _unicode(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_unicode(inner) for inner in value]
        case _:
            return value


def load(raw: bytes, *, name: str) -> Report:
    """Read a saved report; errors call it `name`. Raises UsageError if it is not a report of this version."""
    try:
        return msgspec.json.decode(raw, type=Report)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        hint = f"a report has {SCHEMA!r} in `schema`; auditor check --format json writes one"
        raise UsageError(f"{name} is not a report of this version: {str(error)[:200]}", hint=hint) from None
