"""The small parts of the sources: verification, places, pauses, proxies, pieces, and stores that serve as sources."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import AuditorError, BadBytes, Conflict, NoFile, NoRecord, NotOffered, ReadFailed, SourceError
from auditor.model.blob_source import Hints, Offer, Source, origins, verified
from auditor.model.chunks import gathered
from auditor.model.digest import Digest
from auditor.model.store import Blob, Inventory, SourceKind, Store, StoreInfo
from auditor.sources.credentials import DockerConfig
from auditor.sources.hosts import Endpoint
from auditor.sources.http import _context_of
from auditor.sources.network_errors import Interrupted
from auditor.sources.proxies import Proxies
from auditor.sources.registry import RegistrySource
from auditor.sources.repositories import MAX_PLACES, Repository, paths, repositories
from auditor.sources.retry import SYSTEM, Backoff, TryLater, retry_after
from auditor.sources.store_source import StoreSource
from auditor.sources.twin_source import Twin, TwinSource

LAYER = "application/vnd.oci.image.layer.v1.tar"


@given(st.lists(st.binary(max_size=20), max_size=8))
def test_right_bytes_pass_whole(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)
    assert b"".join(verified(chunks, digest=Digest.of(whole), size=len(whole), place="here")) == whole


@given(st.binary(min_size=1, max_size=60), st.integers(1, 7), st.data())
def test_wrong_bytes_never_pass_whole(whole: bytes, step: int, data: st.DataObject) -> None:
    wrong = data.draw(st.binary(max_size=70).filter(lambda other: other != whole))
    chunks = [wrong[at : at + step] for at in range(0, len(wrong), step)]
    got: list[bytes] = []
    with pytest.raises(BadBytes):
        got.extend(verified(chunks, digest=Digest.of(whole), size=len(whole), place="here"))
    assert sum(map(len, got)) < max(len(whole), 1)


def test_an_endless_stream_is_left_at_once() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 10

    with pytest.raises(BadBytes, match="more than the 25 bytes"):
        list(verified(endless(), digest=Digest.of(b"x" * 25), size=25, place="here"))
    assert taken == 3


@given(st.lists(st.binary(max_size=30), max_size=20), st.integers(1, 40))
def test_pieces_are_joined(pieces: list[bytes], size: int) -> None:
    joined = list(gathered(pieces, size=size))
    assert b"".join(joined) == b"".join(pieces)
    assert all(len(piece) >= size for piece in joined[:-1])


def test_labels_of_origin() -> None:
    key = "containerd.io/distribution.source."
    found = origins(
        [
            {f"{key}docker.io": "library/a,library/b", "containerd.io/uncompressed": "sha256:0"},
            {f"{key}docker.io": "library/b,c/d", f"{key}ghcr.io": "", key: "x"},
        ]
    )
    assert found == {"docker.io": ("library/a", "library/b", "c/d")}


def test_names_go_before_labels_and_lend_them_their_port() -> None:
    hints = Hints(
        names=("r.example:5000/a:v1", f"sha256:{'0' * 64}", "r.example:5000/a@sha256:" + "0" * 64, "busybox"),
        origins={"r.example": ("b", "a"), "::1": ("c",), "docker.io": ("library/x",)},
    )
    assert repositories(hints) == (
        Repository("r.example:5000", "a"),
        Repository("docker.io", "library/busybox"),
        Repository("r.example:5000", "b"),
        Repository("[::1]", "c"),
        Repository("docker.io", "library/x"),
    )


def test_a_label_without_port_is_tried_at_other_images_hosts_and_configured_ones() -> None:
    hints = Hints(origins={"r.example": ("a",)}, hosts=("other.example:1", "r.example:5000"))
    assert repositories(hints, configured=("r.example:5001", "r.example", "elsewhere:1")) == (
        Repository("r.example:5000", "a"),
        Repository("r.example:5001", "a"),
        Repository("r.example", "a"),
    )


@pytest.mark.parametrize("name", ["../../x", "a/../b", "A", "a?b", "a b", "", "a:b", "%2e%2e", "a\r\nb"])
def test_a_label_cannot_forge_an_address(name: str) -> None:
    assert repositories(Hints(origins={"r.example": (name,)})) == ()
    assert repositories(Hints(origins={f"r.example/{name}": ("a",)})) == ()


def test_not_every_repository_of_a_common_layer_is_tried() -> None:
    hints = Hints(origins={"r.example": tuple(f"r{number}" for number in range(500))})
    assert len(repositories(hints)) == MAX_PLACES


@pytest.mark.parametrize(
    ("media_type", "kinds"),
    [
        (LAYER, ["blobs"]),
        ("application/vnd.oci.image.config.v1+json", ["blobs"]),
        ("application/vnd.oci.image.index.v1+json", ["manifests", "blobs"]),
        ("application/vnd.docker.distribution.manifest.v2+json", ["manifests", "blobs"]),
        ("", ["blobs", "manifests"]),
    ],
)
def test_where_a_server_keeps_it(media_type: str, kinds: list[str]) -> None:
    assert list(paths("a/b", "sha256:0", media_type)) == [f"/a/b/{kind}/sha256:0" for kind in kinds]


NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("-7", None),
        ("1.5", None),
        ("9" * 40, 999999999.0),
        ("Thu, 01 Jan 2026 12:00:30 GMT", 30.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0),
        ("Thu, 01 Jan 2026 13:00:30 -0000", 3630.0),
        ("tomorrow", None),
        ("²", None),
    ],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    assert retry_after(text, NOW) == seconds


def test_pauses() -> None:
    backoff = Backoff(attempts=4, base=2, cap=5, longest=60)
    broke = Interrupted("broke")
    assert [backoff.pause(tried, broke, chance=0) for tried in (1, 2, 3, 4)] == [1, 2, 2.5, None]
    assert backoff.pause(2, broke, chance=1) == 4
    assert backoff.pause(1, TryLater("busy", after=30), chance=0) == 30
    assert backoff.pause(1, TryLater("busy", after=0), chance=0) == 1
    assert backoff.pause(1, TryLater("busy", after=61), chance=0) is None


@pytest.mark.parametrize(
    ("no", "host", "port", "direct"),
    [
        ("", "r.example", 443, False),
        ("*", "r.example", 443, True),
        ("r.example", "r.example", 443, True),
        ("example", "r.example", 443, True),
        (".example", "r.example", 443, True),
        (".r.example", "r.example", 443, False),
        ("*.example", "R.example", 443, True),
        ("xr.example", "r.example", 443, False),
        ("r.example:443", "r.example", 443, True),
        ("r.example:80", "r.example", 443, False),
        ("a.example, r.example", "r.example", 443, True),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "r.example", 443, False),
        ("fd00::/8", "fd00::1", 443, True),
        ("", "localhost", 443, True),
        ("", "127.0.0.1", 5000, True),
        ("", "::1", 5000, True),
    ],
)
def test_who_is_reached_without_a_proxy(no: str, host: str, port: int, direct: bool) -> None:
    proxies = Proxies.of({"https_proxy": "proxy.example:3128", "HTTP_PROXY": "http://plain.example", "NO_PROXY": no})
    assert proxies.choose("https", host, port) == ("" if direct else "http://proxy.example:3128")
    assert proxies.choose("http", host, port) == ("" if direct else "http://plain.example")


def test_a_proxy_shows_no_password() -> None:
    assert "hunter2" not in repr(Proxies.of({"HTTPS_PROXY": "http://user:hunter2@proxy.example"}))


@dataclass
class Shelf:
    """The reading half of a store, with one namespace; what is planted in `faults` is raised in the middle."""

    blobs: dict[Digest, bytes]
    faults: dict[Digest, AuditorError] = field(default_factory=dict)

    def info(self) -> StoreInfo:
        return StoreInfo(kind=SourceKind.ARCHIVE, address="images.tar")

    def inventory(self, namespace: str, *, snapshotters: object = None) -> Inventory:  # noqa: ARG002 - the protocol has it
        blobs = {
            digest: Blob(namespace=namespace, digest=digest, size=len(data)) for digest, data in self.blobs.items()
        }
        return Inventory(namespace=namespace, blobs=blobs)

    def stream(self, namespace: str, digest: Digest, *, fresh: bool = False) -> AbstractContextManager[Iterator[bytes]]:
        del namespace, fresh
        return self._open(digest)

    @contextmanager
    def _open(self, digest: Digest) -> Iterator[Iterator[bytes]]:
        if digest not in self.blobs:
            raise NoRecord("no such blob")
        yield self._pieces(digest)

    def _pieces(self, digest: Digest) -> Iterator[bytes]:
        data = self.blobs[digest]
        yield data[:3]
        if digest in self.faults:
            raise self.faults[digest]
        yield data[3:]


def shelf(*contents: bytes) -> Shelf:
    return Shelf({Digest.of(content): content for content in contents})


def on(store: Shelf) -> StoreSource:
    return StoreSource(cast("Store", store), "default", name="archive:images.tar")


def ask(source: Source, content: bytes) -> Offer | None:
    return source.offers(Digest.of(content), size=len(content), media_type=LAYER, hints=Hints())


def read(source: Source, content: bytes) -> bytes:
    offer = ask(source, content)
    assert offer is not None
    with source.open(offer) as pieces:
        return b"".join(pieces)


def test_a_store_gives_what_it_has() -> None:
    source = on(shelf(b"content", b"other"))
    assert read(source, b"content") == b"content"
    assert ask(source, b"unknown") is None
    assert source.offers(Digest.of(b"content"), size=8, media_type=LAYER, hints=Hints()) is None
    assert source.describe() == "namespace default of archive images.tar"


def test_a_damaged_copy_is_found_out_and_not_offered_again() -> None:
    store = shelf(b"content")
    store.blobs[Digest.of(b"content")] = b"cOntent"
    source = on(store)
    with pytest.raises(BadBytes):
        read(source, b"content")
    assert ask(source, b"content") is None


@pytest.mark.parametrize(
    ("fault", "kind"), [(NoFile("gone"), NotOffered), (ReadFailed("input/output error"), SourceError)]
)
def test_what_a_store_cannot_read(fault: AuditorError, kind: type[SourceError]) -> None:
    store = shelf(b"content")
    store.faults[Digest.of(b"content")] = fault
    source = on(store)
    with pytest.raises(kind, match=f"archive:images.tar cannot deliver it: {fault.message}"):
        read(source, b"content")
    assert ask(source, b"content") is None


def test_an_error_of_the_consumer_stays_its_own() -> None:
    source = on(shelf(b"content"))
    offer = ask(source, b"content")
    assert offer is not None
    with pytest.raises(Conflict), source.open(offer):
        raise Conflict("the store refused")
    assert ask(source, b"content") is not None


def test_a_blob_that_went_meanwhile() -> None:
    store = shelf(b"content")
    source = on(store)
    offer = ask(source, b"content")
    assert offer is not None
    store.blobs.clear()
    with pytest.raises(NotOffered), source.open(offer):
        pass


Compress = Callable[[bytes], bytes]


def twin_source(tar: bytes, *twins: bytes) -> TwinSource:
    store = cast("Store", shelf(*twins))
    return TwinSource(store, {Digest.of(tar): [Twin("default", Digest.of(twin)) for twin in twins]})


@pytest.mark.parametrize(
    "compress", [gzip.compress, zstd.compress, lambda data: gzip.compress(data[:99]) + gzip.compress(data[99:])]
)
def test_a_layer_from_its_twin(compress: Compress) -> None:
    tar = b"layer" * 1_000_000
    assert read(twin_source(tar, compress(tar)), tar) == tar


def test_a_damaged_twin_gives_way_to_the_next() -> None:
    tar = b"layer" * 1000
    other, cut = gzip.compress(tar[1:]), gzip.compress(tar)[:-5]
    source = twin_source(tar, other, cut, zstd.compress(tar))
    with pytest.raises(BadBytes, match="4999 of the 5000 bytes"):
        read(source, tar)
    with pytest.raises(BadBytes, match="cannot be decompressed: truncated"):
        read(source, tar)
    assert read(source, tar) == tar


def test_a_bomb_is_left_at_the_size() -> None:
    tar = b"layer" * 1000
    source = twin_source(tar, gzip.compress(b"\0" * (64 << 20)))
    with pytest.raises(BadBytes, match="more than the 5000 bytes"):
        read(source, tar)
    assert ask(source, tar) is None


def test_no_twin_no_offer() -> None:
    assert ask(twin_source(b"layer"), b"other") is None


def test_dead_mirrors_are_passed_without_a_pause_and_named_up_to_a_number(tmp_path: Path) -> None:
    slept: list[float] = []
    said: list[str] = []
    mirrors = "".join(f'[host."http://127.0.0.{n}:1"]\n' for n in range(2, 32))
    (tmp_path / "r.example").mkdir()
    (tmp_path / "r.example/hosts.toml").write_text(f'server = "http://127.0.0.99:1"\n{mirrors}')
    source = RegistrySource(
        hosts_dir=tmp_path,
        credentials=DockerConfig(),
        timing=replace(SYSTEM, sleep=slept.append),
        on_note=said.append,
    )
    offer = source.offers(Digest.of(b"x"), size=1, media_type=LAYER, hints=Hints(names=("r.example/a:1",)))
    assert offer is not None
    with pytest.raises(SourceError, match="no registry delivered"), source.open(offer):
        pass
    assert len(slept) == Backoff().attempts - 1  # of the last server
    assert len(said) == 5
    assert said[0] == "127.0.0.2:1 cannot be reached: Connection refused; other servers are asked first from now on"
    assert said[4].endswith("; further ones are not named")


def test_a_broken_hosts_file_is_named_once(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "r.example").mkdir()
    (tmp_path / "r.example/hosts.toml").write_text("server =")
    source = RegistrySource(hosts_dir=tmp_path, credentials=DockerConfig(), on_note=said.append)
    for data in (b"x", b"y"):
        source.offers(Digest.of(data), size=1, media_type=LAYER, hints=Hints(names=("r.example/a:1",)))
    assert len(said) == 1
    assert "hosts.toml is skipped, as containerd does" in said[0]


def test_servers_with_equal_tls_settings_share_them() -> None:
    one, two = (Endpoint(scheme="https", host=host) for host in ("a.example", "b.example"))
    other = Endpoint(scheme="https", host="a.example", skip_verify=True)
    assert _context_of(one, own=True) is _context_of(two, own=False)
    assert _context_of(other, own=True) is not _context_of(one, own=True)
