"""Memory for databases of the smallest possible records, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from auditor.model.store import Resource
from auditor.offline.packed import SMALL
from auditor.offline.store import OfflineStore
from tests.unit.bbolt.bolt_files import Tree, Writer, database

_COUNT: Final = 100_000
#: Prints the peak of its own memory in KiB; ru_maxrss would contain that of the process that started it.
_READ: Final = """
import sys
from pathlib import Path
from auditor.offline.store import OfflineStore
store = OfflineStore(Path(sys.argv[1]))
held = [store.inventory(name) for name in store.namespaces()]
held += [store.resources(each.namespace, lease.id) for each in held for lease in each.leases]
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


def _lease(count: int) -> Tree:
    return {b"leases": {b"l": {b"content": {f"{n:06}".encode(): b"" for n in range(count)}}}}


def _labels(count: int) -> Tree:
    return {b"leases": {b"l": {b"labels": {f"{n:06}".encode(): b"" for n in range(count)}}}}


def _records(count: int) -> Tree:
    third = range(count // 3 or 1)
    return {
        b"leases": {f"{n:06}".encode(): {} for n in third},
        b"snapshots": {b"overlayfs": {f"{n:06}".encode(): {b"name": b"x"} for n in third}},
        b"content": {b"blob": {f"sha256:{n:064}".encode(): {b"size": b"\2"} for n in third}},
    }


def _root(folder: Path, space: Tree) -> Path:
    (folder / "io.containerd.content.v1.content/blobs/sha256").mkdir(parents=True)
    (folder / "io.containerd.metadata.v1.bolt").mkdir()
    data = database({b"v1": {b"version": b"\x06", b"default": space}}, writer=Writer(split=150))
    (folder / "io.containerd.metadata.v1.bolt/meta.db").write_bytes(data)
    return folder


def _peak(root: Path) -> int:
    ended = subprocess.run([sys.executable, "-c", _READ, root], check=True, capture_output=True, text=True, timeout=60)
    return int(ended.stdout) * 1024


def _size(root: Path) -> int:
    return (root / "io.containerd.metadata.v1.bolt/meta.db").stat().st_size


@pytest.mark.parametrize("make", [_lease, _labels, _records])
def test_small_entries_take_at_most_three_times_the_file(make: Callable[[int], Tree], tmp_path: Path) -> None:
    empty, full = _root(tmp_path / "empty", make(1)), _root(tmp_path / "full", make(_COUNT))
    assert (_peak(full) - _peak(empty)) / _size(full) <= 3


@pytest.mark.parametrize("count", [SMALL - 1, SMALL, SMALL + 1])
def test_packed_records_are_those_of_the_database(count: int, tmp_path: Path) -> None:
    names = [f"{n:06}" for n in range(count)]
    space: Tree = {
        b"leases": {
            b"l": {
                b"labels": {name.encode(): name[::-1].encode() for name in names},
                b"content": {name.encode(): b"" for name in names},
                b"snapshots": {b"overlayfs": {b"one": b""}},
            }
        }
    }
    store = OfflineStore(_root(tmp_path, space))
    (lease,) = store.inventory("default").leases
    held = store.resources("default", "l")
    assert dict(lease.labels) == dict(lease.labels.items()) == {name: name[::-1] for name in names}
    assert "absent" not in lease.labels
    assert list(held) == [*(Resource("content", n) for n in names), Resource("snapshots/overlayfs", "one")]
    assert Resource("content", names[-1]) in held
    assert Resource("content", "absent") not in held
    assert len(held) == count + 1


def test_many_labels_with_a_key_that_is_not_utf_8_are_read(tmp_path: Path) -> None:
    labels: Tree = {**{f"{n:06}".encode(): b"x" for n in range(SMALL)}, b"\xff": b"y"}
    (lease,) = OfflineStore(_root(tmp_path, {b"leases": {b"l": {b"labels": labels}}})).inventory("default").leases
    assert dict(lease.labels.items())["\ufffd"] == "y"
