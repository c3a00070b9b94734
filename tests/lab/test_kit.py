"""Verification that the lab shows what it says: the bug is real on each release, and each fault is the fault named."""

from __future__ import annotations

import io
import json
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
import trustme

from tests import images
from tests.lab.conftest import StartDaemon
from tests.lab.kit import bug, faults
from tests.lab.kit.binaries import VERSIONS, NotInstalledError, program
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd, parse_check
from tests.lab.kit.dockerd import Dockerd
from tests.lab.kit.process import ServerError, scratch
from tests.lab.kit.registry import Registry, TokenAuth

SAMPLE = images.image([images.layer(images.files(f"sample-{number}")) for number in range(3)])
ROOT = Path(__file__).resolve().parents[2]
HTPASSWD = "lab:$2y$04$RfEQ73kcCfoq36PWrgPW0.wDj10nTSE8SBPxu5kVG8aTdwlKZPxr2\n"  # the password is "secret"
TOP = SAMPLE.layers[-1].digest


@pytest.fixture
def pulled(daemon: Containerd, registry: Registry) -> Containerd:
    daemon.cri_pull(registry.push(SAMPLE, "lab/sample:1"))
    return daemon


def served(daemon: Containerd, digest: str) -> bytes:
    """Return what the API reads for a blob; ServerError carries its words."""
    return daemon.ctr("content", "get", digest).stdout.encode()


# The bug


@pytest.mark.parametrize("own", [1, 0])
def test_the_second_of_two_cri_pulls_lacks_exactly_the_shared_layers(
    daemon: Containerd, registry: Registry, base: Path, own: int
) -> None:
    name = f"bug{own}"
    found = bug.reproduce(daemon, registry, name=name, built=bug.pair(name=name, own=own))
    wanted = {layer.digest for layer in found.pair.second.layers}
    assert wanted - daemon.blobs() == set(found.skipped)
    assert len(found.skipped) == 2

    said = parse_check(daemon.ctr("images", "check"))
    assert said[found.first].startswith("complete")
    assert said[found.second].startswith("incomplete")

    export = daemon.ctr("images", "export", base / "out.tar", found.second, check=False)
    assert export.returncode != 0
    assert any(f"content digest {digest}: not found" in export.stderr for digest in found.skipped)
    assert daemon.ctr("images", "export", base / "first.tar", found.first).returncode == 0


@pytest.mark.parametrize("second", ["zstd", "none"])
def test_any_other_compression_brings_the_bug_about(
    daemon: Containerd, registry: Registry, second: images.Compression
) -> None:
    name = f"bug-{second}"
    found = bug.reproduce(daemon, registry, name=name, built=bug.pair(name=name, second=second))
    assert daemon.blobs().isdisjoint(found.skipped)
    assert daemon.blobs() >= set(found.pair.twins.values())


def test_ctr_pull_has_the_bug_from_the_transfer_service_on(daemon: Containerd, registry: Registry) -> None:
    found = bug.reproduce_transfer(daemon, registry, name="transfer")
    absent = set(found.skipped) - daemon.blobs(namespace=found.namespace)
    assert absent == (set() if daemon.version.startswith("1.") else set(found.skipped))


def test_an_index_that_names_one_config_twice_gets_the_layers_of_one_manifest(
    daemon: Containerd, registry: Registry
) -> None:
    found = bug.reproduce_shared_config(daemon, registry)
    assert daemon.blobs().isdisjoint(found.skipped)
    assert daemon.blobs() >= {layer.digest for layer in found.pair.first.layers}
    # Before 2.0 the CRI takes one manifest of an index and no more; then only the newer ones show the bug.
    assert (found.pair.second.digest in daemon.blobs()) is not daemon.version.startswith("1.")


def test_docker_loses_the_second_image(dockerd: Dockerd, registry: Registry) -> None:
    found = bug.reproduce_docker(dockerd, registry, name="docker")
    assert dockerd.images() == (found.first,)
    assert dockerd.containerd.blobs(namespace=found.namespace).isdisjoint(found.skipped)
    with tarfile.open(fileobj=io.BytesIO(dockerd.save(found.second))) as archive:
        names = set(archive.getnames())
        listed = json.load(archive.extractfile("manifest.json") or io.BytesIO())
    assert not set(listed[0]["Layers"]) & names


# The daemon


def test_discarding_leaves_neither_layers_nor_labels(
    daemon: Containerd, start_daemon: StartDaemon, registry: Registry
) -> None:
    discarding = start_daemon(daemon.version, discard_unpacked_layers=True)
    discarding.cri_pull(registry.push(SAMPLE, "lab/sample:1"))
    discarding.force_gc()
    assert discarding.blobs() == {SAMPLE.digest, SAMPLE.config_digest}
    assert not set(discarding.labels(SAMPLE.digest).values()) & {layer.digest for layer in SAMPLE.layers}


