from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from auditor.containerd._proto import images_pb2, snapshots_pb2, types_pb2
from auditor.containerd.store import ContainerdStore
from auditor.errors import NoFile, NoRecord, ReadFailed, StoreUnreachable, UsageError
from auditor.model.digest import EMPTY, Digest, measure
from auditor.model.store import FileBacked, FileKind, FileState
from tests.contract.daemon import BLOBS, LARGE, LAYER, NAMESPACE, SMALL, Daemon
from tests.contract.store_contract import Known, StoreContract


class TestOverTheApi(StoreContract):
    @pytest.fixture
    def known(self, daemon: Daemon) -> Known:
        return Known(daemon.store(), NAMESPACE, "example/image:1", Digest.of(SMALL), BLOBS)


class TestThroughFiles(StoreContract):
    @pytest.fixture
    def known(self, daemon: Daemon) -> Known:
        daemon.put_files()
        return Known(daemon.store(), NAMESPACE, "example/image:1", Digest.of(SMALL), BLOBS)


# Listing


def test_a_malformed_target_is_a_gap_and_hides_nothing_else(daemon: Daemon) -> None:
    for number in range(3):
        target = types_pb2.Descriptor(digest=f"sha256:short{number}")
        daemon.world.images.append(images_pb2.Image(name=f"bad:{number}", target=target))
    inventory = daemon.store().inventory(NAMESPACE)
    assert [image.name for image in inventory.images] == ["example/image:1"]
    (gap,) = inventory.gaps
    assert gap == (
        "image 'bad:0' of default points to 'sha256:short0', which is not a digest, and 2 more like it: not audited"
    )


def test_a_malformed_record_is_a_gap(daemon: Daemon) -> None:
    daemon.world.add("sha256:nonsense", b"")
    inventory = daemon.store().inventory(NAMESPACE)
    assert set(inventory.blobs) == set(BLOBS)
    assert inventory.gaps == (
        "a content record of default is named 'sha256:nonsense', which is not a digest: not audited",
    )


def test_the_snapshots_are_by_snapshotter_and_name(daemon: Daemon) -> None:
    for name in ("overlayfs", "native"):
        daemon.export("io.containerd.snapshotter.v1", name)
        daemon.world.snapshots[name] = [snapshots_pb2.Info(name=f"top-{name}", parent="low")]
    found = daemon.store().inventory(NAMESPACE).snapshots
    assert {name: list(listed) for name, listed in found.items()} == {
        "native": ["top-native"],
        "overlayfs": ["top-overlayfs"],
    }
    assert list(daemon.store().inventory(NAMESPACE, snapshotters=["native"]).snapshots) == ["native"]


def test_a_snapshotter_that_is_not_there_is_a_gap_when_it_is_asked_for(daemon: Daemon) -> None:
    inventory = daemon.store().inventory(NAMESPACE, snapshotters=["zfs"])
    (gap,) = inventory.gaps
    assert "zfs" in gap
    assert inventory.snapshots == {}


def test_a_snapshotter_whose_own_daemon_is_gone_is_a_gap(daemon: Daemon) -> None:
    def gone(context: Any) -> None:
        context.abort(grpc.StatusCode.UNAVAILABLE, "error while dialing: dial unix /run/nydus.sock")

    daemon.world.on_snapshots = gone
    (gap,) = daemon.store().inventory(NAMESPACE, snapshotters=["nydus"]).gaps
    assert "/run/nydus.sock" in gap


def test_a_snapshotter_that_hangs_is_a_gap(daemon: Daemon) -> None:
    released = threading.Event()

    def stuck(context: Any) -> None:  # noqa: ARG001
        released.wait(30)

    daemon.world.on_snapshots = stuck
    try:
        (gap,) = daemon.impatient(0.3).inventory(NAMESPACE, snapshotters=["stuck"]).gaps
    finally:
        released.set()
    assert "no message for 0.3 s" in gap


def test_namespace_labels_are_in_the_inventory(daemon: Daemon) -> None:
    assert daemon.store().inventory(NAMESPACE).labels == {"team": "a"}


# Streams


def drained(store: ContainerdStore, digest: Digest = LAYER) -> int:
    with store.stream(NAMESPACE, digest) as pieces:
        return measure(pieces).size


