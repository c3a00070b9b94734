from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from auditor.containerd import convert, plugins, rows
from auditor.containerd._proto import (
    containers_pb2,
    content_pb2,
    images_pb2,
    introspection_pb2,
    leases_pb2,
    snapshots_pb2,
    types_pb2,
)
from auditor.containerd.plugins import NO_DISCARD, SelfDescription
from auditor.errors import InvalidDigest, StoreError
from auditor.model.digest import Digest
from auditor.model.oci import OCI_MANIFEST, Descriptor
from auditor.model.platforms import Platform, host
from auditor.model.store import Blob, Container, Image, Ingest, Lease, Snapshot, Snapshotter, utc

DIGEST = Digest.of(b"x")
STAMP = Timestamp(seconds=1_700_000_000, nanos=123_456_789)
WHEN = datetime(2023, 11, 14, 22, 13, 20, 123456, tzinfo=UTC)
Plugin = introspection_pb2.Plugin


@pytest.mark.parametrize(
    ("stamp", "wanted"),
    [
        (STAMP, WHEN),
        (Timestamp(), None),
        (Timestamp(seconds=-62_135_596_800), None),
        (Timestamp(seconds=1 << 40), None),
        (Timestamp(seconds=-1), datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_times(stamp: Timestamp, wanted: datetime | None) -> None:
    assert utc(rows.nanoseconds(stamp)) == wanted


def test_label_keys_are_shared() -> None:
    one, two = rows.blobs([content_pb2.Info(labels={"containerd.io/x": value}) for value in "ab"])
    assert next(iter(one[2])) is next(iter(two[2]))


def test_a_blob() -> None:
    info = content_pb2.Info(digest=DIGEST, size=1 << 40, labels={"a": "b"}, created_at=STAMP)
    (made,) = convert.blobs("ns", rows.blobs([info]))
    assert made == Blob("ns", DIGEST, 1 << 40, {"a": "b"}, 1_700_000_000_123_456_789, 0)
    assert (made.created_at, made.updated_at) == (WHEN, None)
    (changed,) = convert.blobs("ns", rows.blobs([content_pb2.Info(digest=DIGEST, updated_at=STAMP)]))
    assert (changed.created_at, changed.updated_at) == (None, WHEN)


def test_an_image() -> None:
    target = types_pb2.Descriptor(media_type=OCI_MANIFEST, digest=DIGEST, size=7, annotations={"k": "v"})
    record = images_pb2.Image(name="n", target=target, labels={"a": "b"}, created_at=STAMP)
    wanted = Descriptor(OCI_MANIFEST, DIGEST, 7, annotations={"k": "v"})
    assert convert.images("ns", rows.images([record])) == [Image("ns", "n", wanted, {"a": "b"})]


def test_images_share_a_target_that_is_the_same_in_all_fields() -> None:
    first = types_pb2.Descriptor(media_type=OCI_MANIFEST, digest=DIGEST, size=7)
    other = types_pb2.Descriptor(media_type=OCI_MANIFEST, digest=DIGEST, size=7, annotations={"k": "v"})
    larger = types_pb2.Descriptor(media_type=OCI_MANIFEST, digest=DIGEST, size=8)
    records = [images_pb2.Image(name=f"n{n}", target=t) for n, t in enumerate((first, other, first, larger))]
    a, b, c, d = (image.target for image in convert.images("ns", rows.images(records)))
    assert a is c
    assert (a, b, d) == (
        Descriptor(OCI_MANIFEST, DIGEST, 7),
        Descriptor(OCI_MANIFEST, DIGEST, 7, annotations={"k": "v"}),
        Descriptor(OCI_MANIFEST, DIGEST, 8),
    )


@pytest.mark.parametrize("text", ["", "sha256:zz", "../../etc/passwd", "sha256:" + "A" * 64])
def test_malformed_digests_are_refused(text: str) -> None:
    with pytest.raises(InvalidDigest):
        convert.blobs("ns", rows.blobs([content_pb2.Info(digest=text)]))
    with pytest.raises(InvalidDigest):
        convert.images("ns", rows.images([images_pb2.Image(name="n", target=types_pb2.Descriptor(digest=text))]))


@pytest.mark.parametrize(("number", "kind"), [(0, "unknown"), (1, "view"), (2, "active"), (3, "committed")])
def test_a_snapshot(number: int, kind: str) -> None:
    info = snapshots_pb2.Info(name="n", parent="p", labels={"a": "b"}, updated_at=STAMP)
    info.MergeFromString(bytes([3 << 3, number]))  # as it comes over the wire
    wanted = Snapshot("ns", "overlayfs", "n", "p", kind, {"a": "b"})
    assert convert.snapshots("ns", "overlayfs", rows.snapshots([info])) == [wanted]


def test_the_others() -> None:
    lease = leases_pb2.Lease(id="l", created_at=STAMP)
    assert convert.leases("ns", rows.leases([lease])) == [Lease("ns", "l", {}, WHEN)]
    status = content_pb2.Status(ref="r", offset=1, total=2, expected=DIGEST, started_at=STAMP)
    assert convert.ingests("ns", rows.ingests([status])) == [Ingest("ns", "r", 1, 2, DIGEST, WHEN, None)]
    record = containers_pb2.Container(id="c", image="i", snapshotter="overlayfs", snapshot_key="k")
    assert convert.containers("ns", rows.containers([record])) == [Container("ns", "c", "i", "overlayfs", "k")]
    pod = {"io.kubernetes.pod.namespace": "web", "io.kubernetes.pod.name": "shop-1"}
    (row,) = rows.containers([containers_pb2.Container(id="c", labels=pod)])
    assert row[4] == "web/shop-1"


def read_plugins(messages: list[introspection_pb2.Plugin]) -> SelfDescription:
    return plugins.read_plugins(rows.plugins(messages))


def snapshotters(plugin: introspection_pb2.Plugin) -> tuple[Snapshotter, ...]:
    plugin.type = "io.containerd.snapshotter.v1"
    return read_plugins([plugin]).snapshotters


@pytest.mark.parametrize(
    ("name", "exports", "lazy"),
    [
        ("overlayfs", {"root": "/r"}, False),
        ("stargz", {"root": "/r", "enable_remote_snapshot_annotations": "true"}, True),
        ("stargz", {"root": "/r", "enable_remote_snapshot_annotations": "false"}, False),
        ("erofs", {"root": "/r"}, False),
    ],
)
def test_lazy_snapshotters_are_known(name: str, exports: dict[str, str], *, lazy: bool) -> None:
    assert snapshotters(Plugin(id=name, exports=exports)) == (Snapshotter(name, "/r", lazy),)


def test_plugins_say_what_the_daemon_is() -> None:
    arm = types_pb2.Platform(os="linux", architecture="aarch64")
    said = read_plugins(
        [
            Plugin(type="io.containerd.content.v1", id="content", exports={"root": "/c"}),
            Plugin(type="io.containerd.metadata.v1", id="bolt", exports={"policy": "isolated"}),
            Plugin(type="io.containerd.cri.v1", id="images", exports={"DiscardUnpackedLayers": "true"}),
            Plugin(type="io.containerd.snapshotter.v1", id="overlayfs", platforms=[arm]),
            Plugin(
                type="io.containerd.snapshotter.v1", id="zfs", init_err=Plugin.InitError(message="no zfs: skip plugin")
            ),
            Plugin(type="io.containerd.snapshotter.v1", id="erofs"),
        ]
    )
    assert str(said.content_root) == "/c"
    assert (said.policy, said.discards_layers, said.notes) == ("isolated", True, ())
    assert [s.name for s in said.snapshotters] == ["erofs", "overlayfs"]
    assert said.platform == Platform(os="linux", architecture="arm64")


def test_older_daemons_say_less_and_we_say_so() -> None:
    said = read_plugins([])
    assert (said.content_root, said.snapshotters, said.discards_layers) == (None, (), None)
    assert said.notes == (NO_DISCARD,)
    assert said.platform == host()


def test_a_failed_database_is_an_error_with_a_way_on() -> None:
    failed = Plugin.InitError(message="invalid database")
    messages = [
        Plugin(
            type="io.containerd.content.v1", id="content", exports={"root": "/data/io.containerd.content.v1.content"}
        ),
        Plugin(type="io.containerd.metadata.v1", id="bolt", init_err=failed),
    ]
    with pytest.raises(StoreError, match="invalid database") as raised:
        read_plugins(messages)
    assert "do not delete meta.db" in raised.value.hint
    assert raised.value.hint.endswith("auditor check --root /data")
    with pytest.raises(StoreError) as raised:
        read_plugins(messages[1:])
    assert raised.value.hint.endswith("auditor check --root /var/lib/containerd")


def test_a_proxy_snapshotter_has_an_address() -> None:
    exports = {"root": "/r", "address": "/run/soci.sock"}
    assert snapshotters(Plugin(id="soci", exports=exports)) == (Snapshotter("soci", "/r", proxy=True),)


@pytest.mark.parametrize(
    ("words", "failed"),
    [
        ("path /x (ext4) must be a btrfs filesystem to be used with the btrfs snapshotter: skip plugin", False),
        ("devmapper not configured", False),
        ("failed to open database file: invalid database", True),
    ],
)
def test_a_snapshotter_that_failed_makes_a_run_incomplete(words: str, failed: bool) -> None:
    plugin = Plugin(type="io.containerd.snapshotter.v1", id="overlayfs")
    plugin.init_err.message = words
    sentence = f"the snapshotter overlayfs did not start, its snapshots are not known: {words}"
    assert read_plugins([plugin]).gaps == ((sentence,) if failed else ())
