"""`auditor export` as its user runs it, on each release: what goes in, what is refused, what is left behind."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import images
from tests.lab.checked import Run, auditor, auditor_here
from tests.lab.kit import bug, faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.registry import Registry
from tests.program import ROOT, command, environment
from tests.unit import archives

OCI_NAME = "io.containerd.image.name"


def layers(seed: str, count: int = 2) -> list[images.BuiltLayer]:
    return [images.layer(images.files(f"{seed}-{n}", kilobytes=32)) for n in range(count)]


PLAIN = images.image(layers("cli-plain"))
OTHER = images.image([PLAIN.layers[0], *layers("cli-other", 1)])
BOTH = images.index(
    [images.image(layers("cli-amd")), images.image(layers("cli-arm"), platform="linux/arm64")], attestations=True
)


@pytest.fixture(scope="module", params=VERSIONS)
def pulled(request: pytest.FixtureRequest, session_base: Path, registry: Registry) -> Iterator[Containerd]:
    """Three images, sound; tests that damage them put them right again."""
    folder = Path(tempfile.mkdtemp(dir=session_base, prefix=f"export-{request.param}-"))
    with Containerd(request.param, folder) as daemon:
        for name, built in (("plain", PLAIN), ("other", OTHER), ("both", BOTH)):
            daemon.cri_pull(registry.push(built, f"lab/export-{name}:1"))
        yield daemon


@pytest.fixture
def named(registry: Registry) -> Callable[[str], str]:
    return lambda name: registry.reference(f"lab/export-{name}:1")


def export(daemon: Containerd, *arguments: str | Path, apart: bool = False) -> Run:
    run = auditor if apart else auditor_here
    return run("export", "--address", daemon.socket, *arguments)


def summary(ran: Run) -> Any:
    assert ran.status == 0, ran.err
    return json.loads(ran.out)


def verify(*arguments: str | Path) -> Run:
    return auditor_here("verify", *arguments)


def names(path: Path) -> set[str]:
    with tarfile.open(path) as archive:
        return set(archive.getnames())


def index_of(path: Path) -> list[dict[str, Any]]:
    with tarfile.open(path) as archive:
        found = archive.extractfile("index.json")
        assert found is not None
        return list(json.load(found)["manifests"])


def test_the_summary_says_what_is_inside_and_what_was_left_out(
    pulled: Containerd, named: Callable[[str], str], base: Path
) -> None:
    target = base / "a.tar"
    said = summary(export(pulled, named("both"), "-o", target, "-f", "json", apart=True))
    assert said["digest"] == f"sha256:{hashlib.sha256(target.read_bytes()).hexdigest()}"
    assert (said["path"], said["bytes"]) == (str(target), target.stat().st_size)
    [image] = said["images"]
    assert (image["target"], named("both") in image["names"]) == (BOTH.digest, True)
    assert [row["platform"] for row in image["platforms"]] == ["linux/amd64"]
    assert {row["platform"] for row in said["left_out"]} >= {"linux/arm64"}
    assert (said["layers_decompressed"], said["layers_recorded"]) == (0, 2)
    assert summary(export(pulled, named("both"), "-o", target, "-f", "json", "--no-digest"))["digest"] is None
    text = export(pulled, named("both"), "-o", target)
    assert f"left out: {named('both')} linux/arm64 manifest" in text.out
    assert "verified: " in text.out
    assert f"{BOTH.digest}" in text.out
    assert export(pulled, named("both"), "-o", target, "--quiet").out == ""
    assert verify(target).status == 0


def test_several_images_with_the_names_that_were_asked_for(
    pulled: Containerd, named: Callable[[str], str], base: Path
) -> None:
    pulled.ctr("images", "tag", "--force", named("plain"), "docker.io/library/alias:2")
    target = base / "a.tar"
    said = summary(export(pulled, "alias:2", named("other"), "-o", target, "-f", "json"))
    listed = {child["annotations"][OCI_NAME]: child["digest"] for child in index_of(target)}
    assert listed == {"docker.io/library/alias:2": PLAIN.digest, named("other"): OTHER.digest}
    export(pulled, "alias:2", "--all-names", "-o", base / "all.tar")
    assert {child["annotations"][OCI_NAME] for child in index_of(base / "all.tar")} >= {
        named("plain"),
        "docker.io/library/alias:2",
    }
    export(pulled, "alias:2", "--name", "moved:3", "--name", named("plain"), "-o", base / "new.tar")
    assert {child["annotations"][OCI_NAME] for child in index_of(base / "new.tar")} == {
        named("plain"),
        "docker.io/library/moved:3",
    }
    copy = ["skopeo", "--insecure-policy", "copy", f"oci-archive:{base / 'one.tar'}", f"dir:{base / 'copied'}"]
    export(pulled, "alias:2", "-o", base / "one.tar")
    subprocess.run(copy, check=True, capture_output=True)
    assert said["blobs"] == len({*PLAIN.blobs, *OTHER.blobs})
    pulled.ctr("images", "rm", "docker.io/library/alias:2")


def test_platforms(pulled: Containerd, named: Callable[[str], str], base: Path) -> None:
    name = named("both")
    one = summary(export(pulled, name, "--platform", "linux/amd64", "-o", base / "one", "-f", "json"))
    both = ("--platform", "linux/amd64", "--platform", "linux/s390x")
    said = summary(export(pulled, name, *both, "-o", base / "two", "-f", "json"))
    assert "linux/s390x" in {row["platform"] for row in said["left_out"]}
    assert (base / "one").read_bytes() == (base / "two").read_bytes()
    everything = summary(export(pulled, name, "--all-platforms", "-o", base / "all", "-f", "json"))
    assert [row["platform"] for row in everything["images"][0]["platforms"]] == ["linux/amd64"]
    assert "linux/arm64" in {row["platform"] for row in everything["left_out"]}
    for wrong in ("linux/s390x", "linux/arm64"):
        ran = export(pulled, name, "--platform", wrong, "-o", base / "none")
        assert (ran.status, (base / "none").exists()) == (1, False)
        assert name in ran.err
    fetched = export(pulled, name, "--platform", "linux/arm64", "--refetch", "-o", base / "arm", "-f", "json")
    assert [row["platform"] for row in summary(fetched)["images"][0]["platforms"]] == ["linux/arm64"]
    whole = summary(export(pulled, name, "--all-platforms", "-o", base / "all", "-f", "json"))
    assert [row["platform"] for row in whole["images"][0]["platforms"]] == ["linux/amd64", "linux/arm64"]
    for path in ("one", "arm", "all"):
        assert verify(base / path).status == 0
    assert verify("--all-platforms", base / "one").status == 1
    pulled.cri_remove_image(name)
    pulled.force_gc()
    pulled.cri_pull(name)
    assert one["blobs"] == 5


def test_attestations_and_one_platform_as_root(
    pulled: Containerd, named: Callable[[str], str], registry: Registry, base: Path
) -> None:
    name = registry.push(BOTH, "lab/export-attested:1")
    pulled.ctr("content", "fetch", "--all-platforms", "--plain-http", name, namespace="attested")
    whole = export(pulled, name, "-n", "attested", "--all-platforms", "-o", base / "all", "-f", "json")
    [image] = summary(whole)["images"]
    assert [row["attestation"] for row in image["platforms"]].count(True) == 2
    assert image["absent"] == []
    pulled.ctr("images", "import", "--all-platforms", "--no-unpack", base / "all", namespace="attested-again")
    assert set(BOTH.blobs) <= pulled.blobs(namespace="attested-again")
    bare = export(pulled, name, "-n", "attested", "--all-platforms", "--no-attestations", "-o", base / "bare")
    assert "partial: 2 of the 4 entries of the index" in bare.out
    sparse = pulled.ctr("images", "import", "--all-platforms", base / "bare", namespace="sparse", check=False)
    assert sparse.returncode != 0
    flat = export(pulled, name, "-n", "attested", "--flat", "--platform", "linux/amd64", "-o", base / "flat")
    assert "partial" not in flat.out
    assert [child["digest"] for child in index_of(base / "flat")] == [BOTH.children[0].digest]
    pulled.ctr("images", "import", "--all-platforms", base / "flat", namespace="flat")
    assert pulled.images(namespace="flat") == (name,)
    assert {verify(base / path).status for path in ("all", "bare", "flat")} == {0}
    only = export(pulled, named("both"), "--platform", "linux/arm64", "-o", base / "none")
    assert "linux/amd64 is complete here" in only.err


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_compressed(pulled: Containerd, named: Callable[[str], str], base: Path, packing: str) -> None:
    said = summary(export(pulled, named("plain"), "-o", base / "packed", "--compress", packing, "-f", "json"))
    assert said["compression"] == packing
    assert said["digest"] == f"sha256:{hashlib.sha256((base / 'packed').read_bytes()).hexdigest()}"
    export(pulled, named("plain"), "-o", base / "plain")
    tool = {"gzip": "gzip", "zstd": "zstd"}[packing]
    unpacked = subprocess.run([tool, "-dc", str(base / "packed")], capture_output=True, check=True).stdout
    assert unpacked == (base / "plain").read_bytes()
    assert verify(base / "packed").status == 0
    copy = ["skopeo", "--insecure-policy", "copy", f"oci-archive:{base / 'packed'}:1", f"dir:{base / 'copied'}"]
    subprocess.run(copy, check=True, capture_output=True)
    # ctr reads compressed archives from 2.0 on.
    name = f"packed-{packing}"
    imported = pulled.ctr("images", "import", base / "packed", namespace=name, check=False)
    assert (imported.returncode == 0) == (pulled.version == "2.1")
    assert pulled.version != "2.1" or named("plain") in pulled.images(namespace=name)


def test_a_layout_folder(pulled: Containerd, named: Callable[[str], str], base: Path) -> None:
    said = summary(export(pulled, named("plain"), "--layout", base / "layout", "-f", "json"))
    assert said["digest"] is None
    assert verify(base / "layout").status == 0
    subprocess.run(["umoci", "unpack", "--image", f"{base / 'layout'}:1", str(base / "bundle")], check=True)
    again = export(pulled, named("plain"), "--layout", base / "layout")
    assert again.status == 3
    assert "is there already" in again.err


def pipeline(daemon: Containerd, name: str, reader: str) -> tuple[int, str]:
    """Run an export into a pipe that a shell command reads; the export's own status and words."""
    read_end, write_end = os.pipe()
    # Smaller than any archive here: a reader that leaves is noticed, whoever is scheduled first.
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, 4096)
    consumer = subprocess.Popen(["sh", "-c", reader], stdin=read_end)
    os.close(read_end)
    line = command("export", "--address", daemon.socket, name, "-o", "-")
    with consumer:
        done = subprocess.run(
            line, stdout=write_end, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT, env=environment()
        )
        os.close(write_end)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_a_pipe_gets_the_same_bytes(pulled: Containerd, named: Callable[[str], str], base: Path) -> None:
    export(pulled, named("plain"), "-o", base / "file")
    status, said = pipeline(pulled, named("plain"), f"cat > {base / 'piped'}")
    assert (status, "verified: " in said) == (0, True)
    assert (base / "piped").read_bytes() == (base / "file").read_bytes()


