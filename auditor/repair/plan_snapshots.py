"""Plan the rebuild of damaged snapshots: from the findings of an audit to targets, parents first; pure."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import msgspec

from auditor.checks.evidence import Evidence
from auditor.model.digest import Digest
from auditor.model.findings import Finding
from auditor.model.snapshot_files import SnapshotKey
from auditor.model.store import LayerVerificationKind, VerificationKind
from auditor.repair.needs import DISCARDED, Skip, skip
from auditor.repair.rebuild_snapshot import Target, users
from auditor.snapshots.presence import Needed, needed

#: The findings that a rebuild ends.
REBUILT: Final = frozenset(
    "snapshot-directory-missing snapshot-empty snapshot-damaged snapshot-whiteouts-lost snapshot-attributes "
    "snapshot-extra-files".split()
)
_ABSENT: Final = "its layer's blob is absent, and no source offers it"
_DISCARDED: Final = "its layer's blob was discarded after unpacking; --include-discarded fetches it for the rebuild"
_DAMAGED: Final = "its layer's blob is damaged, and no source offers it"
_BELOW: Final = "a layer below it is damaged and cannot be rebuilt, and it is unpacked on that"
_UNKNOWN: Final = "its layer is not known"


class Rebuild(enum.StrEnum):
    """How a snapshot is rebuilt."""

    #: Exchange its directory with a new one.
    EXCHANGE = "exchange"
    #: Remove it and those above it, and unpack all of them again.
    REPLACE = "replace"


class SnapshotAction(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot to rebuild.

    Attributes:
        target: The snapshot, its folder and its layer.
        index: Number of the layer in its image, from 0.
        codes: Codes of its findings.
        message: The first of them, in words.
        images: Names of the images that use it.
        containers: Containers on it, as `namespace/id`.
        fetches: Whether the layer's blob is restored first, by an action of the blob repair.
        rebuild: How it is rebuilt.
        above: The snapshots above it, parents first, that are unpacked again, too, where it is replaced.

    """

    target: Target
    index: int
    codes: tuple[str, ...]
    message: str
    images: tuple[str, ...]
    containers: tuple[str, ...]
    fetches: bool = False
    rebuild: Rebuild = Rebuild.EXCHANGE
    above: tuple[Target, ...] = ()

    @property
    def key(self) -> SnapshotKey:
        """The snapshot's identity."""
        snapshot = self.target.snapshot
        return snapshot.namespace, snapshot.snapshotter, snapshot.name


class SnapshotPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The snapshots to rebuild, parents first, and the damaged ones that are not rebuilt."""

    actions: tuple[SnapshotAction, ...] = ()
    skips: tuple[Skip, ...] = ()
    notes: tuple[str, ...] = ()


def plan_snapshots(
    evidence: Evidence,
    findings: Iterable[Finding],
    *,
    refuse: Callable[[Target], str],
    restored: frozenset[Digest] = frozenset(),
    rebuild: Rebuild = Rebuild.EXCHANGE,
) -> SnapshotPlan:
    """Plan the rebuild of each snapshot that has a finding.

    Args:
        evidence: The evidence of an audit that compared snapshots.
        findings: Its findings.
        refuse: Returns why a snapshot cannot be rebuilt; empty where it can.
        restored: Blobs that are restored before the first rebuild.
        rebuild: How snapshots are rebuilt.

    """
    wanted = needed(evidence)
    found: dict[SnapshotKey, list[Finding]] = {}
    discarded = set()
    for finding in findings:
        if finding.code == DISCARDED:
            discarded.add(finding.subject.digest)
        if finding.code in REBUILT:
            snapshotter, _, name = (finding.subject.name or "").partition("/")
            found.setdefault((finding.namespace, snapshotter, name), []).append(finding)
    kind = _Replacements if rebuild is Rebuild.REPLACE else _Planner
    planner = kind(evidence, wanted, refuse, restored, frozenset(discarded))
    for key in sorted(found, key=lambda each: (wanted[each].index if each in wanted else 0, each)):
        planner.add(key, found[key])
    return SnapshotPlan(
        actions=tuple(planner.actions.values()), skips=tuple(planner.skips), notes=tuple(_notes(evidence, restored))
    )


def _notes(evidence: Evidence, restored: frozenset[Digest]) -> Iterator[str]:
    later = [
        key
        for key, each in needed(evidence).items()
        if each.layer.descriptor.digest in restored
        and (files := evidence.snapshot_files.get(key)) is not None
        and files.differences is None
        and not files.missing
    ]
    if later:
        yield f"{len(later)} more are compared when their layer's blob is restored, and rebuilt if they are damaged"


class _Planner:
    def __init__(
        self,
        evidence: Evidence,
        wanted: Mapping[SnapshotKey, Needed],
        refuse: Callable[[Target], str],
        restored: frozenset[Digest],
        discarded: frozenset[str],
    ) -> None:
        self._evidence = evidence
        self._wanted = wanted
        self._refuse = refuse
        self._restored = restored
        self._discarded = discarded
        self._views = {view.name: view for view in evidence.views}
        self._refused: set[SnapshotKey] = set()
        self.actions: dict[SnapshotKey, SnapshotAction] = {}
        self.skips: list[Skip] = []

    def add(self, key: SnapshotKey, findings: list[Finding]) -> None:
        """Plan one snapshot; those below it were added before."""
        target = self._target(key)
        reason = self._reason(key, target)
        if target is None or reason:
            self._refused.add(key)
            self.skips.append(skip(findings[0], reason))
            return
        self.actions[key] = self._action(key, target, findings)

    def _action(self, key: SnapshotKey, target: Target, findings: list[Finding]) -> SnapshotAction:
        return SnapshotAction(
            target=target,
            index=self._wanted[key].index,
            codes=tuple(dict.fromkeys(finding.code for finding in findings)),
            message=findings[0].message,
            images=tuple(dict.fromkeys(image.name for finding in findings for image in finding.images)),
            containers=users([self._views[key[0]].inventory], key[1], key[2]),
            fetches=target.layer.digest in self._restored,
        )

    def _target(self, key: SnapshotKey) -> Target | None:
        each, files = self._wanted.get(key), self._evidence.snapshot_files.get(key)
        if each is None or files is None or each.layer.diff_id is None:
            return None
        return Target(
            snapshot=each.snapshot,
            folder=Path(files.path.removesuffix("/fs")),
            layer=each.layer.descriptor,
            diff_id=each.layer.diff_id,
            unpacked=files.unpacked,
        )

    def _reason(self, key: SnapshotKey, target: Target | None) -> str:
        if target is None:
            return _UNKNOWN
        if why := self._refuse(target):
            return why
        if any(parent in self._refused for parent in self._parents(key)):
            return _BELOW
        return "" if target.layer.digest in self._restored else self._blob_reason(target)

    def _blob_reason(self, target: Target) -> str:
        view, digest = self._views[target.snapshot.namespace], target.layer.digest
        if not view.has(digest):
            return _DISCARDED if digest in self._discarded else _ABSENT
        verification = self._evidence.verifications.get(digest)
        return (
            ""
            if verification is None or verification.kind in (VerificationKind.SOUND, VerificationKind.UNSTEADY)
            else _DAMAGED
        )

    def _parents(self, key: SnapshotKey) -> Iterator[SnapshotKey]:
        namespace, snapshotter, name = key
        held, seen = self._views[namespace].inventory.snapshots.get(snapshotter, {}), set()
        while name and name in held and name not in seen:
            seen.add(name)
            name = held[name].parent
            yield namespace, snapshotter, name


class _Replacements(_Planner):
    """Plans to remove and unpack again: each damaged snapshot with those above it."""

    def add(self, key: SnapshotKey, findings: list[Finding]) -> None:
        """Plan one snapshot; one above a planned snapshot is unpacked again with that."""
        below = next((parent for parent in self._parents(key) if parent in self.actions), None)
        if below is None:
            super().add(key, findings)
            return
        action = self.actions[below]
        codes = tuple(dict.fromkeys((*action.codes, *(finding.code for finding in findings))))
        self.actions[below] = msgspec.structs.replace(action, codes=codes)

    def _action(self, key: SnapshotKey, target: Target, findings: list[Finding]) -> SnapshotAction:
        above = tuple(found for found in map(self._target, self._above(key)) if found is not None)
        action = super()._action(key, target, findings)
        fetches = any(each.layer.digest in self._restored for each in (target, *above))
        return msgspec.structs.replace(action, rebuild=Rebuild.REPLACE, above=above, fetches=fetches)

    def _reason(self, key: SnapshotKey, target: Target | None) -> str:
        if target is None:
            return _UNKNOWN
        if not target.unpacked:
            return "it was not made by unpacking a layer but by committing a container, and differs from its layer"
        if any(parent in self._refused for parent in self._parents(key)):
            return _BELOW
        return next(filter(None, map(self._member_reason, (key, *self._above(key)))), "")

    def _member_reason(self, key: SnapshotKey) -> str:
        """Return why a snapshot cannot be removed and unpacked again."""
        namespace, snapshotter, name = key
        held = self._views[namespace].inventory.snapshots.get(snapshotter, {})[name]
        if held.kind != "committed":
            return f"{name} uses it; only snapshots that nobody uses are replaced: --rebuild exchange"
        target = self._target(key)
        if target is not None and (why := self._refuse(target)):
            return why
        if target is None:
            return f"the layer of {name} above it is not known, so that could not be unpacked again; check all images"
        if target.layer.digest in self._restored:
            return ""
        return self._blob_reason(target) or self._layer_reason(target)

    def _layer_reason(self, target: Target) -> str:
        """Return why a layer cannot be relied on before a removal."""
        verification = self._evidence.verifications.get(target.layer.digest)
        layer = verification.layer if verification is not None else None
        known = layer is not None and layer.kind is LayerVerificationKind.SOUND and layer.diff_id == target.diff_id
        return "" if known else f"the layer {target.layer.digest} was not verified, or does not match its diffID"

    def _above(self, key: SnapshotKey) -> tuple[SnapshotKey, ...]:
        """Return the snapshots above one, parents first."""
        namespace, snapshotter, name = key
        held = self._views[namespace].inventory.snapshots.get(snapshotter, {})
        found, waiting = [], [name]
        while waiting:
            parent = waiting.pop(0)
            children = sorted(each.name for each in held.values() if each.parent == parent)
            found += children
            waiting += children
        return tuple((namespace, snapshotter, each) for each in found)