def test_a_restart_keeps_images_after_a_kill_too(pulled: Containerd) -> None:
    before = pulled.images()
    pulled.kill()
    pulled.restart()
    assert pulled.images() == before
    assert len(pulled.cri_images()) == 1


def test_removing_an_image_and_collecting_leaves_nothing(pulled: Containerd) -> None:
    pulled.cri_remove_image(SAMPLE.config_digest)
    pulled.force_gc()
    assert pulled.blobs() == frozenset()
    assert pulled.snapshots() == {}
    assert pulled.cri_images() == ()


def test_a_daemon_that_cannot_start_says_why(start_daemon: StartDaemon) -> None:
    with pytest.raises(ServerError, match=r"containerd ended with 1:\n.*TOML"):
        start_daemon("1.7", extra_config="[cgroup]\npath = 5")


def test_an_absent_program_names_the_remedy() -> None:
    with pytest.raises(NotInstalledError, match="tools/lab-install"):
        program("containerd-1.7", "usr/bin/nothing")


def test_nothing_stays_behind(registry: Registry) -> None:
    with scratch() as folder:
        (folder / "d").mkdir()
        with Containerd(VERSIONS[-1], folder / "d") as running:
            running.cri_pull(registry.push(SAMPLE, "lab/sample:1"))
            pid = running.pid
        assert str(folder) not in Path("/proc/self/mounts").read_text()
    assert not folder.exists()
    assert not Path("/proc", str(pid)).exists()


