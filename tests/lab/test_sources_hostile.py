"""Registries that lie, stall, break off and lead astray: a clear error each, in bounded time, and no secret gone."""

from __future__ import annotations

import base64
import logging
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trustme

from auditor.errors import AccessDenied, BadBytes, NotOffered, SourceError
from auditor.model.blob_source import Hints, Offer
from auditor.model.digest import Digest
from auditor.sources.credentials import load_docker_config
from auditor.sources.http import Limits
from auditor.sources.network_errors import Interrupted, Untrusted
from auditor.sources.proxies import Proxies
from auditor.sources.registry import RegistrySource
from auditor.sources.retry import SYSTEM, Backoff, Timing
from tests.images import noise
from tests.lab.hostile import TOKEN, Hostile, Request

NAME, SECRET, HEADER = "robot", "hunter2-and-a-half", "a-header-nobody-else-may-see"
BASIC = base64.b64encode(f"{NAME}:{SECRET}".encode()).decode()
SECRETS = (SECRET, BASIC, TOKEN, HEADER, "s3cret")
SIZE = 3 << 20
LIMITS = Limits(connect=5, stall=1, total=10)
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass
class Scene:
    """A hostile registry, a stranger that it may send us to, and a source that has credentials for the first."""

    hostile: Hostile
    stranger: Hostile
    hosts_dir: Path
    config: Path
    pauses: list[float] = field(default_factory=list)

    def source(
        self, *, limits: Limits = LIMITS, timing: Timing | None = None, proxies: Proxies | None = None
    ) -> RegistrySource:
        return RegistrySource(
            proxies=proxies,
            hosts_dir=self.hosts_dir,
            credentials=load_docker_config(self.config),
            limits=limits,
            backoff=Backoff(),
            timing=timing or replace(SYSTEM, sleep=self.pauses.append),
        )

    def offer(self, source: RegistrySource, behaviour: str, *, media_type: str = LAYER) -> Offer | None:
        return source.offers(
            Digest(self.hostile.digest),
            size=len(self.hostile.content),
            media_type=media_type,
            hints=Hints(names=(f"{self.hostile.host}/{behaviour}:v1",)),
        )

    def fetch(self, behaviour: str, *, media_type: str = LAYER, limits: Limits = LIMITS) -> bytes:
        source = self.source(limits=limits)
        offer = self.offer(source, behaviour, media_type=media_type)
        assert offer is not None
        with source.open(offer) as pieces:
            return b"".join(pieces)


def write_hosts(root: Path, hostile: Hostile, extra: str = "") -> None:
    folder = root / hostile.host
    folder.mkdir(parents=True, exist_ok=True)
    folder.joinpath("hosts.toml").write_text(f'server = "{hostile.root}"\n{extra}\n[header]\n"x-key" = "{HEADER}"\n')


def write_config(path: Path, *hosts: str) -> Path:
    auths = ",".join(f'"{host}": {{"auth": "{BASIC}"}}' for host in hosts)
    path.write_text(f'{{"auths": {{{auths}}}}}')
    return path


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    content = noise("hostile", SIZE)
    stranger = Hostile(content)
    hostile = Hostile(content)
    with stranger.serving(), hostile.serving():
        hostile.elsewhere = f"http://localhost:{stranger.host.partition(':')[2]}"
        stranger.elsewhere = hostile.root
        write_hosts(tmp_path / "certs.d", hostile)
        config = write_config(tmp_path / "config.json", hostile.host, stranger.host, hostile.elsewhere[7:])
        yield Scene(hostile, stranger, tmp_path / "certs.d", config)


def carries(request: Request, *secrets: str) -> bool:
    whole = f"{request.path} {request.headers} {request.body!r}"
    return any(secret in whole for secret in secrets)


@pytest.mark.parametrize(
    "behaviour",
    [
        "good",
        "busy-then-fine",
        "error-then-fine",
        "cut-then-range",
        "cut-then-range-ignored",
        "redirect-elsewhere",
        "redirect-at-home",
        "token-elsewhere",
    ],
)
def test_what_can_be_had_is_had(scene: Scene, behaviour: str) -> None:
    assert scene.fetch(behaviour) == scene.hostile.content


