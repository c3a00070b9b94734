"""Archives between real tools: ours loaded by all of them, theirs verified by us."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from auditor import containerd
from auditor.archive.image_layers import platforms_held
from auditor.archive.open import open_archive
from auditor.archive.store import ArchiveStore
from auditor.audit import audit, collect
from auditor.audit.document_loader import load_documents
from auditor.errors import ExportRefused, OutputError
from auditor.export.model import ExportPlan
from auditor.export.plan import plan
from auditor.export.write import write_archive, write_layout
from auditor.model import image_graph, platforms
from auditor.model.digest import Digest
from auditor.model.findings import Finding, Severity, Verify
from auditor.model.oci import MAX_DOCUMENT, Descriptor
from auditor.model.platforms import Matcher
from auditor.model.store import Store
from tests import images
from tests.forks import forks, kill
from tests.lab.kit import bug
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.dockerd import Dockerd
from tests.lab.kit.process import rooted
from tests.lab.kit.registry import Registry

StartDaemon = Callable[..., Containerd]
TAG = "lab"
ROOT = Path(__file__).resolve().parents[2]
#: What is asked of stores that collect garbage.
NO_ARCHIVES = {"gc-unprotected"}
NODE = platforms.only([platforms.host()])


def built(name: str, *, layers: int = 3) -> images.BuiltIndex:
    """An image of two platforms with attestations, as build tools push them."""
    parts = [[images.layer(images.files(f"{name}-{arch}-{n}")) for n in range(layers)] for arch in ("amd64", "arm64")]
    both = [images.image(parts[0]), images.image(parts[1], platform="linux/arm64")]
    return images.index(both, attestations=True)


def own(index: images.BuiltIndex) -> images.BuiltImage:
    """The child that runs here."""
    child = index.children[0]
    assert isinstance(child, images.BuiltImage)
    return child


@contextmanager
def live(daemon: Containerd) -> Iterator[Store]:
    with closing(containerd.connect(daemon.socket)) as store:
        yield store


def planned(
    store: Store,
    *names: str,
    namespace: str = CRI_NAMESPACE,
    wanted: Matcher = NODE,
    twins: Mapping[Digest, Descriptor] | None = None,
) -> ExportPlan:
    """The plan for some images of a namespace, by name."""
    inventory = store.inventory(namespace)
    groups = image_graph.group(image for image in inventory.images if image.name in names)
    documents: dict[image_graph.Key, image_graph.Loaded] = {}
    load_documents(store, [inventory], groups, known=documents, jobs=2, on_progress=collect.no_progress)
    return plan(
        groups,
        documents=documents,
        raw={key[0]: store.read(namespace, key[0], limit=MAX_DOCUMENT) for key in documents},
        has=inventory.blobs.__contains__,
        wanted=wanted,
        required=NODE,
        twins=twins or {},
    )


def export(daemon: Containerd, target: Path, *names: str, **options: object) -> ExportPlan:
    with live(daemon) as store:
        made = planned(store, *names, **options)  # type: ignore[arg-type]
        write_archive(made, store, target, namespace=str(options.get("namespace", CRI_NAMESPACE)), tag=TAG)
    return made


def run(*command: str | Path, **env: str) -> str:
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=False, env={**os.environ, **env}
    )
    assert not done.returncode, f"{command}: {done.stderr}"
    return done.stdout


def skopeo_config(source: str, base: Path) -> str:
    """Copy an image out of an archive with skopeo, which checks digests, and return its config's digest."""
    into = base / f"skopeo-{len(list(base.iterdir()))}"
    run("skopeo", "--insecure-policy", "copy", source, f"dir:{into}")
    return str(json.loads((into / "manifest.json").read_text())["config"]["digest"])


class Podman:
    """A podman with a store of its own."""

    def __init__(self, base: Path) -> None:
        base.mkdir()
        self._head: list[str | Path] = [
            *rooted(base / "tree"),
            "podman",
            "--root",
            base / "root",
            "--runroot",
            base / "run",
            "--storage-driver",
            "vfs",
        ]
        self._head += ["--cgroup-manager", "cgroupfs", "--events-backend", "none"]
        self._env = {"XDG_RUNTIME_DIR": str(base), "TMPDIR": str(base)}

    def __call__(self, *arguments: str | Path) -> str:
        return run(*self._head, *arguments, **self._env)

    def config_of(self, name: str) -> str:
        return "sha256:" + self("images", "--no-trunc", "--format", "{{.ID}}", name).split(":")[-1].strip()


