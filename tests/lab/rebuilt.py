"""Rebuilding the snapshot of a lab image, in a test or in a process that is killed at one step."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc

from auditor import containerd
from auditor.containerd.writable_store import WritableContainerdStore
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.repair.own_state import LEASE_LABEL, RUN
from auditor.repair.quarantine import Entry
from auditor.repair.rebuild_snapshot import Surroundings, Target, rebuild, recover, top_folder
from auditor.snapshots.compare import compare as compare_folder
from auditor.snapshots.play import play
from tests.images import BuiltLayer
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd

CHANGES = frozenset("os.rename os.remove os.rmdir os.mkdir os.chmod os.chown ctypes.dlsym open".split())
CALLS = ("Prepare", "View", "Remove", "Apply", "AddResource", "Create", "Delete")


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
    def compare(target: Target, folder: Path) -> Sequence[str]:
        with store.stream(target.snapshot.namespace, target.layer.digest) as chunks:
            played = play(chunks, lowest=not target.snapshot.parent)
        assert not played.refusal
        return [f"{os.fsdecode(item.path)}: {item.kind}" for item in compare_folder(played.tree, folder).items]

    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Surroundings(token=lambda: secrets.token_hex(8), now=now, boot=boot, compare=compare)


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


class Step:
    """Kills this process at one of its steps."""

    def __init__(self, last: int) -> None:
        self._left = last

    def __call__(self) -> None:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in CHANGES and ("snapshotter.v1" in str(arguments[0]) or event == "ctypes.dlsym"):
            self()


class Counting(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step

    def intercept_unary_unary(self, go_on: Callable[..., Any], details: Any, request: Any) -> Any:
        if details.method.rpartition("/")[2] in CALLS:
            self._step()
        return go_on(details, request)


def main(*words: str) -> None:
    """Rebuild once, killed at a step."""
    socket, chain, layer, size, media_type, diff_id, folder, last = words
    step = Step(int(last))
    plain = grpc.insecure_channel
    grpc.insecure_channel = lambda *a, **k: grpc.intercept_channel(plain(*a, **k), Counting(step))
    with containerd.connect_writable(Path(socket)) as store:
        held = store.inventory(CRI_NAMESPACE).snapshots["overlayfs"]
        described = Descriptor(digest=Digest.parse(layer), size=int(size), media_type=media_type)
        target = Target(snapshot=held[chain], folder=Path(folder), layer=described, diff_id=Digest.parse(diff_id))
        sys.addaudithook(step.hook)
        rebuilt(store, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
