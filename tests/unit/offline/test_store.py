"""The store of a stopped daemon, on a root made by hand."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import pytest

from auditor.bbolt import bolt, pages
from auditor.errors import StoreError, UsageError
from auditor.model.digest import Digest
from auditor.model.store import DamageKind
from auditor.offline import metadata, salvage
from auditor.offline.find_root import find_root
from auditor.offline.store import OfflineStore
from tests.contract.store_contract import Known, StoreContract
from tests.unit.bbolt.bolt_files import PAGE, Tree, Writer, database

LARGE = bytes(range(256)) * 12_000
SMALL = b'{"schemaVersion": 2}'
BLOBS = {Digest.of(data): data for data in (LARGE, SMALL)}
TARGET = Digest.of(SMALL)
TIME = b"\x01" + struct.pack(">qih", 63_900_000_000, 5_000, -1)


def varint(value: int) -> bytes:
    left, out = value << 1, b""
    while left > 127:
        out += bytes([left & 127 | 128])
        left >>= 7
    return out + bytes([left])


def tree(name: str = "app:1") -> Tree:
    blobs: Tree = {
        str(digest).encode(): {b"size": varint(len(data)), b"createdat": TIME, b"labels": {b"a": b"b"}}
        for digest, data in BLOBS.items()
    }
    target: Tree = {b"digest": str(TARGET).encode(), b"mediatype": b"m", b"size": varint(len(SMALL))}
    images: Tree = {name.encode(): {b"createdat": TIME, b"target": target}}
    return {b"v1": {b"version": b"\x06", b"default": {b"images": images, b"content": {b"blob": blobs}}}}


def below(held: Tree, *path: bytes) -> Tree:
    """Return the bucket at a path."""
    for key in path:
        inside = held[key]
        assert isinstance(inside, dict)
        held = inside
    return held


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "io.containerd.content.v1.content" / "blobs" / "sha256"
    folder.mkdir(parents=True)
    for digest, data in BLOBS.items():
        (folder / digest.hex).write_bytes(data)
    (tmp_path / "io.containerd.metadata.v1.bolt").mkdir()
    put(tmp_path, database(tree()))
    return tmp_path


def put(root: Path, data: bytes | bytearray) -> None:
    (root / "io.containerd.metadata.v1.bolt" / "meta.db").write_bytes(data)


class TestOfflineStore(StoreContract):
    @pytest.fixture
    def known(self, root: Path) -> Known:
        return Known(OfflineStore(root), "default", "app:1", TARGET, BLOBS)


def test_a_root_on_a_mounted_disk_is_found(root: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (disk / "var/lib").mkdir(parents=True)
    (disk / "data").mkdir()
    with pytest.raises(UsageError):
        find_root(disk)
    for path in list(root.glob("io.containerd.*")):
        path.rename(disk / "data" / path.name)
    for target in ("/data", "../../data"):
        (disk / "var/lib/containerd").symlink_to(target)
        assert find_root(disk).resolve() == (disk / "data").resolve()
        (disk / "var/lib/containerd").unlink()


def test_a_link_on_a_mounted_disk_does_not_lead_to_this_machine(root: Path, tmp_path: Path) -> None:
    (tmp_path / "disk/var/lib").mkdir(parents=True)
    (tmp_path / "disk/var/lib/containerd").symlink_to(root)
    with pytest.raises(UsageError):
        find_root(tmp_path / "disk")


def test_a_link_leads_nowhere_outside_a_mounted_disk(root: Path, tmp_path: Path) -> None:
    (tmp_path / "disk/var/lib").mkdir(parents=True)
    link = tmp_path / "disk/var/lib/containerd"
    for target in (f"../../../{root.name}", "/../../..", "containerd", "../lib/containerd/."):
        link.symlink_to(target)
        with pytest.raises(UsageError):
            find_root(tmp_path / "disk")
        link.unlink()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('root = "/data/node"', True),
        ('version = 2\nroot = "/usual/../data/./node/"\nstate = "/run/containerd"', True),
        ('root = "data/node"', False),
        ('root = "/"', False),
        ("root = 1", False),
        ("root = [", False),
        ("root = " + "[" * 100_000, False),
        ('[plugins]\nroot = "/data/node"', False),
    ],
)
def test_the_root_in_the_configuration_of_a_mounted_disk_is_found(
    root: Path, tmp_path: Path, text: str, *, found: bool
) -> None:
    disk = tmp_path / "disk"
    (disk / "data/node").mkdir(parents=True)
    (disk / "usual").mkdir()
    (disk / "etc/containerd").mkdir(parents=True)
    (disk / "etc/containerd/config.toml").write_text(text)
    for path in list(root.glob("io.containerd.*")):
        path.rename(disk / "data/node" / path.name)
    if found:
        assert find_root(disk) == disk / "data/node"
    else:
        with pytest.raises(UsageError):
            find_root(disk)


def test_a_root_that_is_a_usual_one_and_in_the_configuration_is_one(root: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (disk / "var/lib/containerd").mkdir(parents=True)
    (disk / "etc/containerd").mkdir(parents=True)
    (disk / "etc/containerd/config.toml").write_text('root = "/var/lib/containerd"')
    for path in list(root.glob("io.containerd.*")):
        path.rename(disk / "var/lib/containerd" / path.name)
    assert find_root(disk) == disk / "var/lib/containerd"


@pytest.mark.parametrize("given", ["disk", "disk/node/io.containerd.content.v1.content/blobs"])
def test_a_root_near_the_folder_is_named(root: Path, given: str) -> None:
    node = root / "disk/node"
    node.mkdir(parents=True)
    for path in list(root.glob("io.containerd.*")):
        path.rename(node / path.name)
    with pytest.raises(UsageError) as caught:
        find_root(root / given)
    assert caught.value.hint == f"{node} is one"


def test_a_root_without_files_and_records_has_lost_none(root: Path) -> None:
    shutil.rmtree(root / "io.containerd.content.v1.content/blobs")
    (root / "io.containerd.metadata.v1.bolt/meta.db").unlink()
    assert (OfflineStore(root).info().damage, len(OfflineStore(root).info().gaps)) == ((), 1)


def test_the_file_of_a_config_is_missing(root: Path) -> None:
    held = tree()
    record: Tree = {
        b"size": varint(7),
        b"createdat": TIME,
        b"labels": {b"containerd.io/gc.ref.snapshot.overlayfs": b"x"},
    }
    below(held, b"v1", b"default", b"content", b"blob")[str(Digest.of(b"missing")).encode()] = record
    put(root, database(held))
    assert OfflineStore(root).info().platform is None


def test_files_without_records_are_counted(root: Path) -> None:
    folder = root / "io.containerd.content.v1.content" / "blobs" / "sha256"
    kinds = []
    for number in range(3):
        (folder / Digest.of(bytes([number])).hex).write_bytes(bytes([number]))
        kinds += [fault.kind for fault in OfflineStore(root).info().damage]
    assert kinds == [DamageKind.UNRECORDED, DamageKind.UNRECORDED, DamageKind.LOST]


@pytest.mark.parametrize("data", [b"", bytes(3 * PAGE)])
def test_a_database_without_records_is_a_finding(root: Path, data: bytes) -> None:
    put(root, data)
    store = OfflineStore(root)
    assert store.lost is not None
    assert "2 blob files have no record" in store.lost.message
    assert "do not start containerd" in store.lost.hint
    assert [fault.kind for fault in store.info().damage] == [DamageKind.LOST]
    assert store.info().gaps
    assert store.namespaces() == ()


def test_both_meta_pages_damaged(root: Path) -> None:
    data = database(tree())
    data[: 2 * PAGE] = bytes(2 * PAGE)
    put(root, data)
    store = OfflineStore(root)
    assert [image.name for image in store.inventory("default").images] == ["app:1"]
    assert [fault.kind for fault in store.info().damage] == [DamageKind.DAMAGED]
    assert store.info().gaps


def damaged(data: bytearray, page: int) -> bytearray:
    start = page * PAGE
    return data[:start] + bytes(PAGE) + data[start + PAGE :]


def test_files_stand_for_lost_content_records(root: Path) -> None:
    writer = Writer()
    data = database(tree(), writer=writer)
    put(root, damaged(data, writer.named[b"v1", b"default", b"content", b"blob"]))
    store = OfflineStore(root)
    assert store.info().partial == {"default"}
    assert store.inventory("default").blobs.keys() == BLOBS.keys()
    assert [image.name for image in store.inventory("default").images] == ["app:1"]


def test_a_lost_record_of_a_blob_that_another_namespace_has(root: Path) -> None:
    held = tree()
    below(held, b"v1")[b"other"] = {b"content": {b"blob": below(held, b"v1", b"default", b"content", b"blob")}}
    writer = Writer()
    data = database(held, writer=writer)
    put(root, damaged(data, writer.named[b"v1", b"default", b"content", b"blob"]))
    store = OfflineStore(root)
    assert store.inventory("default").blobs.keys() == store.inventory("other").blobs.keys() == BLOBS.keys()


def test_lost_snapshots_are_unknown_and_not_absent(root: Path) -> None:
    held = tree()
    record: Tree = {b"name": b"default/1/a", b"createdat": TIME}
    below(held, b"v1", b"default")[b"snapshots"] = {b"overlayfs": {b"a": record}}
    writer = Writer()
    data = database(held, writer=writer)
    put(root, damaged(data, writer.named[b"v1", b"default", b"snapshots", b"overlayfs"]))
    assert OfflineStore(root).inventory("default").snapshots == {}


@pytest.mark.parametrize("name", ["/../../elsewhere", "\0", "x" * 300])
def test_a_snapshotter_whose_name_leads_elsewhere_is_a_gap(root: Path, name: str) -> None:
    made = tree()
    below(made, b"v1", b"default")[b"snapshots"] = {name.encode(): {b"one": {b"name": b"default/1/one"}}}
    (root / "io.containerd.metadata.v1.bolt/meta.db").write_bytes(database(made))
    store = OfflineStore(root)
    (gap,) = store.inventory("default").gaps
    assert "which names no snapshotter" in gap
    assert store.info().snapshotters == ()


def test_more_namespaces_than_are_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "MAX_NAMESPACES", 2)
    path = root / "io.containerd.metadata.v1.bolt/meta.db"
    path.write_bytes(database({b"v1": {b"version": b"\x06", b"a": {}, b"b": {}, b"c": {}}}))
    with pytest.raises(StoreError, match="more than 2 namespaces"):
        OfflineStore(root)


def test_lost_parts_beyond_the_named_ones_are_counted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bolt, "MAX_LOST", 1)
    data = database(tree(), writer=Writer(inline=0))
    for page in range(2, len(data) // PAGE):
        if data[page * PAGE : (page + 1) * PAGE].count(b"createdat"):
            data[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
    (root / "io.containerd.metadata.v1.bolt/meta.db").write_bytes(data)
    store = OfflineStore(root)
    assert store.names_lost
    assert {"images", "content", "leases"} <= store.lost_kinds["default"]


def test_a_copy_without_the_unpacked_files_is_told(root: Path) -> None:
    held = tree()
    below(held, b"v1", b"default")[b"snapshots"] = {b"overlayfs": {b"a": {b"name": b"default/1/a", b"createdat": TIME}}}
    put(root, database(held))
    folder = root / "io.containerd.snapshotter.v1.overlayfs"
    folder.mkdir()
    backend: Tree = {b"default/1/a": {b"id": b"\x01", b"kind": b"\x03"}}
    (folder / "metadata.db").write_bytes(database({b"v1": {b"snapshots": backend}}))
    (gap,) = OfflineStore(root).inventory("default").gaps
    assert str(folder / "snapshots") in gap
    (folder / "snapshots").mkdir()
    assert OfflineStore(root).inventory("default").gaps == ()


def test_the_platform_is_that_of_the_unpacked_images(root: Path) -> None:
    """One config has a record and no file, as a power cut leaves it."""
    held = tree()
    folder = root / "io.containerd.content.v1.content" / "blobs" / "sha256"
    blobs = below(held, b"v1", b"default", b"content", b"blob")
    for number, architecture in enumerate(("s390x", "arm64", "arm64", "gone")):
        config = b'{"os": "linux", "architecture": "%s", "n": %d}' % (architecture.encode(), number)
        digest = Digest.of(config)
        if architecture != "gone":
            (folder / digest.hex).write_bytes(config)
        labels: Tree = {b"containerd.io/gc.ref.snapshot.overlayfs": b"sha256:1"}
        blobs[str(digest).encode()] = {b"size": varint(len(config)), b"labels": labels}
    put(root, database(held))
    info = OfflineStore(root).info()
    assert str(info.platform) == "linux/arm64"
    assert any("linux/arm64" in note for note in info.notes)


def test_a_stale_root_without_the_schema_is_not_taken() -> None:
    """A stale page whose `v1` points to a page that was used again as a later root: whole, and with more entries."""
    writer = Writer()
    data = database(tree(), writer=writer)
    top = writer.named[()]
    stale = struct.pack("<QHHI", writer.next, 2, 1, 0) + struct.pack("<IIII", 1, 16, 2, 16) + b"v1"
    stale += struct.pack("<QQ", top, 0)
    data += stale.ljust(PAGE, b"\0")
    found = pages.Database(data, page_size=PAGE)
    assert list(salvage.candidates(found)) == [top, writer.next]
    assert salvage.find_root(found) == top
