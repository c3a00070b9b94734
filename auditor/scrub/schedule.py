"""Order the blobs to verify, and count how much of a store is verified."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from auditor.model.digest import Digest
from auditor.scrub.state import Remembered
from auditor.scrub.targets import Target


class _Class(enum.IntEnum):
    """The reason why a blob is due, most urgent first."""

    KNOWN_BAD = 0
    NEW = 1
    OLD = 2


def plan(
    targets: Iterable[Target],
    remembered: Mapping[Digest, Remembered],
    *,
    now: datetime,
    max_age: timedelta | None = None,
    known_bad: bool = False,
    new_only: bool = False,
    layers: bool = False,
) -> list[Target]:
    """Return the blobs that are due, in reading order: known bad, never verified, verified longest ago.

    Among equals, a blob that was begun and not finished comes last, so that one that is too large for the time budget
    does not use it up in each run.

    Args:
        targets: the blobs of the store.
        remembered: the results of earlier runs.
        now: the current time.
        max_age: a blob that was verified within this time is not due.
        known_bad: only blobs that are known bad; with `new_only` both kinds.
        new_only: only blobs that were never verified.
        layers: a layer that was only hashed counts as never verified.

    """
    only = {_Class.KNOWN_BAD} if known_bad else set()
    only |= {_Class.NEW} if new_only else set()
    due = []
    for target in targets:
        known = remembered.get(target.digest, Remembered(target.digest))
        kind = _kind(known, layers=layers and target.layer)
        if (not only or kind in only) and not (kind is _Class.OLD and _young(known, now, max_age)):
            due.append((kind, *_since(kind, known), -target.size, target.digest, target))
    return [entry[-1] for entry in sorted(due, key=lambda entry: entry[:-1])]


def _kind(known: Remembered, *, layers: bool) -> _Class:
    if known.bad:
        return _Class.KNOWN_BAD
    return _Class.OLD if known.verified(layers=layers) else _Class.NEW


def _since(kind: _Class, known: Remembered) -> tuple[float, float]:
    tried = known.tried_at.timestamp() if known.tried_at else 0.0
    read = known.read_at.timestamp() if known.read_at and kind is not _Class.NEW else 0.0
    return max(tried, read), read


def _young(known: Remembered, now: datetime, max_age: timedelta | None) -> bool:
    # After the clock was set back, a time may lie in the future; its distance counts as for the past: a time in
    # 2099 must not count for decades, and one an hour ahead need not be repeated.
    return max_age is not None and known.read_at is not None and abs(now - known.read_at) < max_age


class Coverage(msgspec.Struct, frozen=True):
    """How much of a store is verified; `oldest` is the time of the oldest read, `bad` counts known bad blobs."""

    blobs: int = 0
    bytes: int = 0
    proven_blobs: int = 0
    proven_bytes: int = 0
    bad: int = 0
    oldest: datetime | None = None


def coverage(targets: Iterable[Target], remembered: Mapping[Digest, Remembered], *, layers: bool = False) -> Coverage:
    """Count the blobs of `targets` that were intact when last read."""
    every = list(targets)
    held = [(target, remembered[target.digest]) for target in every if target.digest in remembered]
    verified = [(target, known) for target, known in held if known.verified(layers=layers and target.layer)]
    return Coverage(
        blobs=len(every),
        bytes=sum(target.size for target in every),
        proven_blobs=len(verified),
        proven_bytes=sum(target.size for target, _ in verified),
        bad=sum(known.bad for _, known in held),
        oldest=min((known.read_at for _, known in verified if known.read_at is not None), default=None),
    )
