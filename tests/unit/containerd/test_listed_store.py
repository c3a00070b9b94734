"""A store whose records another process lists gives the same as one that is connected, whatever becomes of both."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from auditor.containerd import list_calls, listing_process, relay
from auditor.containerd._proto import images_pb2, introspection_pb2, snapshots_pb2, types_pb2
from auditor.containerd.find_content_root import ContentRootOption
from auditor.containerd.listed_store import ListedStore
from auditor.containerd.listing_process import ListingProcess
from auditor.errors import NoFile, NoRecord, StoreError, StoreUnreachable, UsageError
from auditor.model.digest import EMPTY, Digest
from auditor.model.oci import OCI_INDEX, OCI_MANIFEST
from auditor.model.store import FileBacked, FileKind, FileState
from tests.contract.daemon import BLOBS, LAYER, NAMESPACE, SMALL, Daemon
from tests.contract.store_contract import Known, StoreContract

DOCUMENT = Digest.of(SMALL)


class Helper(ListingProcess):
    """Does the work of the process in a thread: a process that has used gRPC cannot be forked."""

    def __init__(self, *, at_most: int | None = None) -> None:
        tasks, task = os.pipe()
        reading, writing = os.pipe()
        self.written = _Counted(writing, at_most)
        arguments = (os.fdopen(tasks, "rb"), self.written)
        self.thread = threading.Thread(target=_work, args=arguments)
        super().__init__(_ended(), io.FileIO(task, "wb"), os.fdopen(reading, "rb"))
        self.thread.start()

    def close(self) -> None:
        super().close()
        self.thread.join()


def _ended() -> int:
    """The id of a process that has ended and waits for its parent."""
    return os.posix_spawn("/bin/true", ["true"], os.environ)


class _Counted(io.BufferedWriter):
    """Fails after a number of bytes, so that the work ends there."""

    def __init__(self, descriptor: int, at_most: int | None) -> None:
        super().__init__(io.FileIO(descriptor, "wb"))
        self.left = at_most
        self.count = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.count += len(data)
        if self.left is None:
            return super().write(data)
        written = super().write(data[: self.left])
        self.left -= written
        if written < len(data):
            raise BrokenPipeError
        return written


def _work(tasks: BinaryIO, output: BinaryIO) -> None:
    with suppress(EOFError, OSError, ValueError), tasks, output:  # the process ends without a word
        listing_process._work(tasks, output)


class Listed:
    """Stores on a daemon whose records are listed elsewhere."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.opened: list[ListedStore] = []

    def store(
        self,
        *namespaces: str,
        content_root: ContentRootOption = "auto",
        at_most: int | None = None,
        timeout: float = 30,
    ) -> ListedStore:
        process = Helper(at_most=at_most)
        socket = self.daemon.server.socket
        process.start(socket, timeout=timeout, namespaces=namespaces)
        made = ListedStore(process, socket, timeout=timeout, content_root=content_root, namespaces=namespaces)
        self.opened.append(made)
        return made


@pytest.fixture
def listed(daemon: Daemon) -> Iterator[Listed]:
    made = Listed(daemon)
    try:
        yield made
    finally:
        for store in made.opened:
            store.close()


def is_connected(store: ListedStore) -> bool:
    return store._connected is not None


class TestOverTheApi(StoreContract):
    @pytest.fixture
    def known(self, listed: Listed) -> Known:
        return Known(listed.store(), NAMESPACE, "example/image:1", DOCUMENT, BLOBS)


class TestThroughFiles(StoreContract):
    @pytest.fixture
    def known(self, listed: Listed) -> Known:
        listed.daemon.put_files()
        return Known(listed.store(), NAMESPACE, "example/image:1", DOCUMENT, BLOBS)


def rich(daemon: Daemon) -> None:
    """Add what an inventory may have: snapshots, a snapshotter that failed, records that are malformed."""
    for name in ("overlayfs", "native"):
        daemon.export(relay.SNAPSHOTTER, name)
        daemon.world.snapshots[name] = [snapshots_pb2.Info(name=f"top-{name}", parent="low", labels={"a": "b"})]
    failed = introspection_pb2.Plugin(type=relay.SNAPSHOTTER, id="zfs")
    failed.init_err.message = "broken"
    daemon.world.plugins.append(failed)
    daemon.export(relay.SNAPSHOTTER, "proxy", address="/run/proxy.sock")
    daemon.world.images.append(images_pb2.Image(name="bad", target=types_pb2.Descriptor(digest="sha256:short")))
    daemon.world.add("sha256:nonsense", b"")