@pytest.mark.parametrize(
    ("behaviour", "kind", "words"),
    [
        ("flipped", BadBytes, "does not match"),
        ("short", BadBytes, f"has {SIZE - 1} bytes"),
        ("short-chunked", BadBytes, f"ends after {SIZE - 1} of {SIZE}"),
        ("empty", BadBytes, "has 0 bytes"),
        ("long", BadBytes, f"has {SIZE + 1} bytes"),
        ("long-chunked", BadBytes, f"more than the {SIZE} bytes"),
        ("endless", BadBytes, f"more than the {SIZE} bytes"),
        ("endless-trailers", Interrupted, "does not send in time"),
        ("endless-continue", Interrupted, "does not send in time"),
        ("endless-error", NotOffered, "404"),
        ("unauthorized-basic", AccessDenied, "401"),
        ("unauthorized-bearer", AccessDenied, "401"),
        ("unauthorized-mute", AccessDenied, "401"),
        ("forbidden", AccessDenied, "403"),
        ("absent", NotOffered, "404"),
        ("teapot", SourceError, "418"),
        ("busy-for-an-hour", SourceError, "429"),
        ("busy-for-ever", SourceError, "429"),
        ("error-for-ever", SourceError, "500"),
        ("cut-then-another-range", BadBytes, "a different range"),
        ("cut-then-wrong-bytes", BadBytes, "does not match"),
        ("cut-then-no-range", BadBytes, "416"),
        ("cut-for-ever", SourceError, "was interrupted"),
        ("cut-by-the-byte", SourceError, "was interrupted"),
        ("unframed-cut", SourceError, "closed the connection"),
        ("redirect-elsewhere-that-wants-credentials", AccessDenied, "401"),
        ("redirect-file", SourceError, "not a plain http or https"),
        ("redirect-circle", SourceError, "in a circle"),
        ("redirect-circle-of-two", SourceError, "in a circle"),
        ("redirect-for-ever", SourceError, "more than 10 times"),
        ("redirect-nowhere", SourceError, "an invalid address"),
        ("redirect-with-a-name", SourceError, "not a plain http or https"),
        ("token-hangs", SourceError, "does not send in time"),
        ("token-is-endless", SourceError, "with more than 1048576 bytes"),
        ("token-is-none", SourceError, "does not answer with a token"),
        ("token-breaks-lines", SourceError, "does not answer with a token"),
        ("token-in-a-file", SourceError, "not a plain http or https"),
        ("token-redirected", SourceError, "answers 307"),
        ("silent", SourceError, "does not send in time"),
        ("dripping-head", SourceError, "does not send in time"),
        ("dripping-body", SourceError, "does not send in time"),
        ("dripping-chunk-size", SourceError, "does not send in time"),
        ("no-http", SourceError, "was interrupted"),
        ("huge-head", SourceError, "was interrupted"),
        ("garbled-head", SourceError, "closed the connection"),
        ("redirect-elsewhere-to-a-garbled-head", SourceError, "closed the connection"),
    ],
)
def test_each_misbehaviour_ends_in_a_clear_error(
    scene: Scene, behaviour: str, kind: type[SourceError], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    limits = replace(LIMITS, total=3) if behaviour == "endless-trailers" else LIMITS
    with pytest.raises(kind, match=words) as caught:
        scene.fetch(behaviour, limits=limits)
    said = f"{caught.value.message} {caught.value.hint} {caught.value!r} {caplog.text}"
    assert not any(secret in said for secret in SECRETS)
    assert not any(carries(request, SECRET, BASIC, TOKEN, HEADER) for request in scene.stranger.requests)


def test_a_place_that_failed_is_not_offered_again(scene: Scene) -> None:
    source = scene.source()
    offer = scene.offer(source, "flipped")
    assert offer is not None
    with pytest.raises(BadBytes), source.open(offer) as pieces:
        list(pieces)
    assert scene.offer(source, "flipped") is None


def test_wrong_bytes_never_come_whole(scene: Scene) -> None:
    source = scene.source()
    offer = scene.offer(source, "flipped")
    assert offer is not None
    got: list[bytes] = []
    with source.open(offer) as pieces, pytest.raises(BadBytes):
        got.extend(pieces)
    assert sum(map(len, got)) < SIZE


def test_a_broken_transfer_goes_on_where_it_broke(scene: Scene) -> None:
    scene.fetch("cut-then-range")
    ranges = [request.headers.get("Range") for request in scene.hostile.seen("cut-then-range")]
    assert ranges == [None, f"bytes={SIZE // 2}-"]


def test_the_wait_that_is_asked_for_is_kept(scene: Scene) -> None:
    scene.fetch("busy-then-fine")
    assert scene.pauses == [7.0]


def test_nobody_waits_an_hour(scene: Scene) -> None:
    with pytest.raises(SourceError):
        scene.fetch("busy-for-an-hour")
    assert scene.pauses == []
    assert len(scene.hostile.requests) == 1


def test_pauses_grow(scene: Scene) -> None:
    with pytest.raises(SourceError):
        scene.fetch("error-for-ever")
    assert len(scene.pauses) == Backoff().attempts - 1
    assert scene.pauses == sorted(scene.pauses)
    assert all(0.5 * 2**n <= pause <= 2**n for n, pause in enumerate(scene.pauses))


def test_the_total_limit_ends_the_waiting(scene: Scene) -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    source = scene.source(limits=Limits(total=5), timing=replace(SYSTEM, monotonic=lambda: now, sleep=sleep))
    offer = scene.offer(source, "error-for-ever")
    assert offer is not None
    with pytest.raises(SourceError, match="500"), source.open(offer):
        pass
    assert now < 5


@pytest.mark.parametrize("behaviour", ["silent", "dripping-head", "dripping-body", "dripping-chunk-size"])
def test_a_server_that_stalls_is_asked_a_few_times(scene: Scene, behaviour: str) -> None:
    with pytest.raises(Interrupted):
        scene.fetch(behaviour)
    assert len(scene.hostile.requests) == Backoff().attempts


def test_credentials_are_shown_only_to_who_asks(scene: Scene) -> None:
    scene.fetch("good")
    assert not any(carries(request, SECRET, BASIC) for request in scene.hostile.requests)
    assert all(carries(request, HEADER) for request in scene.hostile.requests)


def test_a_token_is_asked_for_once(scene: Scene) -> None:
    source = scene.source()
    for _ in range(2):
        offer = scene.offer(source, "token-elsewhere")
        assert offer is not None
        with source.open(offer) as pieces:
            list(pieces)
    assert [request.path.partition("?")[0] for request in scene.stranger.requests] == ["/token"]
    statuses = ["Authorization" in request.headers for request in scene.hostile.requests]
    assert statuses == [False, True, True]


def test_a_token_service_sees_the_name_and_not_the_headers(scene: Scene) -> None:
    scene.fetch("token-elsewhere")
    (request,) = scene.stranger.seen("/token")
    assert request.headers["Authorization"] == f"Basic {BASIC}"
    assert "scope=repository%3Atoken-elsewhere%3Apull" in request.path
    assert "service=hostile" in request.path
    assert not carries(request, HEADER)


def test_a_redirect_to_another_port_loses_everything(scene: Scene) -> None:
    source = scene.source()
    for behaviour in ("token-elsewhere", "redirect-elsewhere"):
        offer = scene.offer(source, behaviour)
        assert offer is not None
        with source.open(offer) as pieces:
            list(pieces)
    (redirected,) = scene.stranger.seen("/v2/good")
    assert "Authorization" not in redirected.headers
    assert not carries(redirected, HEADER)


def test_what_a_redirect_took_away_does_not_come_back(scene: Scene) -> None:
    assert scene.fetch("redirect-elsewhere-and-back") == scene.hostile.content
    (last,) = scene.hostile.seen("/v2/good")
    assert not carries(last, HEADER, BASIC, TOKEN)


def test_no_challenge_of_a_stranger_is_answered(scene: Scene) -> None:
    with pytest.raises(AccessDenied):
        scene.fetch("redirect-elsewhere-that-wants-credentials")
    assert len(scene.stranger.requests) == 1


def test_documents_are_looked_for_in_both_places(scene: Scene) -> None:
    assert scene.fetch("only-blobs", media_type=MANIFEST) == scene.hostile.content
    kinds = [request.path.split("/")[3] for request in scene.hostile.requests]
    assert kinds == ["manifests", "blobs"]
    assert scene.hostile.requests[0].headers["Accept"] == f"{MANIFEST}, */*"


@pytest.mark.parametrize("media_type", ["text/plain\r\nX-Injected: yes", "ü", "a" * 300])
def test_a_media_type_cannot_forge_headers(scene: Scene, media_type: str) -> None:
    assert scene.fetch("good", media_type=media_type) == scene.hostile.content
    assert scene.hostile.requests[0].headers["Accept"] == "*/*"


def small(scene: Scene, names: list[str], media_type: str = LAYER) -> bytes:
    source = scene.source()
    hints = Hints(names=tuple(f"{scene.hostile.host}/{name}:v1" for name in names))
    digest = Digest(scene.hostile.digest)
    offer = source.offers(digest, size=len(scene.hostile.content), media_type=media_type, hints=hints)
    assert offer is not None
    with source.open(offer) as pieces:
        return b"".join(pieces)


def test_the_next_place_is_tried_when_one_has_nothing(scene: Scene) -> None:
    assert small(scene, ["absent", "forbidden", "error-for-ever", "redirect-file", "good"]) == scene.hostile.content


def test_the_next_place_is_tried_when_one_lies_about_a_small_blob(scene: Scene) -> None:
    scene.hostile.content = b"small" * 1000
    assert small(scene, ["flipped", "short", "long-chunked", "good"]) == scene.hostile.content


def test_all_failures_are_told(scene: Scene) -> None:
    with pytest.raises(AccessDenied) as caught:
        small(scene, ["absent", "forbidden"])
    assert "404" in caught.value.message
    assert "403" in caught.value.message
    assert caught.value.hint == f"docker login {scene.hostile.host}"


def test_an_empty_blob(scene: Scene) -> None:
    scene.hostile.content = b""
    assert scene.fetch("good") == b""
    with pytest.raises(BadBytes):
        scene.fetch("long")


def test_a_registry_that_is_down(scene: Scene) -> None:
    source = scene.source()
    hints = Hints(names=("127.0.0.1:1/team/app:v1",))
    offer = source.offers(Digest(scene.hostile.digest), size=1, media_type=LAYER, hints=hints)
    assert offer is not None
    with pytest.raises(Interrupted, match=r"127\.0\.0\.1:1 cannot be reached: Connection refused"), source.open(offer):
        pass


Certify = Callable[[trustme.CA], trustme.LeafCert]


@pytest.mark.parametrize(
    ("certify", "words"),
    [
        (lambda _: trustme.CA().issue_cert("127.0.0.1"), "self-signed certificate|unable to get local issuer"),
        (lambda ca: ca.issue_cert("other.example"), "IP address mismatch"),
    ],
    ids=["unknown authority", "another name"],
)
def test_a_certificate_that_is_wrong(tmp_path: Path, certify: Certify, words: str) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certify(ca).configure_cert(context)
    hostile = Hostile(b"content")
    with hostile.serving(context):
        write_hosts(tmp_path / "certs.d", hostile, f'ca = "{tmp_path}/ca.pem"')
        scene = Scene(hostile, hostile, tmp_path / "certs.d", write_config(tmp_path / "config.json", hostile.host))
        with pytest.raises(Untrusted, match=words) as caught:
            scene.fetch("good")
    assert caught.value.hint == "name its authority as `ca` in hosts.toml"
    assert hostile.requests == []
    assert scene.pauses == []


def test_credentials_never_go_from_tls_to_plain(tmp_path: Path) -> None:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    content = noise("tls", SIZE)
    hostile, plain = Hostile(content), Hostile(content)
    with plain.serving(), hostile.serving(context):
        hostile.elsewhere = plain.root
        write_hosts(tmp_path / "certs.d", hostile, f'ca = "{tmp_path}/ca.pem"')
        scene = Scene(hostile, plain, tmp_path / "certs.d", write_config(tmp_path / "config.json", hostile.host))
        with pytest.raises(AccessDenied, match="without TLS"):
            scene.fetch("token-elsewhere")
        assert plain.requests == []
        assert scene.fetch("redirect-elsewhere") == content
        assert not any(carries(request, SECRET, BASIC, TOKEN, HEADER) for request in plain.requests)


def through(proxy: Hostile) -> Proxies:
    address = f"http://user:{SECRET}@{proxy.host}"
    return Proxies.of({"HTTP_PROXY": address, "HTTPS_PROXY": address})


def test_a_plain_registry_through_a_proxy(scene: Scene) -> None:
    folder = scene.hosts_dir / "registry.example"
    folder.mkdir()
    folder.joinpath("hosts.toml").write_text('server = "http://registry.example"')
    source = scene.source(proxies=through(scene.hostile))
    hints = Hints(names=("registry.example/good:v1",))
    offer = source.offers(Digest(scene.hostile.digest), size=SIZE, media_type=LAYER, hints=hints)
    assert offer is not None
    with source.open(offer) as pieces:
        assert b"".join(pieces) == scene.hostile.content
    (request,) = scene.hostile.requests
    assert request.path == f"http://registry.example/v2/good/blobs/{scene.hostile.digest}"
    assert request.headers["Proxy-Authorization"].startswith("Basic ")


def test_a_registry_of_tls_through_a_proxy(tmp_path: Path, scene: Scene) -> None:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("registry.example").configure_cert(context)
    registry = Hostile(scene.hostile.content)
    folder = scene.hosts_dir / "_default"
    folder.mkdir()
    folder.joinpath("hosts.toml").write_text(f'ca = "{tmp_path}/ca.pem"')
    with registry.serving(context):
        scene.hostile.elsewhere = registry.root
        source = scene.source(proxies=through(scene.hostile))
        hints = Hints(names=("registry.example/good:v1",))
        offer = source.offers(Digest(scene.hostile.digest), size=SIZE, media_type=LAYER, hints=hints)
        assert offer is not None
        with source.open(offer) as pieces:
            assert b"".join(pieces) == scene.hostile.content
        (request,) = registry.requests
        del source, pieces
    (asked,) = scene.hostile.requests
    assert (asked.method, asked.path) == ("CONNECT", "registry.example:443")
    assert "Proxy-Authorization" in asked.headers
    assert "Proxy-Authorization" not in request.headers