def test_a_stream_that_stalls_while_the_daemon_answers_is_a_failed_read(daemon: Daemon) -> None:
    released = threading.Event()

    def stall(data: bytes, context: Any) -> Iterator[bytes]:  # noqa: ARG001
        yield data[:10]
        released.wait(30)

    daemon.world.on_read = stall
    try:
        with pytest.raises(ReadFailed, match="no message for"):
            drained(daemon.impatient(0.3))
    finally:
        released.set()


@pytest.mark.slow
def test_a_slow_reader_is_no_stall(daemon: Daemon) -> None:
    store = daemon.impatient(1.5)
    wait = threading.Event()
    with store.stream(NAMESPACE, LAYER) as pieces:
        first = next(pieces)
        wait.wait(2.5)
        assert first + b"".join(pieces) == LARGE


def test_a_stream_that_breaks_says_the_systems_words(daemon: Daemon) -> None:
    def broken(data: bytes, context: Any) -> Iterator[bytes]:
        yield data[:10]
        context.abort(grpc.StatusCode.UNKNOWN, "read /x: input/output error")

    daemon.world.on_read = broken
    with pytest.raises(ReadFailed, match="input/output error"):
        drained(daemon.store())


def test_a_short_file_ends_the_stream_early(daemon: Daemon) -> None:
    daemon.world.blobs[LAYER] = LARGE[:-1]
    assert drained(daemon.store()) == len(LARGE) - 1


def test_a_daemon_that_ends_is_not_a_failed_read(daemon: Daemon) -> None:
    ended = threading.Event()

    def wait(data: bytes, context: Any) -> Iterator[bytes]:
        context.add_callback(ended.set)
        yield data[:10]
        ended.wait(30)

    daemon.world.on_read = wait
    store = daemon.store()
    with store.stream(NAMESPACE, LAYER) as pieces:
        next(pieces)
        daemon.server.__exit__(None, None, None)
        with pytest.raises(StoreUnreachable):
            list(pieces)
    with pytest.raises(StoreUnreachable):
        store.namespaces()


# Files that are wrong, through the API