def test_a_pipe_that_closes_is_said_loudly(pulled: Containerd, named: Callable[[str], str]) -> None:
    status, said = pipeline(pulled, named("plain"), "head -c 100 > /dev/null")
    assert status == 3
    assert "Broken pipe" in said
    assert "its reader ended early" in said


def test_a_pipe_never_gets_a_loadable_archive_of_a_damaged_image(
    pulled: Containerd, named: Callable[[str], str], base: Path
) -> None:
    with damaged(pulled, PLAIN.layers[1].digest, faults.flip):
        status, said = pipeline(pulled, named("plain"), f"cat > {base / 'piped'}")
    assert status == 1
    assert "layer 2" in said
    assert verify(base / "piped").status == 1


def test_a_terminal_is_refused(pulled: Containerd, named: Callable[[str], str]) -> None:
    line = command("export", "--address", pulled.socket, named("plain"), "-o", "-")
    through = ["script", "-qec", " ".join(line), "/dev/null"]
    done = subprocess.run(through, capture_output=True, text=True, check=False, cwd=ROOT, env=environment())
    assert done.returncode == 2
    assert "not for a terminal" in done.stdout


class damaged:  # noqa: N801 - reads as a statement
    """Damage one blob's file for the length of a block."""

    def __init__(self, daemon: Containerd, digest: str, plant: Callable[[Containerd, str], object]) -> None:
        self._daemon, self._digest, self._plant = daemon, digest, plant
        self._kept = daemon.blob_path(digest).read_bytes()

    def __enter__(self) -> None:
        self._plant(self._daemon, self._digest)

    def __exit__(self, *_: object) -> None:
        path = self._daemon.blob_path(self._digest)
        path.unlink(missing_ok=True)
        path.write_bytes(self._kept)
        path.chmod(0o444)


