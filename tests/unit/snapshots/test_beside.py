"""Files are compared while their layer is decoded; what that leaves open is hashed, and every damage is found."""

from __future__ import annotations

import gzip
import os
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from auditor.model.digest import Digest
from auditor.model.snapshot_files import Kind, SnapshotFiles
from auditor.snapshots import examine
from auditor.snapshots.beside import Beside, Unsettled
from auditor.snapshots.compare import compare
from auditor.snapshots.examine import compare_files
from auditor.snapshots.expected import Layers
from auditor.snapshots.play import play
from auditor.snapshots.presence import Needed, needed
from auditor.snapshots.tree import Node
from tests.unit.build import Layer, World, image
from tests.unit.snapshots.test_compare import NS, entry, layer

BIG = bytes(range(256)) * (5 << 11)  # 2.5 MiB: more than is kept in memory
FILES = (
    (entry("small"), b"text\n" * 99),
    (entry("usr/", type=tarfile.DIRTYPE, mode=0o755), b""),
    (entry("usr/big"), BIG),
    (entry("usr/hard", type=tarfile.LNKTYPE, linkname="small"), b""),
)


class Packed(Layer):
    """The layer of FILES."""

    @property
    def data(self) -> bytes:
        return layer(*FILES)

    @property
    def diff_id(self) -> Digest:
        return Digest.of(gzip.decompress(self.data))


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """No test leaves a thread that waits for bytes."""
    yield
    assert not [each.name for each in threading.enumerate() if each.name.startswith("layer-")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """What FILES unpack to."""
    made = tmp_path / "fs"
    (made / "usr").mkdir(parents=True)
    (made / "small").write_bytes(FILES[0][1])
    (made / "usr/big").write_bytes(BIG)
    (made / "usr/hard").hardlink_to(made / "small")
    for name in ("small", "usr/big", "usr"):
        (made / name).chmod(0o755 if name == "usr" else 0o644)
        os.utime(made / name, ns=(NS, NS))
    return made


def beside(root: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> Node:
    with Beside(root) as files:
        result = play([layer(*entries)], lowest=True, files=files)
    assert not result.refusal
    return result.tree


def child(tree: Node, *path: bytes) -> Node:
    for name in path:
        tree = (tree.children or {})[name]
    return tree


class Snapshot:
    """An image of one layer that is unpacked into a directory."""

    def __init__(self, root: Path) -> None:
        world, document = World(), image(Packed("files"))
        world.pull(document, "docker.io/library/app:1", unpack=False)
        world.unpack(document)
        evidence = world.audit().evidence
        self.root = root
        self._needed: Needed = needed(evidence)[next(iter(needed(evidence)))]
        self._store = world.store
        self._store.streamed.clear()
        self._layers = Layers(world.store, evidence)

    def found(self) -> list[tuple[bytes, Kind]]:
        files = compare_files(self._layers, self._needed, SnapshotFiles(id="1", path=str(self.root)))
        assert not files.reason
        assert files.differences is not None
        return [(item.path, item.kind) for item in files.differences.items]

    @property
    def reads(self) -> int:
        """How often the layer was read."""
        return len(self._store.streamed)


@pytest.fixture
def snapshot(root: Path) -> Snapshot:
    return Snapshot(root)


def rewritten(path: Path, data: bytes) -> None:
    """Change bytes of a file, and hide it: size, mode and mtime stay."""
    path.write_bytes(data)
    os.utime(path, ns=(NS, NS))


def linked(path: Path) -> None:
    """Give a file another name outside the snapshot."""
    (path.parents[2] / "other").hardlink_to(path)


def test_equal_files_are_read_once_and_hashed_never(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("auditor.snapshots.contents.hashlib.sha256")
    monkeypatch.setattr("auditor.snapshots.compare._measured", None)
    assert snapshot.found() == []
    assert snapshot.reads == 1


@pytest.mark.parametrize(
    ("damage", "found", "reads"),
    [
        (lambda root: rewritten(root / "small", bytes(495)), [(b"small", Kind.ZEROED)], 1),
        (lambda root: rewritten(root / "small", b"T" + FILES[0][1][1:]), [(b"small", Kind.CONTENT)], 1),
        (lambda root: rewritten(root / "small", b""), [(b"small", Kind.EMPTY)], 1),
        (lambda root: rewritten(root / "usr/big", b"!" + BIG[1:]), [(b"usr/big", Kind.CONTENT)], 2),
        (lambda root: rewritten(root / "usr/big", BIG[:-1] + b"!"), [(b"usr/big", Kind.CONTENT)], 2),
        (lambda root: rewritten(root / "usr/big", bytes(len(BIG))), [(b"usr/big", Kind.ZEROED)], 2),
        (lambda root: rewritten(root / "usr/big", BIG[:-1]), [(b"usr/big", Kind.TRUNCATED)], 1),
        (lambda root: rewritten(root / "usr/big", BIG + b"!"), [(b"usr/big", Kind.LONGER)], 1),
        (lambda root: (root / "small").chmod(0o600), [(b"small", Kind.MODE)], 1),
        (lambda root: (root / "usr/big").chmod(0o600), [(b"usr/big", Kind.MODE)], 1),
        (lambda root: os.utime(root / "usr/big", ns=(NS, NS + 1)), [(b"usr/big", Kind.MTIME)], 1),
        (lambda root: os.setxattr(root / "usr/big", "user.x", b"1"), [(b"usr/big", Kind.XATTR)], 1),
        (lambda root: linked(root / "usr/big"), [(b"usr/big", Kind.HARD_LINK)], 1),
    ],
)
def test_damage(
    snapshot: Snapshot, damage: Callable[[Path], None], found: list[tuple[bytes, Kind]], reads: int
) -> None:
    damage(snapshot.root)
    assert (snapshot.found(), snapshot.reads) == (found, reads)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"uid": os.getuid() + 1}, Kind.OWNER),
        ({"gid": os.getgid() + 1}, Kind.OWNER),
        ({"pax_headers": {"mtime": f"{NS // 10**9}.{NS % 10**9:09}", "SCHILY.xattr.user.x": "1"}}, Kind.XATTR),
    ],
)
def test_an_entry_with_other_attributes(root: Path, fields: dict[str, object], found: Kind) -> None:
    tree = beside(root, *FILES[:2], (entry("usr/big", **fields), BIG), FILES[3])
    assert [(item.path, item.kind) for item in compare(tree, root).items] == [(b"usr/big", found)]