def test_the_records_are_those_of_a_connected_store(listed: Listed) -> None:
    rich(listed.daemon)
    listed.daemon.put_files()
    plain, store = listed.daemon.store(), listed.store()
    assert store.info() == plain.info()
    assert store.namespaces() == plain.namespaces()
    assert store.inventory(NAMESPACE) == plain.inventory(NAMESPACE)
    assert store.files() == plain.files()
    assert store.read(NAMESPACE, DOCUMENT, limit=100) == SMALL
    assert store.verifications() == {}
    assert not is_connected(store)
    assert isinstance(store, FileBacked)


def test_what_was_listed_is_taken_once(listed: Listed) -> None:
    store = listed.store()
    assert len(store.inventory(NAMESPACE).images) == 1
    assert store.namespaces() == (NAMESPACE,)
    assert not is_connected(store)
    listed.daemon.world.images.clear()
    listed.daemon.world.namespace = "another"
    assert not store.inventory(NAMESPACE).images
    assert store.namespaces() == ("another",)


def test_another_selection_is_asked_for(listed: Listed) -> None:
    rich(listed.daemon)
    store = listed.store()
    assert list(store.inventory(NAMESPACE, snapshotters=["native"]).snapshots) == ["native"]
    assert is_connected(store)
    assert set(store.inventory(NAMESPACE).snapshots) == {"native", "overlayfs"}


def test_only_the_wanted_namespaces_are_listed(listed: Listed) -> None:
    store = listed.store("absent")
    assert store.inventory("absent").images == ()
    assert is_connected(store)
    assert len(store.inventory(NAMESPACE).images) == 1


@pytest.mark.parametrize("visible", [True, False])
def test_a_process_that_ends_early_changes_nothing(listed: Listed, *, visible: bool) -> None:
    rich(listed.daemon)
    if visible:
        listed.daemon.put_files()
    plain = listed.daemon.store()
    wanted = plain.info(), plain.namespaces(), plain.inventory(NAMESPACE), SMALL
    whole = listed.store()
    whole.info(), whole.inventory(NAMESPACE)
    whole.close()
    written = whole._process.written.count  # type: ignore[attr-defined]
    for at_most in (*range(0, written, 97), written):
        store = listed.store(at_most=at_most)
        found = store.info(), store.namespaces(), store.inventory(NAMESPACE), store.read(NAMESPACE, DOCUMENT, limit=99)
        assert found == wanted
        store.close()


def test_a_daemon_that_is_gone_is_named_as_ever(listed: Listed) -> None:
    listed.daemon.server.__exit__(None, None, None)
    with pytest.raises(StoreUnreachable) as plain:
        listed.daemon.store()
    with pytest.raises(StoreUnreachable) as found:
        listed.store().info()
    assert (found.value.message, found.value.hint) == (plain.value.message, plain.value.hint)


def test_a_daemon_without_its_database_is_refused(listed: Listed) -> None:
    failed = introspection_pb2.Plugin(type="io.containerd.metadata.v1", id="bolt")
    failed.init_err.message = "invalid database"
    listed.daemon.world.plugins.append(failed)
    with pytest.raises(StoreError, match="invalid database"):
        listed.store().info()


def test_a_folder_that_is_no_content_root_is_refused(listed: Listed) -> None:
    with pytest.raises(UsageError):
        listed.store(content_root=listed.daemon.folder).info()


def test_a_content_root_without_identity_is_compared_with_records(listed: Listed) -> None:
    listed.daemon.put_files(uuid=None)
    assert listed.store().info().content_root == listed.daemon.root


def test_content_is_read_over_the_api_where_it_is_wanted(listed: Listed) -> None:
    listed.daemon.put_files()
    store = listed.store(content_root=None)
    assert store.files() is None
    assert store.open_file(NAMESPACE, LAYER) is None
    assert store.read(NAMESPACE, DOCUMENT, limit=100) == SMALL
    assert store.info().notes == listed.daemon.store(content_root=None).info().notes


# Documents that are read ahead


def path_of(daemon: Daemon, digest: Digest) -> Path:
    return daemon.root / "blobs" / digest.algorithm / digest.hex


