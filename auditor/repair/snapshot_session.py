"""Rebuild the damaged snapshots of a store: recover from a killed run, apply a plan, name the containers to restart."""

from __future__ import annotations

import enum
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Final

import msgspec

from auditor.audit.audit import AuditResult
from auditor.checks.evidence import Evidence
from auditor.errors import AuditorError, Conflict, NoRecord
from auditor.model.digest import Digest
from auditor.model.snapshot_files import SnapshotKey
from auditor.model.store import Inventory, LayerVerificationKind, Store
from auditor.repair import mounts, replace_snapshots
from auditor.repair.context import Leases
from auditor.repair.own_state import Stopped
from auditor.repair.plan_snapshots import Rebuild, SnapshotAction, SnapshotPlan, plan_snapshots
from auditor.repair.rebuild_snapshot import (
    PREFIX,
    SnapshotStore,
    Surroundings,
    Target,
    interrupted,
    rebuild,
    recover,
    refusal,
    users,
)
from auditor.repair.replace_snapshots import journals
from auditor.snapshots.compare import compare
from auditor.snapshots.examine import administrator
from auditor.snapshots.folders import lost_children
from auditor.snapshots.play import play
from auditor.snapshots.presence import location

_NOT_ADMINISTRATOR: Final = "comparing and exchanging files needs CAP_SYS_ADMIN; run as root on the node"


class SnapshotResult(enum.StrEnum):
    """Result of one rebuild."""

    REBUILT = "rebuilt"
    #: The snapshot is as it was.
    FAILED = "failed"
    #: It was removed meanwhile.
    GONE = "gone"


class SnapshotOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Outcome of one rebuild.

    Attributes:
        message: One sentence.
        hint: What the user can do about a failure.
        restart: Containers that run on the old files, as `namespace/id`.
        pods: Their pods, by container, as `namespace/name`.
        quarantined: Folder of the quarantine entry with the old files; None where there were none.

    """

    action: SnapshotAction
    result: SnapshotResult
    message: str
    hint: str = ""
    restart: tuple[str, ...] = ()
    pods: Mapping[str, str] = {}
    quarantined: Path | None = None


class SnapshotRepair:
    """The part of a repair that rebuilds snapshots; the caller holds the repair lock for `recover` and `apply`.

    Args:
        store: The store to repair.
        around: Time, names, the comparison and the mounts.
        rebuild: How snapshots are rebuilt.
        on_start: Progress callback, called before a rebuild.

    """

    def __init__(
        self,
        store: SnapshotStore,
        *,
        around: Surroundings,
        rebuild: Rebuild = Rebuild.EXCHANGE,
        on_start: Callable[[SnapshotAction], None] = lambda _action: None,
    ) -> None:
        self._store = store
        self._around = around
        self._rebuild = rebuild
        self._on_start = on_start
        self._stop = threading.Event()

    def interrupt(self) -> None:
        """Stop before the next rebuild; may be called from any thread."""
        self._stop.set()

    def leftovers(self) -> tuple[str, ...]:
        """Describe what a killed run left, one sentence each; changes nothing."""
        found = [entry.record.chain for root in roots(self._store) for entry in interrupted(root)]
        found += [steps[0].chain for root in roots(self._store) for _, steps in journals(root)]
        return tuple(
            f"an interrupted rebuild of the snapshot {chain}; the next run that writes ends it" for chain in found
        )

    def recover(self) -> tuple[str, ...]:
        """Finish or remove what a killed run left; return one sentence for each rebuild.

        Raises:
            StoreError: The daemon or the file system failed.

        """
        now, overlays = self._around.now(), self._around.overlays
        notes = tuple(
            note for root in roots(self._store) for note in recover(self._store, root, now=now, overlays=overlays)
        )
        for namespace in self._store.namespaces():
            self._remove_temporary(self._store.inventory(namespace))
        return notes + self._recover_replacements()

    def _recover_replacements(self) -> tuple[str, ...]:
        leases = Leases(self._store)
        try:
            found = [
                replace_snapshots.recover(self._store, leases.get, root, token=self._around.token)
                for root in roots(self._store)
            ]
        finally:
            leases.release()
        return tuple(note for notes in found for note in notes)

    def _remove_temporary(self, inventory: Inventory) -> None:
        """Remove temporary snapshots that no entry of the quarantine knows: views."""
        for snapshotter, held in inventory.snapshots.items():
            for name in held:
                if name.startswith(PREFIX):
                    self._store.remove_snapshot(inventory.namespace, snapshotter, name)

    def plan(self, seen: AuditResult, *, restored: Iterable[Digest] = ()) -> SnapshotPlan:
        """Plan the rebuilds that the result of an audit asks for.

        Args:
            seen: The result of an audit that compared snapshots.
            restored: Blobs that are restored before the first rebuild.

        """
        inventories = [view.inventory for view in seen.evidence.views]
        lost = _lost_children(seen.evidence) if self._rebuild is Rebuild.REPLACE else None
        return plan_snapshots(
            seen.evidence,
            seen.findings,
            refuse=lambda target: _refusal(target, inventories) if lost is None else _unremovable(target, lost),
            restored=frozenset(restored),
            rebuild=self._rebuild,
        )

    def apply(self, plan: SnapshotPlan) -> tuple[SnapshotOutcome, ...]:
        """Rebuild the planned snapshots, parents first.

        Raises:
            Stopped: `interrupt` was called.

        """
        leases = Leases(self._store)
        outcomes: list[SnapshotOutcome] = []
        failed: set[SnapshotKey] = set()
        try:
            for action in plan.actions:
                if self._stop.is_set():
                    raise Stopped("interrupted")
                self._on_start(action)
                outcomes.append(self._once(leases, action, failed))
                if outcomes[-1].result is not SnapshotResult.REBUILT:
                    failed.add(action.key)
        finally:
            leases.release()
        return tuple(outcomes)

    def _once(self, leases: Leases, action: SnapshotAction, failed: set[SnapshotKey]) -> SnapshotOutcome:
        try:
            return self._rebuilt(leases, action, failed)
        except NoRecord:
            return _outcome(action, SnapshotResult.GONE, "the snapshot or its layer was removed meanwhile")
        except AuditorError as error:
            return _outcome(action, SnapshotResult.FAILED, error.message, hint=error.hint)
        except OSError as error:
            return _outcome(action, SnapshotResult.FAILED, f"{error.filename}: {error.strerror or error}")

    def _rebuilt(self, leases: Leases, action: SnapshotAction, failed: set[SnapshotKey]) -> SnapshotOutcome:
        namespace, snapshotter, name = action.key
        inventory = self._store.inventory(namespace, snapshotters=(snapshotter,))
        held = inventory.snapshots.get(snapshotter, {})
        if name not in held:
            raise NoRecord(name)
        if action.rebuild is Rebuild.REPLACE:
            return self._replaced(leases, action)
        if any((namespace, snapshotter, parent) in failed for parent in _ancestors(inventory, snapshotter, name)):
            return _outcome(action, SnapshotResult.FAILED, "a layer below it is damaged and was not rebuilt")
        target = msgspec.structs.replace(action.target, snapshot=held[name])
        if why := _refusal(target, [inventory]):
            return _outcome(action, SnapshotResult.FAILED, why)
        containers = users([inventory], snapshotter, name)
        entry = rebuild(self._store, leases.get(namespace), target, self._around, containers=containers)
        restart = _running(containers, _active(inventory, action.key), self._around.overlays(target.folder))
        pods = {f"{namespace}/{each.id}": each.pod for each in inventory.containers if each.pod}
        return SnapshotOutcome(
            action=action,
            result=SnapshotResult.REBUILT,
            message="its files are those of its layer now",
            restart=restart,
            pods={name: pods[name] for name in restart if name in pods},
            quarantined=entry.folder if entry else None,
        )

    def _replaced(self, leases: Leases, action: SnapshotAction) -> SnapshotOutcome:
        targets = (action.target, *action.above)
        mounted = [mount.point for target in targets for mount in self._around.overlays(target.folder) or ()]
        if mounted:
            return _outcome(action, SnapshotResult.FAILED, f"it is in use: an overlay on it is mounted at {mounted[0]}")
        steps = [replace_snapshots.step(target) for target in targets]
        root, lease = action.target.root, leases.get(action.key[0])
        replace_snapshots.replace(self._store, lease, root, steps, token=self._around.token)
        more = f", with {len(action.above)} above it" if action.above else ""
        return _outcome(action, SnapshotResult.REBUILT, f"it was removed and unpacked again{more}")


def surroundings(store: Store, address: Path, *, token: Callable[[], str], now: Callable[[], datetime]) -> Surroundings:
    """Return what the rebuilds on this node take from outside.

    Args:
        store: The store, which has the layers.
        address: containerd's socket.
        token: Returns a new unique name.
        now: Returns the time.

    """
    visible = mounts.sees_daemon(address)
    return Surroundings(
        token=token,
        now=now,
        boot=mounts.boot(),
        compare=lambda target, folder: differences(store, target, folder),
        overlays=lambda folder: mounts.naming(mounts.all_mounts(), folder) if visible else None,
    )


def differences(store: Store, target: Target, folder: Path) -> Sequence[str]:
    """Compare an unpacked tree with its layer; return one sentence for each difference.

    Raises:
        Conflict: The layer's blob does not match its diffID, or has entries that the comparison does not cover.

    """
    with store.stream(target.snapshot.namespace, target.layer.digest) as chunks:
        played = play(chunks, lowest=not target.snapshot.parent)
    if played.verification.kind is not LayerVerificationKind.SOUND or played.verification.diff_id != target.diff_id:
        raise Conflict(
            f"the blob {target.layer.digest} does not match its diffID",
            hint="auditor repair --verify layers restores it, where a source has it",
        )
    if played.refusal:
        raise Conflict(f"the layer {target.layer.digest} cannot be compared: {played.refusal}")
    return [f"{os.fsdecode(item.path)}: {item.kind}" for item in compare(played.tree, folder).items]


def roots(store: Store) -> tuple[Path, ...]:
    """Return the roots of the snapshotters, which may have a quarantine."""
    return tuple(dict.fromkeys(Path(each.root) for each in store.info().snapshotters if each.root))


def _refusal(target: Target, inventories: Sequence[Inventory]) -> str:
    own = [inventory for inventory in inventories if inventory.namespace == target.snapshot.namespace]
    return refusal(target, own) or ("" if administrator() else _NOT_ADMINISTRATOR)


def _lost_children(evidence: Evidence) -> Mapping[SnapshotKey, str]:
    """Return the snapshots with a child that has no record; none where containerd's database is not visible."""
    found: dict[SnapshotKey, str] = {}
    for name in {name for view in evidence.views for name in view.inventory.snapshots}:
        place = location(evidence.info, name)
        with suppress(OSError, ValueError):
            found |= lost_children(place.metadata, name) if place is not None else {}
    return found


