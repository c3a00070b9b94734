"""The containerd adapter on real daemons of each release: what they answer to what we ask, and to what is broken."""

from __future__ import annotations

import itertools
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from auditor.containerd import connect, connect_writable, find_content_root, ingest
from auditor.containerd._proto import content_pb2
from auditor.containerd.channel import open_connection
from auditor.containerd.store import ContainerdStore
from auditor.containerd.stream_timeout import StallWatch
from auditor.containerd.writable_store import WritableContainerdStore
from auditor.errors import (
    AlreadyThere,
    Busy,
    Conflict,
    NoFile,
    NoRecord,
    ReadFailed,
    StoreError,
    StoreTimeout,
    StoreUnreachable,
    Unsupported,
)
from auditor.model.digest import EMPTY, Digest, measure
from auditor.model.platforms import host
from auditor.model.store import FileKind, FileState, Resource, Store
from auditor.model.writable_store import LeaseHandle
from tests import images
from tests.contract.store_contract import Known, StoreContract
from tests.lab.conftest import StartDaemon
from tests.lab.kit import faults
from tests.lab.kit.daemon import CRI_NAMESPACE as NS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.dockerd import Dockerd
from tests.lab.kit.registry import Registry

Damage = Callable[[Containerd], None]

MIXES = [images.files(f"adapter-{n}", kilobytes=(8 << 10) >> 8 * n) for n in range(2)]
SAMPLE = images.image([images.layer(mix, level=1) for mix in MIXES])
LAYER = Digest.parse(SAMPLE.layers[0].digest)
MANIFEST = Digest.parse(SAMPLE.digest)
DATA = SAMPLE.blobs[LAYER]
SIZE = len(DATA)
THING = b"some bytes" * 300_000
THING_DIGEST = Digest.of(THING)
OTHER = "other"


def pulled_into(daemon: Containerd, registry: Registry, namespace: str) -> str:
    reference = registry.push(SAMPLE, "lab/adapter:1")
    daemon.ctr("images", "pull", "--plain-http", reference, namespace=namespace)
    return reference


class TestContractThroughFiles(StoreContract):
    @pytest.fixture
    def known(self, shared_daemon: Containerd, registry: Registry) -> Iterator[Known]:
        yield from known_on(shared_daemon, registry, through_files=True)


class TestContractOverTheApi(StoreContract):
    @pytest.fixture
    def known(self, shared_daemon: Containerd, registry: Registry) -> Iterator[Known]:
        yield from known_on(shared_daemon, registry, through_files=False)


def known_on(daemon: Containerd, registry: Registry, *, through_files: bool) -> Iterator[Known]:
    name = pulled_into(daemon, registry, "contract")
    blobs = {Digest.parse(digest): data for digest, data in SAMPLE.blobs.items()}
    with connect(daemon.socket, content_root="auto" if through_files else None) as store:
        assert (store.info().content_root is not None) is through_files
        yield Known(store, "contract", name, MANIFEST, blobs)


@pytest.fixture
def pulled(daemon: Containerd, registry: Registry) -> Containerd:
    daemon.cri_pull(registry.push(SAMPLE, "lab/adapter:1"))
    return daemon


@pytest.fixture
def store(pulled: Containerd) -> Iterator[WritableContainerdStore]:
    with connect_writable(pulled.socket, timeout=10) as opened:
        yield opened


@pytest.fixture
def api(pulled: Containerd) -> Iterator[WritableContainerdStore]:
    with connect_writable(pulled.socket, timeout=2, content_root=None) as opened:
        yield opened


def drained(store: Store, digest: Digest = LAYER, *, namespace: str = NS, fresh: bool = False) -> int:
    with store.stream(namespace, digest, fresh=fresh) as pieces:
        return measure(pieces).size


def sound(store: Store, digest: Digest = LAYER, *, namespace: str = NS) -> bool:
    with store.stream(namespace, digest) as pieces:
        return measure(pieces).matches(digest)


# What a daemon says of itself