@pytest.mark.parametrize("plant", [faults.flip, faults.empty_file, faults.shorten, faults.delete_file])
@pytest.mark.parametrize("which", ["layer", "config", "manifest"])
def test_a_damaged_blob_is_no_archive(
    pulled: Containerd, named: Callable[[str], str], base: Path, plant: Callable[..., object], which: str
) -> None:
    digest = {"layer": PLAIN.layers[1].digest, "config": PLAIN.config_digest, "manifest": PLAIN.digest}[which]
    target = base / "out" / "a.tar"
    target.parent.mkdir()
    target.write_text("the old one")
    for root in ("auto", "none"):
        with damaged(pulled, digest, plant):
            ran = export(pulled, named("plain"), "-o", target, "--content-root", root)
        assert ran.status == 1, ran.err
        assert named("plain") in ran.err
        assert digest[:19] in ran.err
        assert "auditor repair" in ran.err
    assert [path.name for path in target.parent.iterdir()] == ["a.tar"]
    assert target.read_text() == "the old one"


def test_the_same_bytes_by_files_and_by_the_api(pulled: Containerd, named: Callable[[str], str], base: Path) -> None:
    for number, root in enumerate(("auto", "none", str(pulled.content_root))):
        ran = export(pulled, named("both"), named("plain"), "-o", base / str(number), "--content-root", root)
        assert ran.status == 0, ran.err
    assert len({(base / str(number)).read_bytes() for number in range(3)}) == 1


