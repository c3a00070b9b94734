"""Pulls that fail, archives that are no good, a daemon that is down, a disk that is full: the real words, the cause."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from auditor.diagnose.messages import Confidence
from auditor.diagnose.model import Outcome
from tests import images
from tests.lab import crooked
from tests.lab.checked import auditor_here
from tests.lab.conftest import StartDaemon
from tests.lab.diagnosed import answer, ask, cri_pull, ctr, modern
from tests.lab.kit import faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import ServerError
from tests.lab.kit.registry import Registry

IMAGE = images.image([images.layer(images.files(f"transfer-{number}", kilobytes=16)) for number in range(2)])
TOP = IMAGE.layers[-1].digest.removeprefix("sha256:")
# bcrypt of "x" for a user "u": whoever comes without is sent away.
HTPASSWD = "u:$2y$05$XUPYl6lv8rkT1QgSPf7Pz.bJmBKaVnyjDyqKLZxV1wE0w6RgIYFhm\n"


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Iterator[str]:
    """Serve an image of its own to each test: what broke off is resumed by whoever asks for the same blob."""
    mix = images.files(request.node.name, kilobytes=16)
    with crooked.serving(images.image([images.layer(mix)])) as name:
        yield name


def pulls(daemon: Containerd, name: str) -> Iterator[str]:
    """What ctr says, by the transfer service and without, and what the CRI says where it trusts the host."""
    yield ctr(daemon, "images", "pull", "--plain-http", name)
    yield ctr(daemon, "content", "fetch", "--plain-http", name)
    if modern(daemon):
        yield ctr(daemon, "images", "pull", "--local", "--plain-http", name)


def trust(daemon: Containerd, host: str) -> None:
    """Let the CRI speak plain HTTP to a host."""
    folder = daemon.certs_dir / host
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hosts.toml").write_text(f'server = "http://{host}"\n[host."http://{host}"]\n')


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("empty", "short-download"),
        ("page", "short-download"),
        ("short", "short-download"),
        ("cut", "short-download"),
        ("long", "commit-size"),
        ("flipped", "commit-digest"),
        ("not-found", "blob-gone-from-registry"),
        ("forbidden", "unauthorized"),
        ("too-many", "rate-limited"),
        ("broken", "registry-broken"),
        ("bad-gateway", "registry-broken"),
        ("schema-1", "schema-1"),
        ("wrong-manifest", "commit-digest"),
        ("manifest-forbidden", "unauthorized"),
        ("manifest-too-many", "rate-limited"),
        ("manifest-broken", "registry-broken"),
        ("manifest-not-found", "not-in-registry"),
    ],
)
def test_a_registry_that_misbehaves(shared_daemon: Containerd, host: str, way: str, message: str) -> None:
    trust(shared_daemon, host)
    name = f"{host}/{way}/image:1"
    texts = [text for text in (*pulls(shared_daemon, name), cri_pull(shared_daemon, name)) if text]
    assert len(texts) >= 2
    allowed = {message, "registry-unreachable"} if way == "schema-1" else {message}
    if way in {"empty", "page", "short", "cut"}:  # a second try asks for what is behind the place where it broke
        allowed |= {"range-refused"}
    for text in texts:
        diagnosis, status = ask(shared_daemon, text)
        assert diagnosis.verdict.message in allowed, f"{text}\n{diagnosis.verdict}"
        assert diagnosis.verdict.outcome is Outcome.MESSAGE
        assert status in {0, 3}
    assert any(ask(shared_daemon, text)[0].verdict.message == message for text in texts)


def test_a_registry_that_is_not_there(shared_daemon: Containerd, registry: Registry) -> None:
    for name, message in (
        ("127.0.0.1:1/lab/none:1", "registry-unreachable"),
        ("no-such-host.invalid/lab/none:1", "name-resolution"),
        (registry.reference("lab/none:1"), "not-in-registry"),
    ):
        for text in (*pulls(shared_daemon, name), cri_pull(shared_daemon, name)):
            assert ask(shared_daemon, text)[0].verdict.message == message, text
    trusting = f"{registry.host.replace('127.0.0.1', '127.0.0.2')}/lab/none:1"
    text = ctr(shared_daemon, "content", "fetch", trusting)
    assert ask(shared_daemon, text)[0].verdict.message in {"registry-unreachable", "http-to-https"}, text


def test_https_to_a_registry_that_speaks_http(shared_daemon: Containerd, host: str) -> None:
    folder = shared_daemon.certs_dir / host
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "hosts.toml").write_text(f'server = "https://{host}"\n[host."https://{host}"]\n')
    text = cri_pull(shared_daemon, f"{host}/good/image:1")
    assert ask(shared_daemon, text)[0].verdict.message == "http-to-https", text


def test_a_registry_that_wants_credentials(shared_daemon: Containerd, base: Path) -> None:
    (base / "htpasswd").write_text(HTPASSWD)
    with Registry(base / "private", htpasswd=base / "htpasswd") as private:
        name = private.reference("lab/secret:1")
        for text in (*pulls(shared_daemon, name), cri_pull(shared_daemon, name)):
            assert ask(shared_daemon, text)[0].verdict.message == "unauthorized", text


def test_a_blob_that_the_registry_lost(shared_daemon: Containerd, registry: Registry) -> None:
    lost = images.image([images.layer(images.files("transfer-lost", kilobytes=16))])
    name = registry.push(lost, "lab/transfer-lost:1")
    registry.delete_blob("lab/transfer-lost", lost.layers[0].digest)
    for text in (*pulls(shared_daemon, name), cri_pull(shared_daemon, name)):
        assert ask(shared_daemon, text)[0].verdict.message == "blob-gone-from-registry", text


def test_images_that_were_published_wrong(daemon: Containerd, registry: Registry) -> None:
    layers = IMAGE.layers
    text = b"not a tar at all" * 100
    zstd = images.raw_layer(b"not zstd", images.sha256(b"not zstd"), compression="zstd")
    whole = images.layer(images.files("transfer-cut", kilobytes=16))
    cases = {
        "wrong-diff-id": images.image(layers[:1], diff_ids=[layers[1].diff_id]),
        "layer-count": images.image(layers, diff_ids=[layers[0].diff_id]),
        "layer-not-tar": images.image([images.raw_layer(gzip.compress(text, mtime=0), images.sha256(text))]),
        "layer-undecodable": images.image([images.raw_layer(whole.blob[:-40], whole.diff_id)]),
        "layer-undecodable zstd": images.image([zstd]),
    }
    for case, image in cases.items():
        name = registry.push(image, f"lab/transfer-{case.replace(' ', '-')}:1")
        said = [t for t in (ctr(daemon, "images", "pull", "--plain-http", name), cri_pull(daemon, name)) if t]
        assert said, case
        for words in said:
            verdict = ask(daemon, words)[0].verdict
            assert verdict.message in {case.partition(" ")[0], "rootfs-mismatch"}, f"{case}: {words}\n{verdict}"
            if verdict.code:  # the pull left the image behind, so the store can tell that it was published so
                assert verdict.code in {
                    "diffid-mismatch", "layer-count-mismatch", "layer-undecodable", "incomplete-image"
                }, verdict  # fmt: skip


def test_an_image_for_another_platform(shared_daemon: Containerd, registry: Registry) -> None:
    arm = images.image([images.layer(images.files("transfer-arm", kilobytes=16))], platform="linux/arm64")
    name = registry.push(images.index([arm]), "lab/transfer-arm:1")
    said = [t for t in (*pulls(shared_daemon, name), cri_pull(shared_daemon, name)) if t]
    assert said
    for text in said:
        assert ask(shared_daemon, text)[0].verdict.message == "no-platform", text


# Archives


@pytest.fixture(scope="module")
def archive(session_base: Path) -> Path:
    """Write a sound archive with ctr."""
    path = session_base / "diagnose-sound.tar"
    folder = session_base / "diagnose-archive"
    folder.mkdir(exist_ok=True)
    with Registry(session_base / "diagnose-registry") as registry, Containerd("2.1", folder) as daemon:
        name = registry.push(IMAGE, "lab/archive:1")
        daemon.ctr("content", "fetch", "--plain-http", name)
        daemon.ctr("images", "export", "--local", path, name)
    return path


def rewritten(source: Path, target: Path, change: Callable[[str, bytes], bytes | None]) -> Path:
    """Copy an archive; `change` gives the bytes of each file, or None to leave it out."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old:
            data = old.extractfile(member)
            body = change(member.name, data.read()) if data is not None else b""
            if body is None:
                continue
            member.size = len(body)
            new.addfile(member, io.BytesIO(body))
    return target