def test_the_daemon_describes_itself(pulled: Containerd, store: WritableContainerdStore) -> None:
    info = store.info()
    assert info.version.startswith(pulled.version)
    assert info.address == str(pulled.socket)
    assert info.content_root == pulled.content_root
    assert {"overlayfs", "native"} <= {s.name for s in info.snapshotters}
    assert not any(s.lazy for s in info.snapshotters if s.name in ("overlayfs", "native"))
    assert next(s.root for s in info.snapshotters if s.name == "overlayfs").startswith(str(pulled.root))
    assert (info.policy, info.platform, info.discards_layers) == ("shared", host(), None)


def test_an_isolated_daemon_says_so(start_daemon: StartDaemon) -> None:
    isolated = '[plugins."io.containerd.metadata.v1.bolt"]\ncontent_sharing_policy = "isolated"\n'
    with connect(start_daemon("1.7", extra_config=isolated).socket) as store:
        assert store.info().policy == "isolated"


def test_a_fresh_daemon_is_empty_and_its_root_is_known(daemon: Containerd) -> None:
    with connect(daemon.socket) as store:
        assert store.info().content_root == daemon.content_root
        assert store.files() == {}
        assert all(store.inventory(name).blobs == {} for name in (*store.namespaces(), NS))


def test_a_cri_pull_is_seen_whole(pulled: Containerd, store: WritableContainerdStore) -> None:
    inventory = store.inventory(NS)
    assert {image.name for image in inventory.images} == set(pulled.images())
    assert {image.target.digest for image in inventory.images} == {MANIFEST}
    assert set(inventory.blobs) == set(SAMPLE.blobs)
    assert inventory.blobs[MANIFEST].labels == pulled.labels(MANIFEST)
    snapshots = inventory.snapshots["overlayfs"]
    assert {name: snapshot.parent for name, snapshot in snapshots.items()} == pulled.snapshots()
    assert {snapshot.kind for snapshot in snapshots.values()} == {"committed"}
    assert inventory.gaps == ()
    created = [blob.created_at for blob in inventory.blobs.values()]
    assert all(t is not None and timedelta(0) < datetime.now(UTC) - t < timedelta(minutes=5) for t in created)


def test_containers_leases_and_ingests_are_seen(pulled: Containerd, store: WritableContainerdStore) -> None:
    pulled.ctr("containers", "create", next(n for n in pulled.images() if "@" not in n and "/" in n), "box")
    faults.stale_ingest(pulled, "layer-stuck", data=b"x" * 3000, age=timedelta(days=2))
    with store.lease(NS, seconds=60, labels={"why": "test"}) as lease:
        inventory = store.inventory(NS)
        (found,) = [x for x in inventory.leases if x.id == lease.id]
    assert found.labels["why"] == "test"
    (box,) = inventory.containers
    assert (box.id, box.snapshotter, box.snapshot_key) == ("box", "overlayfs", "box")
    (stuck,) = inventory.ingests
    assert (stuck.ref, stuck.offset) == ("layer-stuck", 3000)
    assert stuck.started_at is not None
    assert stuck.updated_at is not None
    assert datetime.now(UTC) - stuck.started_at > timedelta(days=1)


def test_a_snapshotter_without_a_plugin_is_a_gap(store: WritableContainerdStore) -> None:
    (gap,) = store.inventory(NS, snapshotters=["nydus"]).gaps
    assert "snapshotter not loaded: nydus" in gap


def test_the_files_show_what_the_api_cannot(pulled: Containerd, store: WritableContainerdStore) -> None:
    faults.append(pulled, LAYER, b"more")
    states = store.files()
    assert states is not None
    assert states[LAYER] == FileState(FileKind.REGULAR, SIZE + 4)
    assert store.probe(NS, LAYER, SIZE) == FileState(FileKind.REGULAR, SIZE, at_least=True)


# Faults of one file, by both ways


def put_folder(daemon: Containerd) -> None:
    faults.replace_with_directory(daemon, LAYER)


def put_fifo(daemon: Containerd) -> None:
    faults.replace_with_fifo(daemon, LAYER)


@pytest.mark.in_turn
@pytest.mark.parametrize("size", [0, 1, 4096, SIZE - 1])
def test_a_shortened_file_reads_short_with_success(
    pulled: Containerd, store: WritableContainerdStore, api: WritableContainerdStore, size: int
) -> None:
    faults.shorten(pulled, LAYER, by=SIZE - size)
    assert (drained(store), drained(api)) == (size, size)
    assert api.probe(NS, LAYER, SIZE) == FileState(FileKind.REGULAR, size)


