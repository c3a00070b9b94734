"""Decide which entries of the quarantine are unused: only what is proven unused may be deleted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from auditor.repair.mounts import (
    Mount,
    Overlay,
    all_mounts,
    boot,
    device_number,
    naming,
    oldest,
    open_devices,
    overlay,
    sees_daemon,
)
from auditor.repair.quarantine import FOLDER, Entry, Record


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the node.

    Attributes:
        boot: Identifier of this boot; empty where unknown.
        mounts: All mounts; None where not all of them are visible.
        open: Device numbers of the files and directories that processes have open.
        oldest: By the device number of their root, when the oldest process started, in seconds since the boot.
        stamp: Returns what identifies an overlay now.

    """

    boot: str
    mounts: tuple[Mount, ...] | None = None
    open: frozenset[int] = frozenset()
    oldest: Mapping[int, float] = {}
    stamp: Callable[[Mount], Overlay] = overlay


def look(address: Path) -> Node:
    """Look at the mounts and processes of this node.

    Args:
        address: containerd's socket.

    """
    if not sees_daemon(address):
        return Node(boot=boot())
    before = open_devices()
    mounts, starts = all_mounts(), oldest()
    # An overlay that came or went meanwhile may be in only one of the two.
    return Node(boot=boot(), mounts=mounts, open=before & open_devices(), oldest=starts)


def why_kept(entry: Entry, node: Node) -> str:
    """Return why the files of an entry may be in use; empty where they are proven unused.

    An overlay shows its lower directories by the paths that it was mounted by, so one on the old files and one on the
    new files show the same path. The record has the overlays that existed after the exchange; all others use the new
    files. An overlay with the device number of one of them is another one if it was mounted again since, and no process
    in it is older than the exchange.
    """
    record = entry.record
    if entry.deleted_in_part:
        return ""
    if record.exchanged_at is None or not entry.holds_old:
        return "its rebuild was interrupted: auditor repair --snapshots finishes it"
    if record.boot and node.boot and record.boot != node.boot:
        return ""
    if node.mounts is None:
        return "the mounts of the node are not visible here: run on the node itself, or after its next boot"
    if record.overlays is None:
        return "the mounts at the time of the rebuild are not known: it can be dropped after the next boot"
    old = [mount for mount in naming(node.mounts, Path(record.target)) if _is_old(mount, record, node)]
    old += [mount for mount in node.mounts if f"/{FOLDER}/{entry.id}/" in f"{mount.root}/"]
    if old:
        return f"{_user(record.containers, old)} uses it"
    visible = {mount.device for mount in node.mounts}
    hidden = {device_number(each.device) for each in record.overlays if each.device not in visible}
    return "a process has files open in a container that was unmounted" if hidden & node.open else ""


def _is_old(mount: Mount, record: Record, node: Node) -> bool:
    same = [each for each in record.overlays or () if each.device == mount.device]
    if not same:
        return False
    now = node.stamp(mount)
    again = now.mounted is not None and all(each.mounted is not None and each != now for each in same)
    return not again or node.oldest.get(device_number(mount.device), record.uptime + 1) <= record.uptime


def _user(containers: Sequence[str], mounts: Sequence[Mount]) -> str:
    parts = {part for mount in mounts for part in Path(mount.point).parts}
    named = [name for name in containers if name.rpartition("/")[2] in parts]
    if not named:
        return f"the mount {max((mount.point for mount in mounts), key=len)}"
    return f"container {named[0]}" + (f" (and {len(named) - 1} more)" if len(named) > 1 else "")