def _unremovable(target: Target, lost: Mapping[SnapshotKey, str]) -> str:
    """Return why containerd would refuse to remove a snapshot; empty where it would not."""
    snapshot = target.snapshot
    child = lost.get((snapshot.namespace, snapshot.snapshotter, snapshot.name))
    if child is None:
        return ""
    return (
        f"containerd would refuse to remove {snapshot.name}: its list of children names {child}, which garbage "
        "collection has removed; --rebuild exchange needs no removal"
    )


def _ancestors(inventory: Inventory, snapshotter: str, name: str) -> Iterator[str]:
    held, seen = inventory.snapshots.get(snapshotter, {}), set()
    while name in held and name not in seen:
        seen.add(name)
        name = held[name].parent
        yield name


def _active(inventory: Inventory, key: SnapshotKey) -> Iterator[str]:
    """Yield the active snapshots on a snapshot: clients that keep their own records name them after containers."""
    namespace, snapshotter, name = key
    for each in inventory.snapshots.get(snapshotter, {}).values():
        if each.kind == "active" and name in _ancestors(inventory, snapshotter, each.name):
            yield f"{namespace}/{each.name}"


def _running(
    containers: Iterable[str], active: Iterable[str], overlays: Sequence[mounts.Mount] | None
) -> tuple[str, ...]:
    """Return the containers whose root is mounted; all of them where the mounts are not visible."""
    if overlays is None:
        return tuple(containers)
    parts = {part for mount in overlays for part in Path(mount.point).parts}
    return tuple(name for name in sorted({*containers, *active}) if name.rpartition("/")[2] in parts)


def _outcome(action: SnapshotAction, result: SnapshotResult, message: str, *, hint: str = "") -> SnapshotOutcome:
    return SnapshotOutcome(action=action, result=result, message=message, hint=hint)