def test_the_same_bytes_on_every_release_and_from_every_way_of_pulling(
    start_daemon: Callable[..., Containerd], registry: Registry, base: Path
) -> None:
    """Pulled by CRI or ctr, by name or digest, imported, under other names too; selected by name or digest."""
    built = (("plain", PLAIN), ("both", BOTH))
    wanted = [registry.push(image, f"lab/export-{name}:1") for name, image in built]
    pinned = registry.reference(f"lab/export-both@{BOTH.digest}")
    for version in VERSIONS:
        daemon = start_daemon(version)
        for name in wanted if version == "1.7" else wanted[::-1]:
            daemon.cri_pull(name)
        assert export(daemon, "-n", CRI_NAMESPACE, *wanted, "-o", base / f"two-{version}-cri.tar").status == 0
        daemon.ctr("images", "pull", "--plain-http", pinned, namespace="pinned")
        daemon.ctr("images", "import", base / f"two-{version}-cri.tar", namespace="loaded")
        daemon.ctr("images", "tag", wanted[1], "example.org/alias:1", namespace="loaded")
        for name in wanted:
            daemon.ctr("images", "pull", "--plain-http", name, namespace="pulled")
        for namespace in ("loaded", "pulled"):
            ran = export(daemon, "-n", namespace, *wanted, "-o", base / f"two-{version}-{namespace}.tar")
            assert ran.status == 0, ran.err
        for number, (namespace, chosen) in enumerate(
            [(CRI_NAMESPACE, wanted[1]), (CRI_NAMESPACE, pinned), ("pinned", pinned), ("loaded", BOTH.digest)]
        ):
            target = base / f"one-{version}-{number}.tar"
            ran = export(daemon, "-n", namespace, chosen, "--name", "same:1", "-o", target)
            assert ran.status == 0, ran.err
        daemon.stop()
    for group, count in (("two", 9), ("one", 12)):
        digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in base.glob(f"{group}-*.tar")]
        assert (len(digests), len(set(digests))) == (count, 1)


def test_referrers_go_along_when_asked(pulled: Containerd, registry: Registry, base: Path) -> None:
    blob = images.blob_layer(b"a signature")
    signature = images.artifact([blob], subject=PLAIN.target)
    sbom = images.artifact([images.blob_layer(b"of the signature")], subject=signature.target)
    name = registry.push(PLAIN, "lab/export-referred:1")
    pulled.ctr("content", "fetch", "--plain-http", name, namespace="referred")
    for number, built in enumerate((signature, sbom)):
        pushed = registry.push(built, f"lab/export-referred:referrer-{number}")
        pulled.ctr("content", "fetch", "--plain-http", pushed, namespace="referred")
    without = summary(export(pulled, name, "-n", "referred", "-o", base / "without", "-f", "json"))
    assert [image["target"] for image in without["images"]] == [PLAIN.digest]
    ran = export(pulled, name, "-n", "referred", "--referrers", "-o", base / "all", "-f", "json")
    held = {(image["target"], image["subject"]): image["names"] for image in summary(ran)["images"]}
    assert held == {
        (PLAIN.digest, ""): [name],
        (signature.digest, PLAIN.digest): [],
        (sbom.digest, signature.digest): [],
    }
    assert {child["digest"] for child in index_of(base / "all")} == {PLAIN.digest, signature.digest, sbom.digest}
    assert verify(base / "all").status == 0
    copy = ["skopeo", "--insecure-policy", "copy", f"oci-archive:{base / 'all'}:1", f"dir:{base / 'copied'}"]
    subprocess.run(copy, check=True, capture_output=True)
    pulled.ctr("images", "import", base / "all", namespace="referred-again")
    assert pulled.images(namespace="referred-again") == (name,)
    with damaged(pulled, blob.digest, faults.flip):
        bad = export(pulled, name, "-n", "referred", "--referrers", "-o", base / "bad")
    assert (bad.status, (base / "bad").exists()) == (1, False)