def test_a_deleted_file_is_told_from_a_deleted_record(
    pulled: Containerd, store: WritableContainerdStore, api: WritableContainerdStore
) -> None:
    faults.delete_file(pulled, LAYER)
    for each in (store, api):
        assert each.probe(NS, LAYER, SIZE) == FileState(FileKind.MISSING)
        with pytest.raises(NoFile):
            drained(each)
    faults.remove_record(pulled, LAYER)
    for each in (store, api):
        with pytest.raises(NoRecord):
            each.probe(NS, LAYER, SIZE)
        with pytest.raises(NoRecord):
            drained(each)


NO_FILES: dict[Damage, tuple[FileKind, FileKind]] = {
    put_folder: (FileKind.DIRECTORY, FileKind.DIRECTORY),
    put_fifo: (FileKind.SPECIAL, FileKind.UNREADABLE),
}


@pytest.mark.parametrize("damage", NO_FILES)
def test_what_is_no_file_is_unreadable_and_blocks_nobody(
    pulled: Containerd, store: WritableContainerdStore, api: WritableContainerdStore, damage: Damage
) -> None:
    damage(pulled)
    for each in (store, api):
        with pytest.raises(ReadFailed):
            drained(each)
    seen = (store.files() or {})[LAYER].kind
    assert (seen, api.probe(NS, LAYER, SIZE).kind) == NO_FILES[damage]


def test_an_empty_blob_is_there_or_missing(pulled: Containerd, store: WritableContainerdStore) -> None:
    with store.lease(NS, seconds=60) as lease:
        store.ingest(lease, "empty", iter(()), size=0, expected=EMPTY)
        assert store.probe(NS, EMPTY, 0) == FileState(FileKind.REGULAR, 0, at_least=True)
        pulled.blob_path(EMPTY).unlink()
        assert store.probe(NS, EMPTY, 0) == FileState(FileKind.MISSING)


def test_fresh_reads_see_the_medium(pulled: Containerd, store: WritableContainerdStore) -> None:
    assert drained(store, fresh=True) == SIZE
    faults.flip(pulled, LAYER)
    assert not sound(store)


def test_another_daemons_files_are_not_taken_for_ours(pulled: Containerd) -> None:
    """As in a container: the path that the daemon exports exists here, with another daemon's files in it."""
    with connect(pulled.socket) as store:
        assert store.info().content_root == pulled.content_root
    identity = pulled.root / "io.containerd.grpc.v1.introspection" / "uuid"
    real = identity.read_text()
    with connect(pulled.socket) as store:
        assert store.namespaces()
        seen = find_content_root.exported(
            pulled.content_root, uuid=real[::-1], sample=store.inventory(NS).blobs.values()
        )
    assert seen is None


# A daemon that goes away


def freeze(pid: int) -> None:
    """Stop a process and wait until each of its threads has noticed."""
    os.kill(pid, signal.SIGSTOP)
    while any(" T " not in (task / "stat").read_text().rpartition(")")[2][:3] for task in tasks(pid)):
        time.sleep(0.01)


def tasks(pid: int) -> list[Path]:
    return list(Path(f"/proc/{pid}/task").iterdir())


def test_a_stopped_daemon_is_a_timeout_and_comes_back(pulled: Containerd) -> None:
    with closing(open_connection(pulled.socket, timeout=60)) as connection, closing(StallWatch(0.5)) as watch:
        patient = ContainerdStore(connection, content_root=None)
        impatient = ContainerdStore(connection._replace(timeout=0.5, watch=watch), content_root=None)
        assert drained(patient) == SIZE
        freeze(pulled.pid)
        try:
            for call in (impatient.namespaces, lambda: impatient.inventory(NS), lambda: drained(impatient)):
                with pytest.raises(StoreTimeout):
                    call()
            with pytest.raises(StoreTimeout):
                connect(pulled.socket, timeout=0.5)
        finally:
            os.kill(pulled.pid, signal.SIGCONT)
        assert drained(patient) == SIZE


