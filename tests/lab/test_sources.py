"""Fetching from a real registry: plain on localhost, behind a private authority, with passwords and with tokens."""

from __future__ import annotations

import base64
import ctypes
import ctypes.util
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme

from auditor.errors import AccessDenied, NotOffered, SourceError
from auditor.model.blob_source import Hints
from auditor.model.digest import Digest
from auditor.sources.credentials import load_docker_config
from auditor.sources.http import Limits
from auditor.sources.network_errors import Untrusted
from auditor.sources.registry import RegistrySource
from tests import images
from tests.images import BuiltImage
from tests.lab.hostile import Hostile
from tests.lab.kit.registry import Registry
from tests.lab.token_service import IDENTITY, PASSWORD, USER, TokenService

LIMITS = Limits(connect=10, stall=10, total=30)


@pytest.fixture(scope="module")
def image() -> BuiltImage:
    return images.image([images.layer(images.files(name, kilobytes=1500)) for name in ("one", "two")])


def source(hosts_dir: Path | None = None, config: Path | None = None) -> RegistrySource:
    return RegistrySource(hosts_dir=hosts_dir, credentials=load_docker_config(config), limits=LIMITS)


def fetch(found: RegistrySource, digest: str, size: int, media_type: str, hints: Hints) -> bytes:
    offer = found.offers(Digest(digest), size=size, media_type=media_type, hints=hints)
    assert offer is not None
    with found.open(offer) as pieces:
        return b"".join(pieces)


def fetch_all(found: RegistrySource, image: BuiltImage, hints: Hints) -> None:
    """Fetch every blob of an image, and see that it is the one."""
    config = images.Descriptor(images.CONFIG_TYPES["oci"], image.config_digest, len(image.config))
    for each in (image.target, config, *(layer.descriptor for layer in image.layers)):
        assert fetch(found, each.digest, each.size, each.media_type, hints) == image.blobs[each.digest]


def named(registry: Registry) -> Hints:
    return Hints(names=(f"sha256:{'0' * 64}", registry.reference("team/app:v1")))


def hosts(root: Path, registry: Registry, text: str) -> Path:
    folder = root / "certs.d" / registry.host
    folder.mkdir(parents=True)
    folder.joinpath("hosts.toml").write_text(text)
    return root / "certs.d"


def login(path: Path, host: str, user: str = USER, password: str = PASSWORD) -> Path:
    auth = base64.b64encode(f"{user}:{password}".encode()).decode()
    path.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    return path


def test_localhost_is_plain_without_a_word(registry: Registry, image: BuiltImage) -> None:
    registry.push(image, "team/app:v1")
    fetch_all(source(), image, named(registry))


def test_labels_lead_to_the_port_that_a_name_has(registry: Registry, image: BuiltImage) -> None:
    registry.push(image, "labelled/app:v1")
    hints = Hints(names=(registry.reference("gone/app:v1"),), origins={"127.0.0.1": ("labelled/app",)})
    fetch_all(source(), image, hints)


def test_what_a_registry_does_not_have(registry: Registry) -> None:
    hints = Hints(names=(registry.reference("team/app:v1"),))
    with pytest.raises(NotOffered, match="404"):
        fetch(source(), images.sha256(b"never pushed"), 12, "application/octet-stream", hints)


def test_damage_in_the_registry_is_not_passed_on(base: Path, image: BuiltImage) -> None:
    layer = image.layers[0]
    with Registry(base / "registry") as registry:
        registry.push(image, "team/app:v1")
        path = registry.blob_path(layer.digest)
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
        with pytest.raises(SourceError, match="does not match"):
            fetch(source(), layer.digest, layer.size, layer.media_type, named(registry))


@pytest.fixture
def ca(base: Path) -> trustme.CA:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(base / "ca.pem")
    return ca


