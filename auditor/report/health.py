"""Rate a node's health from its last saved report, for monitoring. No I/O."""

from __future__ import annotations

import enum
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec

#: Maximum length of a report in bytes, unpacked; a store of 20,000 images makes less than half of it.
MAX_REPORT: Final = 256 << 20
#: Tolerated clock difference: a report this far in the future is accepted.
SKEW: Final = timedelta(minutes=5)
_AWARE = msgspec.Meta(tz=True)
#: The verification levels that read no contents.
_UNREAD: Final = frozenset({"presence", "snapshots-quick"})
_SCHEMA: Final = "containerd-auditor/report/v1"
_RANKS: Final = {"critical": 0, "error": 1, "warning": 2, "info": 3}


class State(enum.Enum):
    """The state of the node."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"
    UNKNOWN = "unknown"


class Subject(msgspec.Struct, frozen=True):
    """The object of a finding."""

    kind: str = ""
    digest: str = ""
    name: str = ""


class Finding(msgspec.Struct, frozen=True):
    """The fields of a finding that monitoring needs; the others are not decoded, to save time on long reports."""

    code: str
    severity: str
    message: str
    subject: Subject = Subject()


class _Counts(msgspec.Struct, frozen=True):
    total: int = 0
    sound: int = 0
    damaged: int = 0


class _Summary(msgspec.Struct, frozen=True):
    images: _Counts = _Counts()


class _Saved(msgspec.Struct, frozen=True):
    schema: str
    host: str
    finished_at: Annotated[datetime, _AWARE]
    complete: bool
    summary: _Summary
    findings: tuple[Finding, ...]
    incomplete: tuple[str, ...] = ()
    verify: str = ""


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The state, one sentence, the findings above info (the most severe first), and counts."""

    state: State
    text: str
    findings: tuple[Finding, ...] = ()
    counts: dict[str, int] = {}
    #: Seconds since the report was finished; None where there is no usable report.
    age: float | None = None


class Thresholds(msgspec.Struct, frozen=True, kw_only=True):
    """The lowest severities that make the state critical or a warning, and the maximum age of a report."""

    critical: str = "critical"
    warning: str = "warning"
    max_age: timedelta


def unknown(why: str) -> Health:
    """Return an unknown state with its reason."""
    return Health(state=State.UNKNOWN, text=why)


def judge(raw: bytes, *, now: datetime, thresholds: Thresholds) -> Health:
    """Rate a saved report; a report that is unreadable, stale or from the future makes the state unknown.

    Args:
        raw: The report as JSON.
        now: The current time, in UTC.
        thresholds: The limits.

    """
    try:
        saved = msgspec.json.decode(raw, type=_Saved)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return unknown("the report is empty" if not raw.strip() else "the report is truncated or not a report")
    if saved.schema != _SCHEMA:
        return unknown("the report has another schema version")
    age = now - saved.finished_at
    if age < -SKEW:
        return unknown(f"the report is from the future, by {ago(-age)}")
    if age > thresholds.max_age:
        return unknown(f"the report is stale: {ago(age)} old, the limit is {ago(thresholds.max_age)}")
    return _judged(saved, max(0.0, age.total_seconds()), thresholds)


def _judged(saved: _Saved, age: float, thresholds: Thresholds) -> Health:
    # An unknown severity counts as critical.
    counts = {name: sum(_RANKS.get(f.severity, 0) == rank for f in saved.findings) for name, rank in _RANKS.items()}
    listed = sorted((f for f in saved.findings if f.severity != "info"), key=lambda f: _RANKS.get(f.severity, 0))
    state = _state(counts, saved.complete, thresholds)
    return Health(
        state=state,
        text=_text(state, saved, counts, age),
        findings=tuple(listed),
        counts={**counts, "images": saved.summary.images.total, "damaged_images": saved.summary.images.damaged},
        age=age,
    )


def _state(counts: dict[str, int], complete: bool, thresholds: Thresholds) -> State:
    """Findings take precedence over an incomplete run."""
    if _any(counts, thresholds.critical):
        return State.CRITICAL
    if _any(counts, thresholds.warning):
        return State.WARNING
    return State.OK if complete else State.UNKNOWN


def _any(counts: dict[str, int], severity: str) -> bool:
    return any(counts[name] for name, rank in _RANKS.items() if rank <= _RANKS[severity])


def _text(state: State, saved: _Saved, counts: dict[str, int], age: float) -> str:
    images = saved.summary.images
    word = "image" if images.total == 1 else "images"
    found = ", ".join(f"{number} {name}" for name, number in counts.items() if number and name != "info")
    looked = "" if saved.complete else "; not all could be examined"
    when = f"{ago(timedelta(seconds=age))} ago"
    if state is State.UNKNOWN:
        why = f": {saved.incomplete[0]}" if saved.incomplete else ""
        return f"not all could be examined, {when}{why}"
    if not found:
        unread = " in metadata, contents not read" if saved.verify in _UNREAD else ""
        sound = f"{images.total}" if images.sound == images.total else f"{images.sound} of {images.total}"
        return f"{sound} {word} sound{unread}, {when}{looked}"
    return f"{images.damaged} of {images.total} {word} damaged ({found}), {when}{looked}"


def ago(age: timedelta) -> str:
    """Return a duration as `45s`, `12m`, `7h` or `3d`."""
    seconds = int(age.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
