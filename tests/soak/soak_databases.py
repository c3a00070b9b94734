"""Damaged and hostile databases: reading ends in order, and no name is wrong where only pages are lost."""

from __future__ import annotations

import random
import struct
from functools import cache
from pathlib import Path
from typing import Final

from auditor.errors import AuditorError
from auditor.offline.store import OfflineStore
from auditor.recover import blob_documents, names_on_disk
from auditor.recover.database_copy import sound_copy
from auditor.recover.match import Certainty, match
from tests.lab.checked import auditor_here, judge
from tests.soak import mutate
from tests.soak.record import Failed, Outcome, Recorder, fuzz, run_auditor
from tests.unit.bbolt.bolt_files import PAGE, Tree, Writer, database
from tests.unit.recover.disks import META, TIME, disk, image, record, varint

_IMAGES: Final = 12
_NAMES: Final = {f"registry.example/team/app-{n}:1": image(f"app-{n}") for n in range(_IMAGES)}
#: Memory of the program without a database, in MiB; on top of it a database may take three times its size.
_EMPTY: Final = 120


def run(seconds: float, folder: Path) -> Outcome:
    """Change a database, and read what is left of it; then read large hostile ones in a process of their own."""
    root = disk(folder / "root", *_NAMES.values())
    recorder = Recorder("databases", seconds * 0.8)
    fuzz(recorder, make, lambda data: judged(data, root))
    for name, data in (("overlapping", _overlapping()), ("many records", _many())):
        (root / META).write_bytes(data)
        ended = run_auditor("check", "--root", root, "--format", "json", folder=folder)
        limit = _EMPTY + 3 * len(data) / (1 << 20)
        if ended.mib > limit:
            recorder.failures.append(f"{name}: {ended.mib:.0f} MiB for {len(data) >> 20} MiB, at most {limit:.0f}")
        recorder.counts[f"{name}, exit {ended.status}"] += 1
    return recorder.outcome()


@cache
def _sound() -> bytes:
    """Return a sound database with records of each kind, in pages of some elements."""
    writer = Writer(split=7, inline=200)
    snapshots: Tree = {
        f"sha256:{n:064}".encode(): {b"name": f"k8s.io/{n}/x".encode(), b"createdat": TIME} for n in range(9)
    }
    leases: Tree = {f"lease-{n}".encode(): {b"createdat": TIME, b"content": {b"x": b""}} for n in range(9)}
    space: Tree = {
        b"images": {name.encode(): record(each) for name, each in _NAMES.items()},
        b"content": {b"blob": _blobs(), b"ingests": {b"one": {b"ref": b"k8s.io/1/one"}}},
        b"snapshots": {b"overlayfs": snapshots},
        b"leases": leases,
        b"containers": {b"c": {b"image": b"x", b"snapshotKey": b"y", b"snapshotter": b"overlayfs"}},
    }
    return bytes(database({b"v1": {b"version": b"\x06", b"k8s.io": space}}, writer=writer))


def _blobs() -> Tree:
    return {
        digest.encode(): {b"size": varint(len(data)), b"createdat": TIME, b"labels": {b"a": b"b"}}
        for each in _NAMES.values()
        for digest, data in each.blobs.items()
    }


def make(chance: random.Random) -> bytes:
    """Return the database with pages zeroed or exchanged, bytes changed, numbers in headers replaced, or cut."""
    data = bytearray(_sound())
    pages = len(data) // PAGE
    for _ in range(chance.choice((1, 1, 2, 5, 20))):
        at = chance.randrange(pages) * PAGE
        match chance.randrange(5):
            case 0 | 1:
                data[at : at + PAGE] = bytes(PAGE)
            case 2:
                other = chance.randrange(pages) * PAGE
                data[at : at + PAGE] = data[other : other + PAGE]
            case 3:
                value = chance.choice((0, 1, 2, 0xFFFF, 1 << 31, (1 << 32) - 1, chance.randrange(pages)))
                struct.pack_into("<I", data, at + chance.randrange(0, 256, 4), value)
            case _:
                return bytes(mutate.raw_bytes(bytes(data), chance))
    return bytes(data)


def judged(data: bytes, root: Path) -> str:
    """Read the records, the names and a sound copy, and run a check."""
    (root / META).write_bytes(data)
    store = OfflineStore(root)
    documents = blob_documents.scan(store.content, store.files())
    found = match([*names_on_disk.records(store), *names_on_disk.others(store, documents)], documents)
    if _only_zeroed(data):
        for each in found.images:
            right = _NAMES.get(each.name)
            if each.certainty is Certainty.ASSERTED and (right is None or right.digest != each.target.digest):
                raise Failed(f"{each.name} is said to be {each.target.digest}")
    try:
        sound_copy(root / META, store.files())
    except AuditorError:
        copied = "no copy"
    else:
        copied = "a copy"
    if store.lost is None:
        judge(store)
    status = auditor_here("check", "--root", root, "--format", "json").status
    return f"exit {status}, {copied}"


def _only_zeroed(data: bytes) -> bool:
    sound = _sound()
    return len(data) == len(sound) and all(
        data[at : at + PAGE] in (sound[at : at + PAGE], bytes(PAGE)) for at in range(0, len(data), PAGE)
    )


def _overlapping() -> bytes:
    """Return a database of 32 MiB whose pages all reach to its end, without a meta page."""
    pages = 8192
    data = bytearray(pages * PAGE)
    for number in range(2, pages):
        count = min(1000, (pages - number) * 250)
        struct.pack_into("<QHHI", data, number * PAGE, number, 2, count, pages - number - 1)
        struct.pack_into("<IIII", data, number * PAGE + 16, 1, 16_000, 2, 16)
    return bytes(data)


def _many() -> bytes:
    """Return a sound database with many small records."""
    leases: Tree = {f"{n:06}".encode(): {} for n in range(2000)}
    snapshots: Tree = {f"{n:06}".encode(): {b"name": b"x"} for n in range(1000)}
    blobs: Tree = {f"sha256:{n:064}".encode(): {b"size": b"\2"} for n in range(1000)}
    space: Tree = {b"leases": leases, b"snapshots": {b"overlayfs": snapshots}, b"content": {b"blob": blobs}}
    spaces: Tree = {f"space-{n:03}".encode(): space for n in range(100)}
    return bytes(database({b"v1": {b"version": b"\x06", **spaces}}, writer=Writer(split=40)))