def server_certificate(ca: trustme.CA, base: Path) -> tuple[Path, Path]:
    leaf = ca.issue_cert("127.0.0.1")
    chain, key = base / "server.pem", base / "server.key"
    chain.write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(key)
    return chain, key


@pytest.fixture
def tls_registry(base: Path, ca: trustme.CA, image: BuiltImage) -> Iterator[Registry]:
    """Start a registry behind a private authority, with an image in it."""
    with Registry(base / "registry") as plain:
        plain.push(image, "team/app:v1")
    with Registry(base / "registry", tls=server_certificate(ca, base)) as registry:
        yield registry


def test_a_private_authority(base: Path, tls_registry: Registry, image: BuiltImage) -> None:
    tree = hosts(base, tls_registry, f'server = "https://{tls_registry.host}"\nca = "../../ca.pem"\n')
    fetch_all(source(tree), image, named(tls_registry))


def test_an_authority_in_the_layout_of_docker(base: Path, tls_registry: Registry, image: BuiltImage) -> None:
    folder = base / "certs.d" / tls_registry.host
    folder.mkdir(parents=True)
    (base / "ca.pem").rename(folder / "ours.crt")
    fetch_all(source(base / "certs.d"), image, named(tls_registry))


def test_skip_verify(base: Path, tls_registry: Registry, image: BuiltImage) -> None:
    tree = hosts(base, tls_registry, f'server = "https://{tls_registry.host}"\nskip_verify = true\n')
    fetch_all(source(tree), image, named(tls_registry))


def test_an_authority_that_nobody_named(base: Path, tls_registry: Registry, image: BuiltImage) -> None:
    tree = hosts(base, tls_registry, f'server = "https://{tls_registry.host}"\n')
    with pytest.raises(Untrusted, match=r"unable to get local issuer|self-signed"):
        fetch_all(source(tree), image, named(tls_registry))


def test_localhost_with_tls_is_found_out(tls_registry: Registry, image: BuiltImage) -> None:
    fetch_all(source(), image, named(tls_registry))


def htpasswd(path: Path) -> Path:
    """Write a password file; the registry takes bcrypt alone, which libcrypt has and Python has not."""
    crypt = ctypes.CDLL(ctypes.util.find_library("crypt")).crypt
    crypt.restype = ctypes.c_char_p
    hashed: bytes = crypt(PASSWORD.encode(), b"$2b$04$abcdefghijklmnopqrstuu")
    path.write_text(f"{USER}:{hashed.decode()}\n")
    return path


@pytest.fixture
def basic_registry(base: Path, image: BuiltImage) -> Iterator[Registry]:
    with Registry(base / "registry", htpasswd=htpasswd(base / "htpasswd"), credentials=(USER, PASSWORD)) as registry:
        registry.push(image, "team/app:v1")
        yield registry


def test_basic_credentials(base: Path, basic_registry: Registry, image: BuiltImage) -> None:
    config = login(base / "config.json", basic_registry.host)
    fetch_all(source(config=config), image, named(basic_registry))


def test_no_credentials_and_wrong_ones(base: Path, basic_registry: Registry, image: BuiltImage) -> None:
    with pytest.raises(AccessDenied) as none:
        fetch_all(source(), image, named(basic_registry))
    assert none.value.hint == f"docker login {basic_registry.host}"
    config = login(base / "config.json", basic_registry.host, password="not-it-at-all")
    with pytest.raises(AccessDenied) as wrong:
        fetch_all(source(config=config), image, named(basic_registry))
    assert "not-it-at-all" not in f"{wrong.value!r} {wrong.value.hint}"


@contextmanager
def token_registry(base: Path, service: TokenService, image: BuiltImage) -> Iterator[Registry]:
    with Registry(base / "registry") as plain:
        plain.push(image, "team/app:v1")
    with service.serving() as token, Registry(base / "registry", token=token) as registry:
        yield registry