def variants(source: Path, base: Path) -> Iterator[tuple[str, Path, set[str]]]:
    size = source.stat().st_size
    config = IMAGE.config_digest.removeprefix("sha256:")
    manifest = IMAGE.digest.removeprefix("sha256:")

    def without(name: str, *words: str) -> Path:
        return rewritten(source, base / f"{name}.tar", lambda n, b: None if any(w in n for w in words) else b)

    def written(name: str, data: bytes) -> Path:
        (base / f"{name}.tar").write_bytes(data)
        return base / f"{name}.tar"

    gone = {"missing-blob", "missing-for-unpack"}
    document = gone | {"image-of-container-gone"}
    yield "layer", without("layer", TOP), gone
    yield "config", without("config", config), document
    yield "manifest", without("manifest", manifest), document
    yield "index", without("index", "index.json", "manifest.json"), {"archive-unknown"}
    yield "half", written("half", source.read_bytes()[: size // 2]), {"archive-blob-cut", "unexpected-end"}
    yield "end", written("end", source.read_bytes()[: size - 3000]), {"unexpected-end", "archive-unknown"}
    yield "empty", written("empty", b""), {"archive-unknown"}
    yield "page", written("page", b"<html>502 Bad Gateway</html>" * 100), {"archive-not-tar"}
    yield (
        "json",
        rewritten(source, base / "json.tar", lambda n, b: b"#" * len(b) if n == "index.json" else b),
        {"json-damaged"},
    )
    yield "flip", rewritten(source, base / "flip.tar", lambda n, b: b[:-1] + b"!" if TOP in n else b), gone


def test_archives_that_are_no_good(daemon: Containerd, archive: Path, base: Path) -> None:
    """Imported with and without unpacking; where the import says nothing, the export after it does."""
    for case, path, messages in variants(archive, base):
        verbs = [("images", "import", "--no-unpack"), ("images", "import")]
        verbs += [("images", "import", "--local")] if modern(daemon) else []
        said = [ctr(daemon, *verb, path, namespace="default") for verb in verbs]
        names = daemon.images(namespace="default")
        said += [ctr(daemon, "images", "export", base / "again.tar", name, namespace="default") for name in names]
        said = [text for text in said if text]
        assert said, case
        for text in said:
            verdict = ask(daemon, text)[0].verdict
            assert verdict.message in messages, f"{case}: {text}\n{verdict}"
        run = auditor_here("diagnose", "--archive", path, "--format", "json", said[0])
        assert run.status == 1, f"{case}: {said[0]}\n{run.out}{run.err}"
        assert answer(run).verdict.outcome is Outcome.FAULT, f"{case}: {said[0]}"
        for name in names:
            daemon.ctr("images", "rm", name, namespace="default")
        daemon.force_gc("default")


def test_a_sound_archive(archive: Path) -> None:
    run = auditor_here("diagnose", "--archive", archive, "--format", "json", IMAGE.layers[0].digest)
    told = answer(run)
    assert (run.status, told.verdict.outcome, told.verdict.sure) == (0, Outcome.SOUND, Confidence.CERTAIN)
    assert told.objects[0].bytes.startswith("right")


# The machine


def test_a_daemon_that_is_down(start_daemon: StartDaemon) -> None:
    for version in VERSIONS:
        daemon = start_daemon(version)
        daemon.stop()
        text = ctr(daemon, "images", "list")
        run = auditor_here("diagnose", "--message-only", "--format", "json", text)
        assert (answer(run).verdict.message, run.status) == ("daemon-down", 0), text
        run = auditor_here("diagnose", "--address", daemon.socket, text)
        assert run.status == 3
        assert "containerd is not running" in run.out


def test_a_database_that_is_damaged(start_daemon: StartDaemon) -> None:
    for version in VERSIONS:
        daemon = start_daemon(version)
        daemon.stop()
        database = daemon.root / "io.containerd.metadata.v1.bolt" / "meta.db"
        data = database.read_bytes()
        database.write_bytes(data[:8192] + bytes(len(data) - 8192))
        daemon.log.write_text("")
        with pytest.raises(ServerError):
            daemon.start()
        log = daemon.log.read_text()
        run = auditor_here("diagnose", "--message-only", "--format", "json", log)
        assert answer(run).verdict.message == "bolt", log[-2000:]


def test_a_disk_that_is_full(daemon: Containerd, registry: Registry) -> None:
    daemon.stop()
    small = daemon.content_root
    small.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "lab", small], check=True)
    try:
        daemon.start()
        large = images.image([images.layer(images.files("transfer-large", kilobytes=1024))])
        name = registry.push(large, "lab/transfer-large:1")
        for text in (*pulls(daemon, name), cri_pull(daemon, name)):
            diagnosis, _ = ask(daemon, text)
            assert (diagnosis.verdict.message, diagnosis.verdict.sure) == ("disk-full", Confidence.CERTAIN), text
    finally:
        daemon.stop()
        subprocess.run(["umount", "--lazy", small], check=True)


def test_an_upload_that_came_out_wrong(shared_daemon: Containerd) -> None:
    wanted = images.sha256(b"what should have come")
    ingest = ("content", "ingest", "--expected-digest", wanted)
    for data, message in ((b"something else", "commit-digest"), (b"", "empty-download")):
        done = shared_daemon.ctr(*ingest, f"lab-{message}", check=False, stdin=data)
        diagnosis, _ = ask(shared_daemon, done.stderr)
        assert diagnosis.verdict.message == message, done.stderr
        assert wanted in " ".join(diagnosis.missing)


def test_a_stale_upload_explains_a_wrong_download(daemon: Containerd, registry: Registry) -> None:
    daemon.cri_pull(registry.push(IMAGE, "lab/transfer:1"))
    digest = images.sha256(b"never finished")
    faults.stale_ingest(daemon, f"layer-{digest}")
    text = f'ctr: failed commit on ref "layer-{digest}": unexpected commit digest {images.sha256(b"x")}, '
    text += f"expected {digest}: failed precondition"
    diagnosis, status = ask(daemon, text)
    assert diagnosis.objects[0].where[0].ingests
    assert diagnosis.verdict.message == "commit-digest"
    assert status == 0