def test_what_is_no_image_is_refused(pulled: Containerd, base: Path) -> None:
    """An image name that leads to the login page of a proxy."""
    page = b"<!doctype html><title>log in</title>"
    target = {"mediaType": "text/html", "digest": images.sha256(page), "size": len(page)}
    notes = {OCI_NAME: "example.org/page:1", "org.opencontainers.image.ref.name": "1"}
    listed = {"schemaVersion": 2, "manifests": [{**target, "annotations": notes}]}
    parts = [
        archives.Member(archives.blob_name(images.sha256(page)), page),
        archives.json_member("index.json", listed),
        archives.json_member("oci-layout", {"imageLayoutVersion": "1.0.0"}),
    ]
    (base / "page.tar").write_bytes(archives.tar(parts))
    local = ["--local"] if pulled.version == "2.1" else []
    pulled.ctr("images", "import", *local, "--no-unpack", base / "page.tar", namespace="page")
    for options in ((), ("--all-platforms",), ("--flat",)):
        ran = export(pulled, "example.org/page:1", "-n", "page", *options, "-o", base / "out.tar")
        assert (ran.status, (base / "out.tar").exists()) == (1, False), ran.out
        assert "not an image" in ran.err


def test_wrong_usage(pulled: Containerd, named: Callable[[str], str], base: Path) -> None:
    name = named("plain")
    assert export(pulled, name).status == 2
    assert export(pulled, name, "-o", base / "a", "--layout", base / "b").status == 2
    assert export(pulled, name, "-o", base).status == 2
    assert export(pulled, name, "-o", base / "absent" / "a").status == 2
    assert export(pulled, name, "--layout", base / "a", "--compress", "gzip").status == 2
    for wrong in (("--name", "a@b"), ("--name", "a:1", "--all-names"), ("--flat", "--all-platforms")):
        assert export(pulled, name, *wrong, "-o", base / "a").status == 2
    assert export(pulled, "no/such:image", "-o", base / "a").status == 3
    assert [path.name for path in base.iterdir()] == []


def test_an_image_in_two_namespaces(pulled: Containerd, named: Callable[[str], str], base: Path) -> None:
    name = named("plain")
    export(pulled, name, "-o", base / "a.tar")
    pulled.ctr("images", "import", base / "a.tar", namespace="second")
    assert summary(export(pulled, name, "-o", base / "b.tar", "-f", "json"))["namespace"] in (CRI_NAMESPACE, "second")
    other = summary(export(pulled, name, "-n", "second", "-o", base / "b.tar", "-f", "json"))
    assert other["namespace"] == "second"
    faults.remove_record(pulled, PLAIN.layers[0].digest, namespace="second")
    whole = summary(export(pulled, name, "-o", base / "c.tar", "-f", "json"))
    assert whole["namespace"] == CRI_NAMESPACE
    assert export(pulled, name, "-n", "second", "-o", base / "d.tar").status == 1
    pulled.ctr("images", "tag", "--force", named("other"), name, namespace=CRI_NAMESPACE, check=False)
    both = export(pulled, name, "-o", base / "e.tar")
    assert both.status == 2
    assert "-n" in both.err
    pulled.ctr("images", "rm", name, namespace="second")
    pulled.cri_pull(name)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_export_of_an_image_with_the_bug(start_daemon: Callable[..., Containerd], base: Path, version: str) -> None:
    """Refused with what would help; salvaged with the registry down, and loaded; fetched with it up."""
    with Registry(base / "own-registry") as registry:
        daemon = start_daemon(version)
        found = bug.reproduce(daemon, registry, name="export")
        target = base / "out.tar"
        ran = export(daemon, found.second, "-o", target, apart=True)
        assert (ran.status, target.exists()) == (1, False)
        for part in (f"{found.second} for linux/amd64", "layer 1", found.skipped[0], "missing-blobs bug"):
            assert part in ran.err
        assert f"`auditor repair --address {daemon.socket} -n {CRI_NAMESPACE} {found.second}`" in ran.err

        registry.stop()
        down = export(daemon, found.second, "-o", target, "--refetch")
        assert (down.status, target.exists()) == (1, False)
        salvaged(daemon, start_daemon, found, base)

        registry.start()
        fetched = summary(export(daemon, found.second, "-o", target, "--refetch", "-f", "json", apart=True))
        assert (fetched["salvaged"], fetched["images"][0]["target"]) == (False, found.pair.second.digest)
        assert verify(target).status == 0
        assert export(daemon, found.second, "-o", base / "again.tar").status == 0
        assert (base / "again.tar").read_bytes() == target.read_bytes()


