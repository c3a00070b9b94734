"""Decide which entries of the quarantine are unused: only what is proven unused may be deleted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from auditor.repair.mounts import Mount, all_mounts, boot, device_number, naming, open_devices, sees_daemon
from auditor.repair.quarantine import FOLDER, Entry


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the node.

    Attributes:
        boot: Identifier of this boot; empty where unknown.
        mounts: All mounts; None where not all of them are visible.
        devices: Device numbers of the files and directories that processes have open.

    """

    boot: str
    mounts: tuple[Mount, ...] | None = None
    devices: frozenset[int] = frozenset()


def look(address: Path) -> Node:
    """Look at the mounts and processes of this node.

    Args:
        address: containerd's socket.

    """
    if not sees_daemon(address):
        return Node(boot=boot())
    return Node(boot=boot(), mounts=all_mounts(), devices=open_devices())


def why_kept(entry: Entry, node: Node) -> str:
    """Return why the files of an entry may be in use; empty where they are proven unused.

    An overlay shows its lower directories by the paths that it was mounted by, so one on the old files and one on the
    new files show the same path. The record has the device numbers of the overlays that existed after the exchange;
    all later ones use the new files. A new overlay may get the number of an old one: the entry is then kept for longer
    than necessary.
    """
    record = entry.record
    if record.exchanged_at is None or not entry.holds_old:
        return "its rebuild was interrupted: auditor repair --snapshots finishes it"
    if record.boot and node.boot and record.boot != node.boot:
        return ""
    if node.mounts is None:
        return "the mounts of the node are not visible here: run on the node itself, or after its next boot"
    if record.mounts is None:
        return "the mounts at the time of the rebuild are not known: it can be dropped after the next boot"
    old = [mount for mount in naming(node.mounts, Path(record.target)) if mount.device in record.mounts]
    old += [mount for mount in node.mounts if f"/{FOLDER}/{entry.id}/" in f"{mount.root}/"]
    if old:
        return f"{_user(record.containers, old)} uses it"
    if any(device_number(device) in node.devices for device in record.mounts):
        return "a process has files open in a container that was unmounted"
    return ""


def _user(containers: Sequence[str], mounts: Sequence[Mount]) -> str:
    parts = {part for mount in mounts for part in Path(mount.point).parts}
    named = [name for name in containers if name.rpartition("/")[2] in parts]
    if not named:
        return f"the mount {max((mount.point for mount in mounts), key=len)}"
    return f"container {named[0]}" + (f" (and {len(named) - 1} more)" if len(named) > 1 else "")