def test_a_killed_daemon_is_unreachable_also_in_the_middle_of_a_stream(pulled: Containerd) -> None:
    with connect(pulled.socket, content_root=None) as store, store.stream(NS, LAYER) as pieces:
        next(pieces)
        pulled.kill()
        with pytest.raises(StoreUnreachable):
            list(itertools.chain(pieces, [store.namespaces()]))


@pytest.mark.parametrize("name", ["containerd.ttrpc.sock", "dockerd/docker.sock"])
def test_neighbouring_sockets_are_not_containerd(dockerd: Dockerd, base: Path, name: str) -> None:
    path = dockerd.containerd.base / name if name.startswith("containerd") else base / name
    with pytest.raises((StoreUnreachable, StoreTimeout)) as raised:
        connect(path, timeout=2)
    assert str(path) in raised.value.message
    assert raised.value.hint


# Writing


@pytest.fixture
def lease(store: WritableContainerdStore) -> Iterator[LeaseHandle]:
    with store.lease(NS, seconds=600) as handle:
        yield handle


def put(
    store: WritableContainerdStore, lease: LeaseHandle, data: bytes = THING, *, ref: str = "ours", **more: object
) -> None:
    store.ingest(lease, ref, iter([data]), size=len(data), expected=Digest.of(data), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("deferred", [False, True])
def test_an_ingest_is_a_record_with_labels_under_its_lease(
    store: WritableContainerdStore, lease: LeaseHandle, *, deferred: bool
) -> None:
    put(store, lease, labels={"a.b/c.d": "e"}, deferred=deferred)
    assert sound(store, THING_DIGEST)
    blob = store.inventory(NS).blobs[THING_DIGEST]
    assert (blob.size, blob.labels) == (len(THING), {"a.b/c.d": "e"})
    assert Resource("content", THING_DIGEST) in store.resources(NS, lease.id)
    assert store.inventory(NS).ingests == ()


@pytest.mark.parametrize("deferred", [False, True])
def test_a_blob_that_is_there_is_said(store: WritableContainerdStore, lease: LeaseHandle, *, deferred: bool) -> None:
    with pytest.raises(AlreadyThere):
        put(store, lease, DATA, deferred=deferred)
    assert store.inventory(NS).ingests == ()


@pytest.mark.in_turn
@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("data", [THING[:-1], THING + b"x", THING[:-1] + b"x", b""])
def test_wrong_bytes_are_refused_and_leave_nothing(
    store: WritableContainerdStore, lease: LeaseHandle, data: bytes, *, deferred: bool
) -> None:
    with pytest.raises(Conflict):
        store.ingest(lease, "ours", iter([data]), size=len(THING), expected=THING_DIGEST, deferred=deferred)
    inventory = store.inventory(NS)
    assert (inventory.ingests, THING_DIGEST in inventory.blobs) == ((), False)


def test_a_source_that_fails_leaves_nothing(store: WritableContainerdStore, lease: LeaseHandle) -> None:
    def failing() -> Iterator[bytes]:
        yield THING[: 1 << 20]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.ingest(lease, "ours", failing(), size=len(THING), expected=THING_DIGEST)
    assert store.inventory(NS).ingests == ()
    assert store.resources(NS, lease.id) == ()


def test_what_an_earlier_try_left_is_not_built_upon(store: WritableContainerdStore, lease: LeaseHandle) -> None:
    with ingest.write_stream(store._connection, lease, "leave something") as stream:
        stream.call(content_pb2.WriteContentRequest(ref="ours", total=len(THING)))
        stream.call(content_pb2.WriteContentRequest(action=content_pb2.WRITE, ref="ours", data=b"x" * 3000))
    (left,) = store.inventory(NS).ingests
    assert (left.ref, left.offset, left.total) == ("ours", 3000, len(THING))
    put(store, lease)
    assert sound(store, THING_DIGEST)


def test_a_reference_in_use_is_busy_and_its_owner_goes_on(api: WritableContainerdStore, lease: LeaseHandle) -> None:
    """Over the API the daemon holds the reference; writes through files are kept apart by the repair's own lock."""

    def chunks() -> Iterator[bytes]:
        yield THING[: 1 << 20]
        with pytest.raises(Busy):
            put(api, lease, b"something else")
        yield THING[1 << 20 :]

    api.ingest(lease, "ours", chunks(), size=len(THING), expected=THING_DIGEST)
    assert sound(api, THING_DIGEST)


def test_what_only_a_lease_holds_goes_with_it(store: WritableContainerdStore) -> None:
    with store.lease(NS, seconds=600) as lease:
        put(store, lease)
        store.collect_garbage(NS)
        assert THING_DIGEST in store.inventory(NS).blobs
    store.collect_garbage(NS)
    inventory = store.inventory(NS)
    assert THING_DIGEST not in inventory.blobs
    assert set(inventory.blobs) == set(SAMPLE.blobs)
    assert inventory.leases == ()


def test_a_lease_goes_after_an_error_too(store: WritableContainerdStore) -> None:
    with pytest.raises(ZeroDivisionError), store.lease(NS, seconds=600):
        raise ZeroDivisionError
    assert store.inventory(NS).leases == ()


def test_a_lease_expires_by_the_clock_of_the_daemon(pulled: Containerd) -> None:
    clock = [timedelta(days=-1)]
    with connect_writable(pulled.socket) as opened:
        late = WritableContainerdStore(opened._connection, now=lambda: datetime.now(UTC) + clock[0])
        for clock[0] in (timedelta(days=-1), timedelta(days=1), timedelta()):
            with late.lease(NS, seconds=600) as lease:
                (found,) = late.inventory(NS).leases
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", found.labels["containerd.io/gc.expire"])
                expiry = datetime.fromisoformat(found.labels["containerd.io/gc.expire"])
                assert abs(expiry - datetime.now(UTC) - timedelta(seconds=600)) < timedelta(seconds=120)
                put(late, lease)
                late.collect_garbage(NS)
                assert THING_DIGEST in late.inventory(NS).blobs
            late.collect_garbage(NS)
            assert THING_DIGEST not in late.inventory(NS).blobs


def test_a_lease_holds_content_that_nothing_else_does(pulled: Containerd, store: WritableContainerdStore) -> None:
    with store.lease(NS, seconds=600) as lease:
        store.hold(lease, Resource("content", LAYER))
        store.hold(lease, Resource("snapshots/overlayfs", SAMPLE.chain_ids[-1]))
        pulled.ctr("images", "remove", *pulled.images())
        store.collect_garbage(NS)
        inventory = store.inventory(NS)
        assert (set(inventory.blobs), set(inventory.snapshots["overlayfs"])) == ({LAYER}, set(SAMPLE.chain_ids))


def test_images_are_held_from_2_0_on(pulled: Containerd, store: WritableContainerdStore, lease: LeaseHandle) -> None:
    resource = Resource("images", pulled.images()[0])
    if pulled.version.startswith("1."):
        with pytest.raises(Unsupported):
            store.hold(lease, resource)
    else:
        store.hold(lease, resource)


def test_labels_are_set_and_removed_one_by_one(store: WritableContainerdStore) -> None:
    before = dict(store.inventory(NS).blobs[LAYER].labels)
    store.label(NS, LAYER, {"x.y/z.0": "1", "containerd.io/gc.ref.content.l.7": "sha256:x"})
    assert store.inventory(NS).blobs[LAYER].labels == {
        **before,
        "x.y/z.0": "1",
        "containerd.io/gc.ref.content.l.7": "sha256:x",
    }
    store.label(NS, LAYER, {"x.y/z.0": "", "containerd.io/gc.ref.content.l.7": ""})
    store.label(NS, LAYER, {})
    assert store.inventory(NS).blobs[LAYER].labels == before
    with pytest.raises(NoRecord):
        store.label(NS, THING_DIGEST, {"a": "b"})
    with pytest.raises(StoreError, match="4096"):
        store.label(NS, LAYER, {"a": "b" * 5000})


def test_records_are_deleted_and_adopted(store: WritableContainerdStore) -> None:
    with store.lease(OTHER, seconds=600) as lease:
        assert store.adopt(lease, LAYER, size=SIZE, labels={"k": "v"})
        blob = store.inventory(OTHER).blobs[LAYER]
        assert (blob.size, blob.labels) == (SIZE, {"k": "v"})
        with pytest.raises(AlreadyThere):
            store.adopt(lease, LAYER, size=SIZE)
        assert not store.adopt(lease, THING_DIGEST, size=len(THING))
        assert not store.adopt(lease, MANIFEST, size=3)
        inventory = store.inventory(OTHER)
        assert (set(inventory.blobs), inventory.ingests) == ({LAYER}, ())
        store.delete_record(OTHER, LAYER)
        assert store.inventory(OTHER).blobs == {}
        with pytest.raises(NoRecord):
            store.delete_record(OTHER, LAYER)


def test_nothing_is_adopted_under_the_isolated_policy(start_daemon: StartDaemon, registry: Registry) -> None:
    isolated = '[plugins."io.containerd.metadata.v1.bolt"]\ncontent_sharing_policy = "isolated"\n'
    daemon = start_daemon("1.7", extra_config=isolated)
    daemon.cri_pull(registry.push(SAMPLE, "lab/adapter:1"))
    with connect_writable(daemon.socket) as store, store.lease(OTHER, seconds=600) as lease:
        assert not store.adopt(lease, LAYER, size=SIZE)
        inventory = store.inventory(OTHER)
        assert (inventory.blobs, inventory.ingests) == ({}, ())


def test_aborting_what_is_not_there_is_fine(store: WritableContainerdStore) -> None:
    store.abort(NS, "nothing")


# The two ways to replace bad bytes


@pytest.mark.parametrize("namespaces", [(NS,), (NS, OTHER)])
def test_bad_bytes_are_replaced_over_the_api(
    pulled: Containerd, api: WritableContainerdStore, namespaces: tuple[str, ...]
) -> None:
    with api.lease(OTHER, seconds=600) as theirs, api.lease(NS, seconds=600) as ours:
        if OTHER in namespaces:
            api.adopt(theirs, LAYER, size=SIZE, labels={"theirs": "kept"})
        faults.flip(pulled, LAYER, offset=10)
        before = {name: api.inventory(name).blobs[LAYER].labels for name in namespaces}

        def clear() -> None:
            for name in namespaces:
                api.delete_record(name, LAYER)
            api.collect_garbage(NS)
            assert not pulled.blob_path(LAYER).exists()

        put(api, ours, DATA, labels=before[NS], deferred=True, before_commit=clear)
        for name in namespaces[1:]:
            assert api.adopt(theirs, LAYER, size=SIZE, labels=before[name])
        assert all(sound(api, namespace=name) for name in namespaces)
        assert {name: api.inventory(name).blobs[LAYER].labels for name in namespaces} == before
    api.collect_garbage(NS)
    assert sound(api)
    assert set(api.inventory(NS).blobs) == set(SAMPLE.blobs)


def test_naming_the_digest_over_a_bad_file_adopts_it(pulled: Containerd, api: WritableContainerdStore) -> None:
    """The trap: what `deferred` and `before_commit` are for."""
    with api.lease(NS, seconds=600) as lease:
        faults.flip(pulled, LAYER, offset=10)
        api.delete_record(NS, LAYER)
        put(api, lease, DATA)
        assert not sound(api)


DAMAGES: list[Damage] = [
    lambda daemon: faults.flip(daemon, LAYER),
    lambda daemon: faults.empty_file(daemon, LAYER),
    lambda daemon: faults.delete_file(daemon, LAYER),
    put_folder,
    put_fifo,
]


@pytest.mark.in_turn
@pytest.mark.parametrize("damage", DAMAGES)
def test_bad_files_are_replaced_in_place(
    pulled: Containerd,
    store: WritableContainerdStore,
    api: WritableContainerdStore,
    damage: Callable[[Containerd], None],
) -> None:
    record = store.inventory(NS).blobs[LAYER]
    was = pulled.blob_path(LAYER).stat()
    damage(pulled)
    staging = store.staging()
    assert staging is not None
    with staging as run:
        run.replace(LAYER, run.stage(LAYER, [DATA], size=SIZE))
        assert sound(api)
    now = pulled.blob_path(LAYER).stat()
    assert (now.st_mode, now.st_uid, now.st_gid, now.st_nlink) == (was.st_mode, was.st_uid, was.st_gid, 1)
    assert store.inventory(NS).blobs[LAYER] == record
    assert sorted(p.name for p in pulled.content_root.iterdir()) == ["blobs", "ingest"]


def test_no_staging_without_files(api: WritableContainerdStore) -> None:
    assert api.staging() is None