def salvaged(daemon: Containerd, start_daemon: Callable[..., Containerd], found: bug.Reproduction, base: Path) -> None:
    second = found.pair.second
    path = base / "salvaged.tar"
    ran = export(daemon, found.second, "-o", path, "--salvage")
    assert (ran.status, "SALVAGED" in ran.out) == (0, True)
    said = summary(export(daemon, found.second, "-o", path, "--salvage", "-f", "json"))
    [platform] = said["images"][0]["platforms"]
    assert (said["salvaged"], platform["original"], platform["config"]) == (True, second.digest, second.config_digest)
    assert platform["replaced_layers"] == [0, 1]
    assert verify(path).status == 0
    with tarfile.open(path) as archive:
        document = archive.extractfile(f"blobs/sha256/{platform['manifest'].removeprefix('sha256:')}")
        assert document is not None
        manifest = json.load(document)
    assert manifest["annotations"]["containerd-auditor.salvaged-from"] == second.digest
    other = start_daemon(daemon.version)
    other.ctr("images", "import", path, namespace="moved")
    assert second.chain_ids[-1] in other.snapshots(namespace="moved")
    copied = base / "copied"
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", f"docker-archive:{path}", f"dir:{copied}"],
        check=True,
        capture_output=True,
    )
    assert json.loads((copied / "manifest.json").read_text())["config"]["digest"] == second.config_digest


@pytest.mark.parametrize("version", VERSIONS)
def test_no_salvage_without_a_twin(
    start_daemon: Callable[..., Containerd], registry: Registry, base: Path, version: str
) -> None:
    daemon = start_daemon(version)
    name = registry.push(PLAIN, "lab/export-plain:1")
    daemon.cri_pull(name)
    faults.remove_record(daemon, PLAIN.layers[0].digest)
    daemon.force_gc()
    ran = export(daemon, name, "-o", base / "out.tar", "--salvage")
    assert (ran.status, (base / "out.tar").exists()) == (1, False)
    assert "same diffID" in ran.err


@pytest.mark.parametrize("version", VERSIONS)
def test_a_node_that_discards_layers_fetches_them_when_asked(
    start_daemon: Callable[..., Containerd], registry: Registry, base: Path, version: str
) -> None:
    daemon = start_daemon(version, discard_unpacked_layers=True)
    name = registry.push(PLAIN, "lab/export-plain:1")
    daemon.cri_pull(name)
    daemon.force_gc()
    ran = export(daemon, name, "-o", base / "out.tar")
    assert (ran.status, (base / "out.tar").exists()) == (1, False)
    assert "discards layers" in ran.err
    assert "--include-discarded" in ran.err
    assert export(daemon, name, "-o", base / "out.tar", "--refetch").status == 0
    assert verify(base / "out.tar").status == 0


@pytest.mark.parametrize("version", VERSIONS)
def test_a_damaged_layer_is_fetched_again_when_asked(
    start_daemon: Callable[..., Containerd], registry: Registry, base: Path, version: str
) -> None:
    daemon = start_daemon(version)
    name = registry.push(PLAIN, "lab/export-plain:1")
    daemon.cri_pull(name)
    faults.flip(daemon, PLAIN.layers[0].digest)
    assert export(daemon, name, "-o", base / "out.tar").status == 1
    assert export(daemon, name, "-o", base / "out.tar", "--refetch").status == 0
    assert verify(base / "out.tar").status == 0