@pytest.mark.parametrize("size", [0, 1, 2, 1000, len(LARGE) // 2, len(LARGE) - 1])
def test_a_probe_measures_a_shortened_file(daemon: Daemon, size: int) -> None:
    daemon.world.blobs[LAYER] = LARGE[:size]
    assert daemon.store().probe(NAMESPACE, LAYER, len(LARGE)) == FileState(FileKind.REGULAR, size)


def test_a_probe_cannot_see_beyond_the_recorded_size(daemon: Daemon) -> None:
    daemon.world.blobs[LAYER] = LARGE + b"more"
    assert daemon.store().probe(NAMESPACE, LAYER, len(LARGE)) == FileState(FileKind.REGULAR, len(LARGE), at_least=True)


@pytest.mark.parametrize("digest", [LAYER, EMPTY])
def test_a_file_that_is_gone_is_missing(daemon: Daemon, digest: Digest) -> None:
    del daemon.world.blobs[digest]
    store = daemon.store()
    assert store.probe(NAMESPACE, digest, len(BLOBS[digest])) == FileState(FileKind.MISSING)
    with pytest.raises(NoFile):
        drained(store, digest)
    with pytest.raises(NoFile):
        store.read(NAMESPACE, digest, limit=10)


def test_a_probe_with_a_size_beyond_the_record_uses_the_records(daemon: Daemon) -> None:
    state = daemon.store().probe(NAMESPACE, LAYER, len(LARGE) + 7)
    assert state == FileState(FileKind.REGULAR, len(LARGE), at_least=True)


def test_a_probe_tells_what_the_daemon_says_of_a_bad_sector(daemon: Daemon) -> None:
    def broken(data: bytes, context: Any) -> Iterator[bytes]:  # noqa: ARG001
        return context.abort(grpc.StatusCode.UNKNOWN, "read /x: input/output error")  # type: ignore[no-any-return]

    daemon.world.on_read = broken
    state = daemon.store().probe(NAMESPACE, LAYER, len(LARGE))
    assert state.kind is FileKind.UNREADABLE
    assert "input/output error" in state.error


# Whether the files are visible


def test_the_daemons_own_files_are_used(daemon: Daemon) -> None:
    daemon.put_files()
    assert daemon.store().info().content_root == daemon.root


def test_files_of_another_daemon_at_the_same_path_are_not(daemon: Daemon) -> None:
    daemon.put_files(uuid="another")
    info = daemon.store().info()
    assert info.content_root is None
    assert any("another containerd" in note for note in info.notes)


def test_a_mounted_content_root_without_identity_must_hold_what_the_records_say(daemon: Daemon) -> None:
    daemon.put_files(uuid=None)
    assert daemon.store().info().content_root == daemon.root
    for path in (daemon.root / "blobs" / "sha256").iterdir():
        path.unlink()
    assert daemon.store().info().content_root is None


def test_no_files_are_seen_where_the_path_does_not_exist(daemon: Daemon) -> None:
    info = daemon.store().info()
    assert info.content_root is None
    assert any("not visible" in note for note in info.notes)


@pytest.mark.parametrize("named", ["root/io.containerd.content.v1.content", "root"])
def test_a_named_content_root_may_be_either_folder(daemon: Daemon, named: str) -> None:
    daemon.put_files()
    assert daemon.store(content_root=daemon.folder / named).info().content_root == daemon.root


def test_a_named_folder_that_is_no_content_root_is_refused(daemon: Daemon) -> None:
    with pytest.raises(UsageError):
        daemon.store(content_root=daemon.folder).info()


def test_a_named_content_root_of_another_daemon_is_refused(daemon: Daemon) -> None:
    daemon.put_files(uuid="another")
    with pytest.raises(UsageError, match="another containerd"):
        daemon.store(content_root=daemon.root).info()


# Files that are wrong, seen as files


def path_of(daemon: Daemon, digest: Digest) -> Path:
    return daemon.root / "blobs" / digest.algorithm / digest.hex


def test_a_missing_file_is_a_fault_only_while_its_record_is_there(daemon: Daemon) -> None:
    daemon.put_files()
    store = daemon.store()
    path_of(daemon, LAYER).unlink()
    with pytest.raises(NoFile):
        drained(store)
    daemon.world.infos.clear()
    with pytest.raises(NoRecord):
        drained(store)


@pytest.mark.parametrize(
    ("kind", "found"),
    [("folder", FileKind.DIRECTORY), ("link", FileKind.LINK), ("dangling", FileKind.LINK), ("fifo", FileKind.SPECIAL)],
)
def test_only_regular_files_are_read(daemon: Daemon, kind: str, found: FileKind) -> None:
    daemon.put_files()
    path = path_of(daemon, LAYER)
    path.unlink()
    match kind:
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(path_of(daemon, Digest.of(SMALL)))
        case "dangling":
            path.symlink_to("nowhere")
        case _:
            os.mkfifo(path)
    store = daemon.store()
    states = store.files()
    assert states is not None
    assert states[LAYER] == FileState(found)
    with pytest.raises(ReadFailed):
        drained(store)
    with pytest.raises(ReadFailed):
        store.read(NAMESPACE, LAYER, limit=10)
    with pytest.raises(ReadFailed):
        store.open_file(NAMESPACE, LAYER)


def test_the_file_of_a_blob_is_handed_out_where_it_is_visible(daemon: Daemon) -> None:
    assert daemon.store(content_root=None).open_file(NAMESPACE, LAYER) is None
    daemon.put_files()
    store = daemon.store()
    assert isinstance(store, FileBacked)
    descriptor = store.open_file(NAMESPACE, LAYER)
    assert descriptor is not None
    try:
        assert os.path.samestat(os.fstat(descriptor), path_of(daemon, LAYER).stat())
    finally:
        os.close(descriptor)
    path_of(daemon, LAYER).unlink()
    with pytest.raises(NoFile):
        store.open_file(NAMESPACE, LAYER)


def test_files_that_are_no_blobs_are_not_listed(daemon: Daemon) -> None:
    daemon.put_files()
    folder = daemon.root / "blobs" / "sha256"
    (folder / "notes.txt").touch()
    (folder / ("Z" * 64)).touch()
    (daemon.root / "blobs" / "md5").mkdir()
    states = daemon.store().files()
    assert states is not None
    assert set(states) == set(BLOBS)
