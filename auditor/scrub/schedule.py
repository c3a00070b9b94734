"""Which bytes to prove next, and how much of a store is proven."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from auditor.model.digest import Digest
from auditor.scrub.state import Remembered
from auditor.scrub.targets import Target


class _Class(enum.IntEnum):
    """Why a blob is due, the most urgent first."""

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
    """What is due, in the order in which to read it: known bad, never proven, longest unproven.

    Nothing that was proven within `max_age` is due. `known_bad` and `new_only` restrict the run to these kinds, both
    together to both. With `layers`, a layer that was only hashed counts as never proven. Among equals, what was begun
    and not finished comes last, so that a blob too large for the time given does not use it up each time.
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
    return _Class.OLD if known.proven(layers=layers) else _Class.NEW


def _since(kind: _Class, known: Remembered) -> tuple[float, float]:
    tried = known.tried_at.timestamp() if known.tried_at else 0.0
    read = known.read_at.timestamp() if known.read_at and kind is not _Class.NEW else 0.0
    return max(tried, read), read


def _young(known: Remembered, now: datetime, max_age: timedelta | None) -> bool:
    # A time that lies in the future, because the clock was put back, is as far away as one in the past: a proof dated
    # 2099 must not count for decades, and one dated an hour ahead need not be repeated.
    return max_age is not None and known.read_at is not None and abs(now - known.read_at) < max_age


class Coverage(msgspec.Struct, frozen=True):
    """How much of a store is proven; `oldest` is when the oldest of these proofs was made, `bad` counts known bad."""

    blobs: int = 0
    bytes: int = 0
    proven_blobs: int = 0
    proven_bytes: int = 0
    bad: int = 0
    oldest: datetime | None = None


def coverage(targets: Iterable[Target], remembered: Mapping[Digest, Remembered], *, layers: bool = False) -> Coverage:
    """Count what of `targets` was found sound when last read."""
    every = list(targets)
    held = [(target, remembered[target.digest]) for target in every if target.digest in remembered]
    proven = [(target, known) for target, known in held if known.proven(layers=layers and target.layer)]
    return Coverage(
        blobs=len(every),
        bytes=sum(target.size for target in every),
        proven_blobs=len(proven),
        proven_bytes=sum(target.size for target, _ in proven),
        bad=sum(known.bad for _, known in held),
        oldest=min((known.read_at for _, known in proven if known.read_at is not None), default=None),
    )
