"""Order the blobs to verify and the snapshots to compare, and count how much of a store is verified."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

import msgspec

from auditor.model.digest import Digest
from auditor.model.snapshot_files import SnapshotKey
from auditor.scrub.snapshot_state import RememberedSnapshot
from auditor.scrub.state import Remembered
from auditor.scrub.targets import SnapshotTarget, Target


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
    due = _Due(now=now, max_age=max_age, known_bad=known_bad, new_only=new_only)
    return [target for _, target in sorted(due.blobs(targets, remembered, layers=layers), key=lambda pair: pair[0])]


def plan_with_snapshots(
    targets: Iterable[Target],
    remembered: Mapping[Digest, Remembered],
    snapshots: Iterable[SnapshotTarget],
    compared: Mapping[SnapshotKey, RememberedSnapshot],
    *,
    now: datetime,
    max_age: timedelta | None = None,
    known_bad: bool = False,
    new_only: bool = False,
    layers: bool = False,
) -> list[Target | SnapshotTarget]:
    """Return the blobs and snapshots that are due, in the order of `plan`.

    Among equals, a snapshot comes before blobs: comparing it also verifies its layer's blob.

    Args:
        targets: as for `plan`.
        remembered: as for `plan`.
        snapshots: the snapshots of the store.
        compared: the results of earlier runs; those of another directory do not count.
        now: as for `plan`.
        max_age: as for `plan`; for snapshots, those that were compared within this time.
        known_bad: as for `plan`.
        new_only: as for `plan`.
        layers: as for `plan`.

    """
    due = _Due(now=now, max_age=max_age, known_bad=known_bad, new_only=new_only)
    pairs: list[tuple[_Rank, Target | SnapshotTarget]] = list(due.blobs(targets, remembered, layers=layers))
    pairs += due.snapshots(snapshots, compared)
    return [target for _, target in sorted(pairs, key=lambda pair: pair[0])]


#: Class, times of the last attempt and the last result, snapshots before blobs, larger before smaller, name.
_Rank = tuple[_Class, float, float, bool, int, str | SnapshotKey]


class _Due:
    """Selects and ranks what is due."""

    def __init__(self, *, now: datetime, max_age: timedelta | None, known_bad: bool, new_only: bool) -> None:
        self._now = now
        self._max_age = max_age
        self._only = ({_Class.KNOWN_BAD} if known_bad else set()) | ({_Class.NEW} if new_only else set())

    def blobs(
        self, targets: Iterable[Target], remembered: Mapping[Digest, Remembered], *, layers: bool
    ) -> Iterator[tuple[_Rank, Target]]:
        for target in targets:
            known = remembered.get(target.digest, Remembered(target.digest))
            kind = _kind(bad=known.bad, old=known.verified(layers=layers and target.layer))
            if self._wanted(kind, known):
                yield (kind, *_since(kind, known), True, -target.size, target.digest), target

    def snapshots(
        self, targets: Iterable[SnapshotTarget], compared: Mapping[SnapshotKey, RememberedSnapshot]
    ) -> Iterator[tuple[_Rank, SnapshotTarget]]:
        for target in targets:
            known = current(target, compared) or RememberedSnapshot()
            kind = _kind(bad=known.bad, old=known.settled)
            if self._wanted(kind, known):
                size = target.needed.layer.descriptor.size
                yield (kind, *_since(kind, known), False, -size, target.key), target

    def _wanted(self, kind: _Class, known: Remembered | RememberedSnapshot) -> bool:
        return (not self._only or kind in self._only) and not (
            kind is _Class.OLD and _young(known, self._now, self._max_age)
        )


def current(target: SnapshotTarget, compared: Mapping[SnapshotKey, RememberedSnapshot]) -> RememberedSnapshot | None:
    """Return what is remembered of a snapshot; None where that was another directory of its name."""
    known = compared.get(target.key)
    return known if known is not None and known.directory == target.directory else None


def _kind(*, bad: bool, old: bool) -> _Class:
    if bad:
        return _Class.KNOWN_BAD
    return _Class.OLD if old else _Class.NEW


def _since(kind: _Class, known: Remembered | RememberedSnapshot) -> tuple[float, float]:
    tried = known.tried_at.timestamp() if known.tried_at else 0.0
    read = known.read_at.timestamp() if known.read_at and kind is not _Class.NEW else 0.0
    return max(tried, read), read


def _young(known: Remembered | RememberedSnapshot, now: datetime, max_age: timedelta | None) -> bool:
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


class SnapshotCoverage(msgspec.Struct, frozen=True):
    """How many snapshots can be compared, how many had no difference when last compared, and the oldest such time."""

    snapshots: int = 0
    compared: int = 0
    oldest: datetime | None = None


def snapshot_coverage(
    targets: Iterable[SnapshotTarget], compared: Mapping[SnapshotKey, RememberedSnapshot]
) -> SnapshotCoverage:
    """Count the snapshots of `targets` that had no difference when last compared."""
    every = list(targets)
    intact = [known for target in every if (known := current(target, compared)) is not None and known.compared]
    return SnapshotCoverage(
        snapshots=len(every),
        compared=len(intact),
        oldest=min((known.read_at for known in intact if known.read_at is not None), default=None),
    )