def test_a_file_that_is_no_regular_one_is_not_opened(snapshot: Snapshot) -> None:
    (snapshot.root / "usr/big").unlink()
    os.mkfifo(snapshot.root / "usr/big")
    os.utime(snapshot.root / "usr", ns=(NS, NS))
    assert snapshot.found() == [(b"usr/big", Kind.TYPE)]


def test_a_link_in_place_of_a_directory_is_not_followed(root: Path) -> None:
    (root / "usr").rename(root.parent / "elsewhere")
    (root / "usr").symlink_to(root.parent / "elsewhere")
    tree = beside(root, *FILES)
    assert (child(tree, b"usr", b"big").seen, child(tree, b"small").seen is None) == (None, False)
    assert [item.kind for item in compare(tree, root).items if item.path == b"usr"] == [Kind.TYPE]


def replaced(path: Path) -> None:
    path.with_name("new").write_bytes(bytes(len(BIG)))
    path.with_name("new").rename(path)


@pytest.mark.parametrize("change", [lambda path: rewritten(path, bytes(len(BIG))), replaced])
def test_a_file_that_changes_after_it_was_compared_is_hashed(
    snapshot: Snapshot, change: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(tree: Node, directory: Path, **options: object) -> object:
        if snapshot.reads == 1:
            change(directory / "usr/big")
        return compare(tree, directory, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(examine, "compare", late)
    assert (b"usr/big", Kind.ZEROED) in snapshot.found()
    assert snapshot.reads == 2


def test_a_name_that_the_layer_gives_to_another_file_later(root: Path) -> None:
    (root / "small").unlink()
    (root / "small").write_bytes(b"second")
    tree = beside(root, FILES[0], FILES[3], (entry("small"), b"second"))
    assert child(tree, b"small").seen is not None
    contents = {Kind.CONTENT, Kind.ZEROED, Kind.TRUNCATED, Kind.LONGER, Kind.HARD_LINK}
    assert [item for item in compare(tree, root).items if item.kind in contents] == []


def test_the_end_of_a_budget_ends_the_comparison(root: Path) -> None:
    def refuse(_size: int) -> None:
        raise TimeoutError

    with Beside(root, admit=refuse) as files, pytest.raises(TimeoutError):
        play([layer(*FILES)], lowest=True, files=files)


def test_a_failure_to_read_the_blob_ends_the_comparison(root: Path) -> None:
    data = layer(*FILES[:3], (entry("noise"), os.urandom(3 << 20)))

    def failing() -> Iterator[bytes]:
        yield data[: 2 << 20]
        raise TimeoutError

    with Beside(root) as files, pytest.raises(TimeoutError):
        play(failing(), lowest=True, files=files)


def test_the_blob_is_read_in_the_calling_thread(root: Path) -> None:
    """A rate limit or a slow daemon blocks where signals arrive."""
    readers: set[str] = set()

    def chunks() -> Iterator[bytes]:
        data = layer(*FILES, (entry("noise"), os.urandom(6 << 20)))
        for at in range(0, len(data), 1 << 20):
            readers.add(threading.current_thread().name)
            yield data[at : at + (1 << 20)]

    with Beside(root) as files:
        assert not play(chunks(), lowest=True, files=files).refusal
    assert readers == {threading.current_thread().name}


def test_without_a_directory_all_is_hashed(tmp_path: Path) -> None:
    tree = beside(tmp_path / "none", *FILES)
    assert child(tree, b"usr", b"big").digest


def test_a_large_file_that_differs_is_left_open(root: Path) -> None:
    rewritten(root / "usr/big", bytes(len(BIG)))
    with Beside(root) as files, pytest.raises(Unsettled):
        play([layer(*FILES)], lowest=True, files=files)


def test_no_descriptor_is_left(root: Path) -> None:
    before = {each.name for each in Path("/proc/self/fd").iterdir()}
    beside(root, *FILES, (entry("absent/deep/file"), b"1"))
    assert {each.name for each in Path("/proc/self/fd").iterdir()} == before