def with_index(daemon: Daemon, index: bytes) -> Digest:
    digest = Digest.of(index)
    daemon.world.add(digest, index, **{"containerd.io/gc.ref.content.m.0": DOCUMENT})
    target = types_pb2.Descriptor(media_type=OCI_INDEX, digest=digest, size=len(index))
    daemon.world.images[:] = [images_pb2.Image(name="example/image:1", target=target)]
    daemon.put_files()
    path_of(daemon, digest).write_bytes(index)
    return digest


def test_documents_are_read_once_ahead_and_then_from_their_files(listed: Listed) -> None:
    index = with_index(listed.daemon, b"an index")
    store = listed.store()
    assert len(store.inventory(NAMESPACE).images) == 1
    store._process.thread.join()  # type: ignore[attr-defined]
    for digest in (index, DOCUMENT):
        path_of(listed.daemon, digest).write_bytes(b"changed")
    assert [store.read(NAMESPACE, digest, limit=99) for digest in (DOCUMENT, index)] == [SMALL, b"an index"]
    assert [store.read(NAMESPACE, digest, limit=99) for digest in (DOCUMENT, index)] == [b"changed", b"changed"]


def test_before_the_records_are_taken_documents_come_from_their_files(listed: Listed) -> None:
    index = with_index(listed.daemon, b"an index")
    store = listed.store()
    assert store.read(NAMESPACE, index, limit=99) == b"an index"
    assert len(store.inventory(NAMESPACE).images) == 1


def test_a_limit_holds_for_documents_that_were_read_ahead(listed: Listed) -> None:
    listed.daemon.put_files()
    store = listed.store()
    store.inventory(NAMESPACE)
    with pytest.raises(Exception, match="more than the 3 bytes"):
        store.read(NAMESPACE, DOCUMENT, limit=3)


def test_a_missing_document_is_a_fault_only_while_its_record_is_there(listed: Listed) -> None:
    listed.daemon.put_files()
    path_of(listed.daemon, DOCUMENT).unlink()
    store = listed.store()
    store.inventory(NAMESPACE)
    with pytest.raises(NoFile):
        store.read(NAMESPACE, DOCUMENT, limit=99)
    listed.daemon.world.infos.clear()
    with pytest.raises(NoRecord):
        store.read(NAMESPACE, DOCUMENT, limit=99)


def test_the_other_calls_ask_the_daemon(listed: Listed) -> None:
    store = listed.store()
    assert store.probe(NAMESPACE, DOCUMENT, len(SMALL)) == FileState(FileKind.REGULAR, len(SMALL), at_least=True)
    assert store.resources(NAMESPACE, "none") == ()
    with store.stream(NAMESPACE, DOCUMENT) as pieces:
        assert b"".join(pieces) == SMALL
    assert OCI_MANIFEST in {image.target.media_type for image in store.inventory(NAMESPACE).images}


def test_threads_that_read_meanwhile_meet_no_other_error(listed: Listed) -> None:
    listed.daemon.put_files()
    store = listed.store(at_most=None)
    store.inventory(NAMESPACE)
    with ThreadPoolExecutor(8) as pool:
        reads = [
            pool.submit(store.read, NAMESPACE, digest, limit=100) for _ in range(20) for digest in (DOCUMENT, EMPTY)
        ]
        store._process._file.close()
        assert {read.result() for read in reads} == {SMALL, b""}


def test_closing_ends_a_thread_that_waits(listed: Listed) -> None:
    listed.daemon.put_files()
    store = listed.store()
    store.inventory(NAMESPACE)
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(store.read, NAMESPACE, Digest.of(b"absent"), limit=100)
        store.close()
        assert waits.exception(30) is not None


def test_namespaces_that_cannot_be_listed_do_not_hide_the_daemon(
    listed: Listed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failed(*_: object) -> Any:
        def answer() -> Any:
            raise StoreError("cannot list the namespaces")

        return answer

    plain = listed.daemon.store().info()
    monkeypatch.setattr(list_calls, "namespaces", failed)
    store = listed.store()
    assert store.info() == plain
    with pytest.raises(StoreError, match="cannot list the namespaces"):
        store.namespaces()


def test_after_an_error_the_daemon_is_asked_again(listed: Listed) -> None:
    failed = introspection_pb2.Plugin(type="io.containerd.metadata.v1", id="bolt")
    failed.init_err.message = "invalid database"
    listed.daemon.world.plugins.append(failed)
    store = listed.store()
    with pytest.raises(StoreError, match="invalid database"):
        store.info()
    listed.daemon.world.plugins.remove(failed)
    assert store.info() == listed.daemon.store().info()
    assert len(store.inventory(NAMESPACE).images) == 1