def wrong(store: ArchiveStore) -> list[Finding]:
    """What an audit of an archive finds over info: its own problems and those of what is inside."""
    found = [problem.finding(archive=store.address, namespace="") for problem in store.problems]
    inventory = store.inventory("")
    if inventory.images:
        request = collect.Request(verify=Verify.LAYERS, of_image=platforms_held(inventory, store.documents))
        found += audit.audit(store, request, clock=lambda: datetime.now(UTC), pause=lambda _: None).findings
    return [finding for finding in found if finding.severity is not Severity.INFO and finding.code not in NO_ARCHIVES]


def test_an_export_loads_into_everything_with_one_image_id(
    daemon: Containerd, start_daemon: StartDaemon, registry: Registry, base: Path
) -> None:
    index = built(f"loads-{daemon.version}")
    name = registry.push(index, f"lab/loads-{daemon.version}:1")
    daemon.cri_pull(name)
    archive = base / "image.tar"
    export(daemon, archive, name)
    assert wrong(open_archive(archive)) == []
    expected = own(index).config_digest

    for version in VERSIONS:
        other = start_daemon(version)
        other.ctr("images", "import", archive, namespace="moved")
        assert other.images(namespace="moved") == (name,)
        assert own(index).chain_ids[-1] in other.snapshots(namespace="moved")
        assert set(own(index).blobs) <= other.blobs(namespace="moved")
        other.stop()

    assert skopeo_config(f"oci-archive:{archive}:1", base) == expected
    assert skopeo_config(f"docker-archive:{archive}", base) == expected
    podman = Podman(base / "podman")
    podman("load", "-i", archive)
    assert podman.config_of(name) == expected


def test_a_layout_folder_is_unpacked_by_umoci(daemon: Containerd, registry: Registry, base: Path) -> None:
    """Of one platform, as umoci chooses none."""
    image = own(built(f"layout-{daemon.version}"))
    name = registry.push(image, f"lab/layout-{daemon.version}:1")
    daemon.cri_pull(name)
    with live(daemon) as store:
        write_layout(planned(store, name), store, base / "layout", namespace=CRI_NAMESPACE, tag=TAG)
    assert wrong(open_archive(base / "layout")) == []
    run("umoci", "unpack", "--image", f"{base / 'layout'}:1", base / "bundle")
    assert skopeo_config(f"oci:{base / 'layout'}:1", base) == image.config_digest
    for number in range(3):
        seed = f"layout-{daemon.version}-amd64-{number}"
        assert (base / "bundle/rootfs/etc" / f"{seed}.conf").read_text() == f"name = {seed}\n"


def test_the_same_images_are_the_same_bytes_on_every_release(
    start_daemon: StartDaemon, registry: Registry, base: Path
) -> None:
    names = [registry.push(built(f"same-{n}"), f"lab/same-{n}:1") for n in range(2)]
    for version in VERSIONS:
        one = start_daemon(version)
        for name in names if version == "1.6" else reversed(names):
            one.cri_pull(name)
        export(one, base / version, *names)
        one.stop()
    assert len({(base / version).read_bytes() for version in VERSIONS}) == 1