def test_a_daemon_dies_with_a_parent_that_is_killed(base: Path) -> None:
    script = (
        "import os, pathlib, sys\n"
        "from tests.lab.kit.daemon import Containerd\n"
        "with Containerd('1.7', pathlib.Path(sys.argv[1])) as daemon:\n"
        "    print(daemon.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    child = subprocess.run([sys.executable, "-c", script, base], capture_output=True, text=True, cwd=ROOT, check=False)
    assert child.returncode == -9
    assert wait_for(lambda: not is_running(int(child.stdout)))


def is_running(pid: int) -> bool:
    try:
        return Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(done: Callable[[], bool], *, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(0.01)
    return done()


# Registries that ask for more


def test_a_registry_speaks_tls_and_asks_for_a_password(daemon: Containerd, base: Path) -> None:
    authority = trustme.CA()
    own = authority.issue_cert("127.0.0.1")
    own.private_key_pem.write_to_path(base / "key.pem")
    own.cert_chain_pems[0].write_to_path(base / "cert.pem")
    authority.cert_pem.write_to_path(base / "ca.pem")
    (base / "htpasswd").write_text(HTPASSWD)
    login = ("lab", "secret")
    tls = (base / "cert.pem", base / "key.pem")
    asking = Registry(base / "tls", tls=tls, ca=base / "ca.pem", htpasswd=base / "htpasswd", credentials=login)
    with asking as registry:
        reference = registry.push(SAMPLE, "lab/tls:1")
        hosts = daemon.certs_dir / registry.host / "hosts.toml"
        hosts.parent.mkdir()
        hosts.write_text(
            f'server = "https://{registry.host}"\n[host."https://{registry.host}"]\nca = "{base}/ca.pem"\n'
        )
        with pytest.raises(grpc.RpcError, match=r"no basic auth credentials|401 Unauthorized"):
            daemon.cri_pull(reference)
        assert daemon.cri_pull(reference, credentials=login) == SAMPLE.config_digest


def test_a_registry_sends_its_clients_to_a_token_service(base: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(base / "ca.pem")
    token = TokenAuth("http://127.0.0.1:9/token", "lab", "lab-issuer", base / "ca.pem")
    with Registry(base / "token", token=token) as registry:
        answer = registry.request("GET", "/v2/")
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="http://127.0.0.1:9/token",service="lab"'


# Images


def test_the_same_image_is_the_same_bytes() -> None:
    again = images.image([images.layer(images.files(f"sample-{number}")) for number in range(3)])
    assert again == SAMPLE


def test_indexes_artifacts_and_attestations_are_pushed_and_pulled(daemon: Containerd, registry: Registry) -> None:
    other = images.image([images.layer(images.files("arm"))], platform="linux/arm64")
    inner = images.index([SAMPLE, other], attestations=True)
    nested = images.index([inner, images.artifact([images.blob_layer(b"notes")])])
    assert len(nested.documents) == 7
    daemon.cri_pull(registry.push(inner, "lab/index:1"))
    assert {inner.digest, SAMPLE.digest, TOP} <= daemon.blobs()
    assert other.layers[0].digest not in daemon.blobs()
    daemon.ctr("content", "fetch", "--plain-http", "--all-platforms", registry.push(nested, "lab/nested:1"))
    assert set(nested.blobs) <= daemon.blobs()


def test_an_index_may_name_one_config_twice() -> None:
    mixes = [images.files(f"twice-{number}") for number in range(2)]
    packed = [images.image([images.layer(mix, compression=kind) for mix in mixes]) for kind in ("gzip", "zstd")]
    both = images.index(packed)
    assert packed[0].config_digest == packed[1].config_digest
    assert len(both.blobs) == 1 + 2 + 1 + 4


def test_a_docker_image_runs_the_same_way(daemon: Containerd, registry: Registry) -> None:
    layers = [images.layer(images.files("docker"), flavour="docker")]
    built = images.image(layers, flavour="docker")
    assert daemon.cri_pull(registry.push(built, "lab/docker:1")) == built.config_digest


def test_a_registry_keeps_what_was_pushed_over_a_restart(daemon: Containerd, base: Path) -> None:
    with Registry(base / "own") as own:
        reference = own.push(SAMPLE, "lab/kept:1")
        own.restart()
        assert own.request("GET", f"/v2/lab/kept/blobs/{TOP}").body == SAMPLE.blobs[TOP]
        own.delete_blob("lab/kept", TOP)
        with pytest.raises(Exception, match="not found"):
            daemon.cri_pull(reference)


# Faults of files


def test_a_deleted_file_leaves_its_record(pulled: Containerd) -> None:
    faults.delete_file(pulled, TOP)
    assert TOP in pulled.blobs()
    with pytest.raises(ServerError, match=r"expected at .*: blob not found"):
        served(pulled, TOP)


def test_an_empty_or_short_file_is_served_with_success(pulled: Containerd) -> None:
    faults.shorten(pulled, SAMPLE.digest, by=10)
    assert served(pulled, SAMPLE.digest) == SAMPLE.manifest[:-10]
    faults.empty_file(pulled, SAMPLE.digest)
    assert served(pulled, SAMPLE.digest) == b""


def test_an_appended_byte_is_never_served(pulled: Containerd) -> None:
    faults.append(pulled, SAMPLE.digest, b"more")
    assert served(pulled, SAMPLE.digest) == SAMPLE.manifest
    assert pulled.blob_path(SAMPLE.digest).read_bytes() == SAMPLE.manifest + b"more"


@pytest.mark.parametrize("offset", [0, 100, -1])
def test_a_flip_changes_one_byte_and_not_the_size(shared_daemon: Containerd, registry: Registry, offset: int) -> None:
    built = images.image([images.layer(images.files(f"flip{offset}"))])
    shared_daemon.cri_pull(registry.push(built, f"lab/flip{offset % 1000}:1"))
    digest = built.layers[0].digest
    faults.flip(shared_daemon, digest, offset=offset)
    found = shared_daemon.blob_path(digest).read_bytes()
    assert sum(a != b for a, b in zip(found, built.blobs[digest], strict=True)) == 1
    assert found[offset] != built.blobs[digest][offset]


def test_a_zeroed_page_keeps_the_size(pulled: Containerd) -> None:
    faults.zero_page(pulled, TOP, page=1)
    found = pulled.blob_path(TOP).read_bytes()
    assert found[4096:8192] == bytes(4096)
    assert len(found) == len(SAMPLE.blobs[TOP])


def test_documents_are_garbled_and_respelled(pulled: Containerd) -> None:
    faults.respell(pulled, SAMPLE.config_digest, b'"amd64"', b'"arm64"')
    assert json.loads(served(pulled, SAMPLE.config_digest))["architecture"] == "arm64"
    faults.garble(pulled, SAMPLE.digest)
    assert served(pulled, SAMPLE.digest) == b"#" * len(SAMPLE.manifest)


def test_two_blobs_are_swapped(pulled: Containerd) -> None:
    low = SAMPLE.layers[0].digest
    faults.swap(pulled, low, TOP)
    assert pulled.blob_path(low).read_bytes() == SAMPLE.blobs[TOP]
    assert pulled.blob_path(TOP).read_bytes() == SAMPLE.blobs[low]


def test_other_kinds_of_file_take_the_blobs_place(pulled: Containerd, base: Path) -> None:
    faults.replace_with_directory(pulled, SAMPLE.layers[0].digest)
    faults.replace_with_symlink(pulled, SAMPLE.layers[1].digest, base)
    faults.replace_with_fifo(pulled, SAMPLE.layers[2].digest)
    kinds = [stat.S_IFMT(pulled.blob_path(layer.digest).lstat().st_mode) for layer in SAMPLE.layers]
    assert kinds == [stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO]


def test_a_file_without_a_record_is_known_to_no_namespace(pulled: Containerd) -> None:
    digest = faults.add_file_without_record(pulled, b"nobody's")
    assert digest not in pulled.blobs()
    assert pulled.blob_path(digest).exists()


# Faults of records


def test_a_removed_record_leaves_the_image(pulled: Containerd) -> None:
    faults.remove_record(pulled, TOP)
    assert TOP not in pulled.blobs()
    with pytest.raises(ServerError, match=f"content digest {TOP}: not found"):
        served(pulled, TOP)
    assert pulled.images()


def test_a_record_without_file_survives_a_collection(pulled: Containerd) -> None:
    digest = faults.add_record_without_file(pulled, b"lost to a power cut")
    pulled.force_gc()
    assert digest in pulled.blobs()
    assert not pulled.blob_path(digest).exists()


def test_a_layer_without_its_label_is_collected(pulled: Containerd) -> None:
    faults.strip_reference(pulled, SAMPLE.digest, TOP)
    assert TOP not in pulled.labels(SAMPLE.digest).values()
    time.sleep(0.5)
    assert TOP in pulled.blobs()
    pulled.force_gc()
    assert TOP not in pulled.blobs()


def test_containerd_collects_by_itself_where_a_test_wants_that(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(VERSIONS[-1], automatic_gc=True)
    digest = faults.add_blob(daemon, b"nobody's", rooted=False)
    time.sleep(0.2)
    faults.remove_record(daemon, faults.add_blob(daemon, b"gone"))
    assert wait_for(lambda: digest not in daemon.blobs())


def test_all_labels_are_stripped_at_once(pulled: Containerd) -> None:
    assert "containerd.io/gc.ref.content.config" in faults.strip_labels(pulled, SAMPLE.digest)
    assert pulled.labels(SAMPLE.digest) == {}


# Ingests and snapshots


def test_a_stale_ingest_is_reported_with_its_age(pulled: Containerd) -> None:
    found = faults.stale_ingest(pulled, "layer-sha256:stuck", data=b"x" * 3000, age=timedelta(days=2))
    (line,) = pulled.ctr("content", "active").stdout.splitlines()[1:]
    assert line.split()[0] == found.ref
    assert "2 days" in line or "48" in line or "2d" in line


def test_an_expired_lease_stays_until_a_collection(pulled: Containerd) -> None:
    faults.add_lease(pulled, "old", expires_in=timedelta(hours=-1))
    faults.add_lease(pulled, "young", expires_in=timedelta(hours=1))
    listed = pulled.ctr("leases", "list").stdout
    assert "old" in listed
    pulled.force_gc()
    listed = pulled.ctr("leases", "list").stdout
    assert "old" not in listed
    assert "young" in listed


def test_a_snapshot_with_children_is_not_removed(pulled: Containerd) -> None:
    with pytest.raises(ServerError, match="with child"):
        faults.remove_snapshot(pulled, SAMPLE.chain_ids[0])


def test_snapshots_are_removed_from_the_top(pulled: Containerd) -> None:
    faults.remove_snapshots_from(pulled, SAMPLE.chain_ids, 1)
    assert set(pulled.snapshots()) == {SAMPLE.chain_ids[0]}


def test_a_chain_loses_its_middle(pulled: Containerd) -> None:
    low, middle, top = SAMPLE.chain_ids
    faults.drop_middle_snapshot(pulled, SAMPLE.chain_ids, 1)
    pulled.force_gc()
    assert pulled.snapshots() == {low: "", top: low}
    assert middle not in pulled.snapshots()


def test_a_snapshot_is_made_to_look_lazy(pulled: Containerd) -> None:
    faults.mark_remote(pulled, SAMPLE.chain_ids[-1])
    info = json.loads(pulled.ctr("snapshots", "info", SAMPLE.chain_ids[-1]).stdout)
    assert info["Labels"][faults.REMOTE_LABEL] == "remote"


@pytest.mark.parametrize("number", [0, 2])
def test_the_folder_of_a_snapshot_is_found(pulled: Containerd, number: int) -> None:
    folder = faults.snapshot_folder(pulled, SAMPLE.chain_ids[number])
    assert (folder / f"etc/sample-{number}.conf").is_file()
    assert set(pulled.snapshots(namespace=CRI_NAMESPACE)) == set(SAMPLE.chain_ids)