def test_anonymous_tokens(base: Path, image: BuiltImage) -> None:
    service = TokenService(base, anonymous=True)
    with token_registry(base, service, image) as registry:
        fetch_all(source(), image, named(registry))
    ((method, query, shown),) = service.asked
    assert (method, shown) == ("GET", "")
    assert query == {"service": ["lab registry"], "scope": ["repository:team/app:pull"]}


def test_tokens_for_a_password(base: Path, image: BuiltImage) -> None:
    service = TokenService(base, anonymous=False)
    with token_registry(base, service, image) as registry:
        with pytest.raises(AccessDenied, match="denies anonymous access"):
            fetch_all(source(), image, named(registry))
        fetch_all(source(config=login(base / "config.json", registry.host)), image, named(registry))


def test_tokens_for_an_identity_token(base: Path, image: BuiltImage) -> None:
    service = TokenService(base, anonymous=False)
    config = base / "config.json"
    with token_registry(base, service, image) as registry:
        config.write_text(json.dumps({"auths": {f"http://{registry.host}/v1/": {"identitytoken": IDENTITY}}}))
        fetch_all(source(config=config), image, named(registry))
    ((method, form, _),) = service.asked
    assert method == "POST"
    assert form["grant_type"] == ["refresh_token"]
    assert form["scope"] == ["repository:team/app:pull"]


def test_mirrors_are_asked_first_and_in_order(base: Path, registry: Registry, image: BuiltImage) -> None:
    registry.push(image, "team/app:v1")
    layer = image.layers[0]
    first, second, push_only = Hostile(b""), Hostile(b""), Hostile(b"")
    with first.serving(), second.serving(), push_only.serving():
        text = f"""
            server = "http://{registry.host}"
            [host."{first.root}"]
            capabilities = ["pull", "resolve"]
            [host."{push_only.root}"]
            capabilities = ["push"]
            [host."{second.root}/mirror/of"]
            capabilities = ["pull"]
            override_path = true
            [host."{second.root}/mirror/of".header]
            x-key = ["one", "two"]
        """
        folder = base / "certs.d" / "registry.example_5000_"
        folder.mkdir(parents=True)
        folder.joinpath("hosts.toml").write_text(text)
        hints = Hints(names=("registry.example:5000/team/app:v1",))
        found = source(base / "certs.d")
        assert fetch(found, layer.digest, layer.size, layer.media_type, hints) == layer.blob
    query = "?ns=registry.example%3A5000"
    assert [request.path for request in first.requests] == [f"/v2/team/app/blobs/{layer.digest}{query}"]
    assert [request.path for request in second.requests] == [f"/mirror/of/team/app/blobs/{layer.digest}{query}"]
    assert second.requests[0].headers["X-Key"] == "one, two"
    assert push_only.requests == []


def test_client_certificates_go_to_their_server_alone(base: Path, ca: trustme.CA) -> None:
    content = images.noise("mutual", 3 << 20)
    clients = trustme.CA()
    leaf = clients.issue_cert("client@example.org")
    leaf.private_key_and_cert_chain_pem.write_to_path(base / "client.pem")
    contexts = [ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) for _ in range(2)]
    for context in contexts:
        ca.issue_cert("127.0.0.1").configure_cert(context)
        clients.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    home, stranger = Hostile(content), Hostile(content)
    with stranger.serving(contexts[1]), home.serving(contexts[0]):
        home.elsewhere = stranger.root
        folder = base / "certs.d" / "_default"
        folder.mkdir(parents=True)
        toml = f'server = "{home.root}"\nca = "{base}/ca.pem"\nclient = "{base}/client.pem"\n'
        folder.joinpath("hosts.toml").write_text(toml)
        found = source(base / "certs.d")
        size, kind = len(content), "application/octet-stream"
        assert fetch(found, home.digest, size, kind, Hints(names=("any.example/good",))) == content
        with pytest.raises(SourceError):
            fetch(found, home.digest, size, kind, Hints(names=("any.example/redirect-elsewhere",)))
    assert stranger.requests == []