def test_archives_of_other_tools_are_sound_and_never_when_cut(
    daemon: Containerd, registry: Registry, base: Path
) -> None:
    index = built(f"theirs-{daemon.version}")
    name = registry.push(index, f"lab/theirs-{daemon.version}:1")
    daemon.cri_pull(name)
    theirs = [base / n for n in ("ctr", "skopeo-oci", "skopeo-docker", "podman-oci", "podman-docker", "buildah")]
    local = ["--local"] if daemon.version == "2.1" else []
    daemon.ctr("images", "export", *local, theirs[0], name)
    run("skopeo", "--insecure-policy", "copy", f"oci-archive:{theirs[0]}", f"oci-archive:{theirs[1]}:1")
    run("skopeo", "--insecure-policy", "copy", f"oci-archive:{theirs[0]}", f"docker-archive:{theirs[2]}:a/b:1")
    podman = Podman(base / "podman")
    podman("load", "-i", theirs[0])
    podman("save", "--format", "oci-archive", "-o", theirs[3], name)
    podman("save", "--format", "docker-archive", "-o", theirs[4], name)
    storage: list[str | Path] = [
        "--root",
        base / "podman/root",
        "--runroot",
        base / "podman/run",
        "--storage-driver",
        "vfs",
    ]
    run("buildah", *storage, "push", name, f"oci-archive:{theirs[5]}:1")
    for path in theirs:
        assert wrong(open_archive(path)) == [], path
        data = path.read_bytes()
        for part in (0.3, 0.6, 0.9):
            (base / "cut").write_bytes(data[: int(len(data) * part) // 512 * 512])
            codes = {finding.code for finding in wrong(open_archive(base / "cut"))}
            assert codes >= {"archive-truncated"}, (path, part)
        middle = len(data) // 3
        (base / "flipped").write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        assert wrong(open_archive(base / "flipped")), path


def test_docker_saves_a_broken_image_with_exit_0_and_we_see_it(
    dockerd: Dockerd, registry: Registry, base: Path
) -> None:
    found = bug.reproduce_docker(dockerd, registry, name="docker-save")
    sound, broken = base / "sound.tar", base / "broken.tar"
    sound.write_bytes(dockerd.save(found.first))
    broken.write_bytes(dockerd.save(found.second))
    assert wrong(open_archive(sound)) == []
    assert "archive-incomplete" in {finding.code for finding in wrong(open_archive(broken))}


def test_an_image_with_the_bug_is_refused_and_salvaged_only_when_asked(
    daemon: Containerd, start_daemon: StartDaemon, registry: Registry, base: Path
) -> None:
    found = bug.reproduce(daemon, registry, name=f"salvage-{daemon.version}")
    target = base / "out.tar"
    with pytest.raises(ExportRefused) as caught:
        export(daemon, target, found.second)
    assert found.second in caught.value.message
    assert found.skipped[0] in caught.value.message
    assert not target.exists()

    layers = {layer.digest: layer for layer in found.pair.first.layers}
    twins = {
        Digest(gone): Descriptor(layers[twin].media_type, Digest(twin), layers[twin].size)
        for gone, twin in found.pair.twins.items()
    }
    made = export(daemon, target, found.second, twins=twins)
    [salvaged] = made.salvaged
    assert salvaged.original == found.pair.second.digest
    assert wrong(open_archive(target)) == []
    assert skopeo_config(f"docker-archive:{target}", base) == found.pair.second.config_digest
    other = start_daemon(daemon.version)
    other.ctr("images", "import", target, namespace="moved")
    assert found.pair.second.chain_ids[-1] in other.snapshots(namespace="moved")


def test_ctrs_own_truncation_is_seen_whenever_tar_sees_it(
    start_daemon: StartDaemon, registry: Registry, base: Path
) -> None:
    daemon = start_daemon("2.1")
    name = registry.push(built("cut", layers=6), "lab/cut:1")
    daemon.cri_pull(name)
    for number in range(40):
        target = base / f"{number}.tar"
        daemon.ctr("images", "export", target, name)
        listed = subprocess.run(["tar", "-tf", str(target)], capture_output=True, check=False)
        store = open_archive(target)
        assert store.complete or store.problems
        assert not (listed.returncode and store.complete)


EXPORT = """
import sys
from pathlib import Path
from auditor.archive.open import open_archive
from auditor.export.write import write_archive
from tests.lab.test_archive_export import planned

def main(tag):
    store = open_archive(sys.argv[1])
    name = store.inventory("").images[0].name
    write_archive(planned(store, name, namespace=""), store, Path(sys.argv[2]), namespace="", tag=tag)
"""


def test_a_kill_at_any_moment_leaves_the_old_file_or_the_whole_new_one(
    daemon: Containerd, registry: Registry, base: Path
) -> None:
    name = registry.push(built(f"killed-{daemon.version}"), f"lab/killed-{daemon.version}:1")
    daemon.cri_pull(name)
    with live(daemon) as store:
        write_layout(planned(store, name), store, base / "layout", namespace=CRI_NAMESPACE, tag=TAG)
    folder = base / "out"
    folder.mkdir()
    target = folder / "image.tar"
    outcomes = set()
    with forks(EXPORT, base / "layout", target) as exports:
        for number in range(12):
            target.write_text("the old one")
            with exports.running(f"{number}") as child:
                time.sleep(number / 200)
                kill(child)
            old = target.read_bytes() == b"the old one"
            assert old or wrong(open_archive(target)) == []
            outcomes.add(old)
    assert True in outcomes
    export(daemon, target, name)
    assert [path.name for path in folder.iterdir()] == ["image.tar"]


def test_a_full_disk_leaves_the_old_file_and_no_litter(daemon: Containerd, registry: Registry, base: Path) -> None:
    name = registry.push(built(f"full-{daemon.version}"), f"lab/full-{daemon.version}:1")
    daemon.cri_pull(name)
    small = base / "small"
    small.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", small)
    try:
        (small / "image.tar").write_text("the old one")
        with pytest.raises(OutputError, match="No space left on device"):
            export(daemon, small / "image.tar", name)
        assert [path.name for path in small.iterdir()] == ["image.tar"]
        assert (small / "image.tar").read_text() == "the old one"
    finally:
        run("umount", small)
