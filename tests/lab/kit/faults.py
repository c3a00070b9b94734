"""Ways to break a store under a running daemon: in the files, in the records, in the snapshots.

Faults of files leave the database as it was, which is what a bad disk or a power cut does. Faults of records go through
the daemon; what they expose is collected when `Containerd.force_gc` is called, and not before.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from tests.images import sha256
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd, text_field

PAGE: Final = 4096
REMOTE_LABEL: Final = "containerd.io/snapshot/remote"
GC_ROOT_LABEL: Final = "containerd.io/gc.root"
EXPIRE_LABEL: Final = "containerd.io/gc.expire"


class FaultError(Exception):
    """A fault could not be planted."""


@dataclass(frozen=True)
class Ingest:
    """An upload that was never finished."""

    ref: str
    offset: int
    folder: Path


# Files


def delete_file(daemon: Containerd, digest: str) -> None:
    """Leave a record without a file."""
    daemon.blob_path(digest).unlink()


def empty_file(daemon: Containerd, digest: str) -> None:
    """Leave a file of no bytes, as a power cut does."""
    overwrite(daemon, digest, b"")


def shorten(daemon: Containerd, digest: str, *, by: int = 1) -> None:
    """Cut the last bytes off."""
    path = daemon.blob_path(digest)
    os.truncate(path, path.stat().st_size - by)


def append(daemon: Containerd, digest: str, data: bytes = b"\0") -> None:
    """Add bytes at the end; the API goes on to serve the recorded size, and with it the right bytes."""
    with daemon.blob_path(digest).open("ab") as file:
        file.write(data)


def flip(daemon: Containerd, digest: str, *, offset: int = -1, mask: int = 0x01) -> None:
    """Flip bits of one byte; a negative offset counts from the end."""
    path = daemon.blob_path(digest)
    data = bytearray(path.read_bytes())
    data[offset] ^= mask
    path.write_bytes(data)


def zero_page(daemon: Containerd, digest: str, *, page: int = 0) -> None:
    """Replace one 4 KiB page with zeros, as a lost write does; the size stays."""
    path = daemon.blob_path(digest)
    data = bytearray(path.read_bytes())
    part = data[page * PAGE : (page + 1) * PAGE]
    if not any(part):
        raise FaultError(f"page {page} of {digest} is empty or outside the blob")
    data[page * PAGE : page * PAGE + len(part)] = bytes(len(part))
    path.write_bytes(data)


def overwrite(daemon: Containerd, digest: str, data: bytes) -> None:
    """Replace the bytes of a file with any others."""
    daemon.blob_path(digest).write_bytes(data)


def garble(daemon: Containerd, digest: str) -> None:
    """Replace a document with other bytes of the same length that are no JSON."""
    path = daemon.blob_path(digest)
    path.write_bytes(b"#" * path.stat().st_size)


def respell(daemon: Containerd, digest: str, old: bytes, new: bytes) -> None:
    """Replace a few bytes by as many others, so that a document still parses and says something else."""
    path = daemon.blob_path(digest)
    data = path.read_bytes()
    if len(old) != len(new) or old not in data:
        raise FaultError(f"{old!r} is not in {digest}, or {new!r} is not as long")
    path.write_bytes(data.replace(old, new, 1))


def swap(daemon: Containerd, one: str, other: str) -> None:
    """Exchange the files of two blobs."""
    left, right = daemon.blob_path(one), daemon.blob_path(other)
    aside = left.with_name(".lab-swap")
    left.rename(aside)
    right.rename(left)
    aside.rename(right)


def replace_with_directory(daemon: Containerd, digest: str) -> None:
    """Put a folder where the file was."""
    delete_file(daemon, digest)
    daemon.blob_path(digest).mkdir()


def replace_with_symlink(daemon: Containerd, digest: str, target: Path) -> None:
    """Put a symbolic link where the file was."""
    delete_file(daemon, digest)
    daemon.blob_path(digest).symlink_to(target)


def replace_with_fifo(daemon: Containerd, digest: str) -> None:
    """Put a named pipe where the file was: who opens it for reading waits for ever."""
    delete_file(daemon, digest)
    os.mkfifo(daemon.blob_path(digest))


def add_file_without_record(daemon: Containerd, data: bytes) -> str:
    """Leave a file that no namespace knows, as a crash between rename and commit does; a collection removes it."""
    digest = sha256(data)
    path = daemon.blob_path(digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o444)
    return digest


# Records


def remove_record(daemon: Containerd, digest: str, *, namespace: str = CRI_NAMESPACE) -> None:
    """Delete a record. The labels on it go too, so what only they protected is collected soon."""
    daemon.call("content.v1.Content/Delete", text_field(1, digest), namespace=namespace)


def add_blob(daemon: Containerd, data: bytes, *, rooted: bool = True, namespace: str = CRI_NAMESPACE) -> str:
    """Commit a blob that no image names; `rooted` keeps it from collection."""
    digest = sha256(data)
    expected = ("--expected-digest", digest, "--expected-size", str(len(data)))
    daemon.ctr("content", "ingest", *expected, f"lab-{digest}", namespace=namespace, stdin=data)
    if rooted:
        set_labels(daemon, digest, {GC_ROOT_LABEL: "lab"}, namespace=namespace)
    return digest


def add_record_without_file(daemon: Containerd, data: bytes, *, namespace: str = CRI_NAMESPACE) -> str:
    """Leave a record whose file never reached the disk."""
    digest = add_blob(daemon, data, namespace=namespace)
    delete_file(daemon, digest)
    return digest


def set_labels(daemon: Containerd, digest: str, labels: dict[str, str], *, namespace: str = CRI_NAMESPACE) -> None:
    """Set labels of a record; an empty value removes one."""
    daemon.ctr("content", "label", digest, *(f"{key}={value}" for key, value in labels.items()), namespace=namespace)


def strip_labels(daemon: Containerd, digest: str, *keys: str, namespace: str = CRI_NAMESPACE) -> tuple[str, ...]:
    """Remove labels of a record, all of them where none is named, and return which."""
    gone = keys or tuple(daemon.labels(digest, namespace=namespace))
    set_labels(daemon, digest, dict.fromkeys(gone, ""), namespace=namespace)
    return gone


def strip_reference(daemon: Containerd, parent: str, child: str, *, namespace: str = CRI_NAMESPACE) -> None:
    """Remove the label by which `parent` keeps `child` from collection."""
    keys = [key for key, value in daemon.labels(parent, namespace=namespace).items() if value == child]
    if not keys:
        raise FaultError(f"{parent} has no label for {child}")
    strip_labels(daemon, parent, *keys, namespace=namespace)


# Ingests


def stale_ingest(
    daemon: Containerd,
    ref: str,
    *,
    data: bytes = b"lab" * 1000,
    age: timedelta = timedelta(days=2),
    namespace: str = CRI_NAMESPACE,
) -> Ingest:
    """Begin an upload, break it off, and make it `age` old."""
    folder = interrupted_ingest(daemon, ref, data=data, namespace=namespace)
    then = datetime.now(UTC) - age
    for name in ("startedat", "updatedat"):
        (folder / name).write_text(then.isoformat().replace("+00:00", "Z"))
    # The daemon reports the later one of `updatedat` and the time of the data.
    os.utime(folder / "data", (then.timestamp(), then.timestamp()))
    return Ingest(ref, len(data), folder)


def interrupted_ingest(daemon: Containerd, ref: str, *, data: bytes, namespace: str = CRI_NAMESPACE) -> Path:
    """Begin an upload, kill the client, and return the folder that stays behind, with `data` in it.

    The bytes are put there by hand: how many of them a client sends before it dies is different in each release.
    """
    command = daemon.ctr_command("content", "ingest", ref, namespace=namespace)
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet) as client:
        folder = _wait_for_ingest(daemon, ref)
        written = (folder / "updatedat").stat().st_ino
        client.kill()
    _wait_until_closed(folder, written)
    (folder / "data").write_bytes(data)
    return folder


def _wait_for_ingest(daemon: Containerd, ref: str) -> Path:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for name in (daemon.content_root / "ingest").glob("*/ref"):
            if name.read_text().endswith(f"/{ref}") and (name.parent / "data").exists():
                return name.parent
        time.sleep(0.01)
    raise FaultError(f"the upload {ref} did not begin")


def _wait_until_closed(folder: Path, before: int) -> None:
    """Return once the daemon has seen that its client is gone; the last thing it does is to replace `updatedat`."""
    deadline = time.monotonic() + 10
    while (folder / "updatedat").stat().st_ino == before:
        if time.monotonic() > deadline:
            raise FaultError(f"the daemon still writes to {folder}")
        time.sleep(0.01)


# Leases


def add_lease(
    daemon: Containerd, name: str, *, expires_in: timedelta | None = None, namespace: str = CRI_NAMESPACE
) -> None:
    """Create a lease; a negative time leaves one that has expired already and goes at the next collection."""
    labels = []
    if expires_in is not None:
        when = (datetime.now(UTC) + expires_in).isoformat(timespec="seconds").replace("+00:00", "Z")
        labels.append(f"{EXPIRE_LABEL}={when}")
    daemon.ctr("leases", "create", "--id", name, "--expires", "0s", *labels, namespace=namespace)


# Snapshots


def remove_snapshot(daemon: Containerd, chain_id: str, *, namespace: str = CRI_NAMESPACE) -> None:
    """Remove a snapshot that has no child; containerd refuses where there is one."""
    daemon.ctr("snapshots", "--snapshotter", daemon.snapshotter, "rm", chain_id, namespace=namespace)


def remove_snapshots_from(
    daemon: Containerd, chain: Sequence[str], first: int, *, namespace: str = CRI_NAMESPACE
) -> None:
    """Remove the snapshots of a chain from the top down to number `first`.

    What a config names is the top, so a collection would take the others too: those below get a label that keeps them.
    """
    for chain_id in chain:
        label_snapshot(daemon, chain_id, {GC_ROOT_LABEL: "lab"}, namespace=namespace)
    for chain_id in reversed(chain[first:]):
        remove_snapshot(daemon, chain_id, namespace=namespace)


def drop_middle_snapshot(
    daemon: Containerd, chain: Sequence[str], middle: int, *, namespace: str = CRI_NAMESPACE
) -> None:
    """Make one snapshot of a chain absent while those above exist; the next one then has the wrong parent.

    containerd removes none that has children, so those from `middle` up are removed and the ones above it made again,
    empty, on top of what is below the gap.
    """
    remove_snapshots_from(daemon, chain, middle, namespace=namespace)
    parent = chain[middle - 1] if middle else ""
    for chain_id in chain[middle + 1 :]:
        add_snapshot(daemon, chain_id, parent, namespace=namespace)
        parent = chain_id


def add_snapshot(daemon: Containerd, name: str, parent: str = "", *, namespace: str = CRI_NAMESPACE) -> None:
    """Commit an empty snapshot under any name, on any parent."""
    snapshots = ("snapshots", "--snapshotter", daemon.snapshotter)
    active = f"lab-{name}"
    daemon.ctr(*snapshots, "prepare", active, *([parent] if parent else []), namespace=namespace)
    daemon.ctr(*snapshots, "commit", name, active, namespace=namespace)


def label_snapshot(
    daemon: Containerd, chain_id: str, labels: dict[str, str], *, namespace: str = CRI_NAMESPACE
) -> None:
    """Set labels of a snapshot."""
    pairs = [f"{key}={value}" for key, value in labels.items()]
    daemon.ctr("snapshots", "--snapshotter", daemon.snapshotter, "label", chain_id, *pairs, namespace=namespace)


def mark_remote(daemon: Containerd, chain_id: str, *, namespace: str = CRI_NAMESPACE) -> None:
    """Make a snapshot look as a lazy snapshotter's do."""
    label_snapshot(daemon, chain_id, {REMOTE_LABEL: "remote"}, namespace=namespace)


def snapshot_folder(daemon: Containerd, chain_id: str, *, namespace: str = CRI_NAMESPACE) -> Path:
    """Return the `fs` folder of a committed overlayfs snapshot: remove it, or empty a file in it."""
    snapshots = ("snapshots", "--snapshotter", daemon.snapshotter)
    daemon.ctr(*snapshots, "view", "lab-view", chain_id, namespace=namespace)
    try:
        mounts = daemon.ctr(*snapshots, "mounts", "/lab", "lab-view", namespace=namespace).stdout
    finally:
        daemon.ctr(*snapshots, "rm", "lab-view", namespace=namespace)
    found = re.search(rf"{re.escape(str(daemon.root))}[^:,\s]*/fs", mounts)
    if found is None:
        raise FaultError(f"no folder in {mounts!r}")
    return Path(found[0])
