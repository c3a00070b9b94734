"""Rebuilding the snapshot of a lab image, and mounting it as a container does."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from auditor.containerd.writable_store import WritableContainerdStore
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.repair.own_state import LEASE_LABEL, RUN
from auditor.repair.quarantine import Entry
from auditor.repair.rebuild_snapshot import Surroundings, Target, rebuild, recover, top_folder
from auditor.repair.snapshot_session import differences
from tests.images import BuiltLayer
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd


def now() -> datetime:
    return datetime.now(UTC)


def folder_of(store: WritableContainerdStore, chain: str) -> Path:
    """Return the folder of an undamaged snapshot, as the daemon mounts it."""
    with store.lease(CRI_NAMESPACE, seconds=600) as lease:
        key = f"lab-view-{secrets.token_hex(4)}"
        found = top_folder(store.view_snapshot(lease, "overlayfs", key, parent=chain))
        store.remove_snapshot(CRI_NAMESPACE, "overlayfs", key)
    assert found is not None
    return found.parent


def target_of(store: WritableContainerdStore, chain: str, layer: BuiltLayer, folder: Path) -> Target:
    held = store.inventory(CRI_NAMESPACE).snapshots["overlayfs"]
    described = Descriptor(digest=Digest.parse(layer.digest), size=layer.size, media_type=layer.media_type)
    return Target(snapshot=held[chain], folder=folder, layer=described, diff_id=Digest.parse(layer.diff_id))


def surroundings(store: WritableContainerdStore) -> Surroundings:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Surroundings(token=lambda: secrets.token_hex(8), now=now, boot=boot, compare=partial(differences, store))


def rebuilt(store: WritableContainerdStore, target: Target, *, containers: tuple[str, ...] = ()) -> Entry | None:
    with store.exclusive("repair"):
        recover(store, target.root, now=now())
        with store.lease(CRI_NAMESPACE, seconds=3600, labels={LEASE_LABEL: RUN}) as lease:
            return rebuild(store, lease, target, surroundings(store), containers=containers)


@contextmanager
def mounted(daemon: Containerd, chain: str, key: str, base: Path) -> Iterator[Path]:
    """Mount a new snapshot on a chain as a container's root is mounted."""
    point = base / key
    point.mkdir()
    daemon.ctr("snapshots", "prepare", key, chain)
    command = daemon.ctr("snapshots", "mounts", point, key).stdout.split()
    subprocess.run(command, check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", point], check=True)
