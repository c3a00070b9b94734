"""One archive of each maker, and the loaders that they are given to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import images
from tests.lab.checked import auditor_here
from tests.lab.kit.binaries import VERSIONS, program
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.dockerd import Dockerd
from tests.lab.kit.process import scratch
from tests.lab.kit.registry import Registry
from tests.lab.test_archive_export import Podman

IMAGE = images.image([images.layer({"etc/one": b"1"}), images.layer({"etc/two": b"2"})])
OTHER = images.image([images.layer({"etc/one": b"arm"})], platform="linux/arm64")
INDEX = images.index([IMAGE, OTHER], attestations=True)
#: Archives with an index of which they lack a part.
SPARSE = frozenset({*(f"ctr {version} --platform" for version in VERSIONS), "auditor index"})
#: Archives with only docker's manifest.json.
DOCKER_ONLY = frozenset({"skopeo docker", "podman docker", "crane"})
#: Archives with only an index.json.
OCI_ONLY = frozenset(
    {
        *("skopeo oci", "skopeo 1.18 oci", "podman oci", "buildah oci", "buildx with provenance"),
        *("umoci, GNU tar", "umoci, pax tar", "crane oci, bsdtar", "oras, bsdtar"),
    }
)
#: Archives whose index.json has no tag: podman writes the whole name there, crane none.
UNTAGGED = frozenset({"podman oci", "crane oci, bsdtar"})
MAKERS = (
    *(f"ctr {version}" for version in VERSIONS),
    *(f"ctr {version} --platform" for version in VERSIONS),
    *("docker save", "docker save, classic store", *sorted(DOCKER_ONLY), *sorted(OCI_ONLY)),
    *("auditor", "auditor index", "auditor --flat", "auditor --all-platforms", "auditor --compress gzip"),
)


@dataclass(frozen=True)
class Bench:
    """The loaders, and one archive of each maker."""

    daemons: Mapping[str, Containerd]
    docker: Dockerd
    classic: Dockerd
    podman: Podman
    base: Path
    made: Mapping[str, Path]
    registry: Registry

    def loaders(self, maker: str) -> Iterator[tuple[str, Callable[[], bool]]]:
        """Each loader of an archive, by the name in the documentation."""
        path = self.made[maker]
        for version in VERSIONS:
            yield f"ctr {version}", lambda daemon=self.daemons[version]: self._ctr(daemon, path)  # type: ignore[misc]
        yield "ctr --all-platforms", lambda: self._ctr(self.daemons["2.1"], path, "--all-platforms")
        yield "docker load", lambda: _docker(self.docker, path)
        yield "docker load, classic store", lambda: _docker(self.classic, path)
        yield "podman load", lambda: self._podman(path)
        for name in ("skopeo", "skopeo 1.18"):
            for form in ("oci-archive", "docker-archive"):
                yield f"{name} {form}", lambda name=name, form=form: self._skopeo(name, f"{form}:{path}")  # type: ignore[misc]
        if maker not in UNTAGGED:
            tag = "2" if maker.startswith("umoci") else "1"
            yield "skopeo oci-archive with a tag", lambda: self._skopeo("skopeo", f"oci-archive:{path}:{tag}")
            yield "oras", lambda: self._oras(f"{path}:{tag}")
        yield "crane push", lambda: self._crane(path)

    def _ctr(self, daemon: Containerd, path: Path, *options: str) -> bool:
        namespace = re.sub("-+", "-", f"load-{path.name}{''.join(options)}")
        done = daemon.ctr("images", "import", *options, path, namespace=namespace, check=False)
        return done.returncode == 0 and bool(daemon.images(namespace=namespace))

    def _podman(self, path: Path) -> bool:
        try:
            self.podman("load", "-i", path)
        except AssertionError:
            return False
        return True

    def _skopeo(self, tool: str, source: str) -> bool:
        shutil.rmtree(self.base / "copied", ignore_errors=True)
        return skopeo(source, f"dir:{self.base / 'copied'}", tool=tool)

    def _oras(self, source: str) -> bool:
        shutil.rmtree(self.base / "copied", ignore_errors=True)
        return tried("oras", "cp", "--from-oci-layout", source, "--to-oci-layout", f"{self.base / 'copied'}:1")

    def _crane(self, path: Path) -> bool:
        return tried("crane", "push", path, self.registry.reference("lab/matrix-pushed:1"))


def _docker(engine: Dockerd, path: Path) -> bool:
    status, said = engine.request("POST", "/images/load?quiet=1", body=path.read_bytes())
    return status == 200 and b"errorDetail" not in said


def tried(tool: str, *arguments: str | Path) -> bool:
    """Run a tool of the lab; whether it succeeded."""
    command = [program(tool, f"usr/bin/{tool}"), *arguments]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def skopeo(source: str, target: str, *, tool: str = "skopeo") -> bool:
    """Copy an image with the skopeo of this machine or a newer one; whether it succeeded."""
    path = "skopeo" if tool == "skopeo" else program("skopeo-1.18", "usr/bin/skopeo")
    command = [path, "--insecure-policy", "copy", source, target]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _of_buildx(engine: Dockerd, folder: Path) -> Path:
    """Return what buildx makes with the engine's BuildKit: an index with the image and its provenance."""
    context, path = folder / "context", folder / "built"
    context.mkdir()
    (context / "Dockerfile").write_text('FROM scratch\nCOPY Dockerfile /\nCMD ["/none"]\n')
    tool = program("buildx", "usr/libexec/docker/cli-plugins/docker-buildx")
    output = ("--provenance=mode=max", "--output", f"type=oci,dest={path}")
    command: list[str | Path] = [tool, "build", *output, "--tag", "lab/built:1", context]
    settings = {"DOCKER_HOST": f"unix://{engine.socket}", "DOCKER_CONFIG": str(folder), "HOME": str(folder)}
    subprocess.run(command, check=True, capture_output=True, env=os.environ | settings)
    return path


def _of_ctr(daemons: Mapping[str, Containerd], names: tuple[str, str], folder: Path) -> Iterator[tuple[str, Path]]:
    one, many = names
    for version, daemon in daemons.items():
        local = ["--local"] if version == "2.1" else []
        for maker, options in ((f"ctr {version}", [one]), (f"ctr {version} --platform", [many])):
            path = folder / maker.replace(" ", "-")
            platform = ["--platform", "linux/amd64"] if options == [many] else []
            daemon.ctr("images", "export", *local, *platform, path, *options)
            yield maker, path


def _of_auditor(daemon: Containerd, names: tuple[str, str], folder: Path) -> Iterator[tuple[str, Path]]:
    one, many = names
    daemon.ctr("content", "fetch", "--all-platforms", "--plain-http", many, namespace="all")
    for maker, arguments in {
        "auditor": ("-n", CRI_NAMESPACE, one),
        "auditor index": ("-n", CRI_NAMESPACE, many),
        "auditor --flat": ("-n", CRI_NAMESPACE, many, "--flat"),
        "auditor --compress gzip": ("-n", CRI_NAMESPACE, one, "--compress", "gzip"),
        "auditor --all-platforms": ("-n", "all", many, "--all-platforms"),
    }.items():
        path = folder / maker.replace(" ", "-")
        ran = auditor_here("export", "--address", daemon.socket, *arguments, "-o", path)
        assert ran.status == 0, ran.err
        yield maker, path


def _of_others(podman: Podman, name: str, source: Path, folder: Path) -> Iterator[tuple[str, Path]]:
    """What skopeo, podman, buildah and umoci make of an archive of ctr."""
    ours = [m for m in (*DOCKER_ONLY, *OCI_ONLY) if not m.startswith(("crane", "oras", "buildx"))]
    paths = {maker: folder / maker.replace(" ", "-").replace(",", "") for maker in ours}
    assert skopeo(f"oci-archive:{source}:1", f"oci-archive:{paths['skopeo oci']}:1")
    assert skopeo(f"oci-archive:{source}:1", f"oci-archive:{paths['skopeo 1.18 oci']}:1", tool="skopeo 1.18")
    assert skopeo(f"oci-archive:{source}:1", f"docker-archive:{paths['skopeo docker']}:lab/one:1")
    podman("load", "-i", source)
    for form in ("oci", "docker"):
        podman("save", "--format", f"{form}-archive", "-o", paths[f"podman {form}"], name)
    storage = ("--root", folder / "podman/root", "--runroot", folder / "podman/run", "--storage-driver", "vfs")
    push = ["buildah", *map(str, storage), "push", name, f"oci-archive:{paths['buildah oci']}:1"]
    subprocess.run(push, check=True, capture_output=True)
    layout = folder / "layout"
    assert skopeo(f"oci-archive:{source}:1", f"oci:{layout}:1")
    subprocess.run(["umoci", "tag", "--image", f"{layout}:1", "2"], check=True, capture_output=True)
    subprocess.run(["umoci", "rm", "--image", f"{layout}:1"], check=True, capture_output=True)
    for form, maker in (("gnu", "umoci, GNU tar"), ("pax", "umoci, pax tar")):
        subprocess.run(["tar", "--format", form, "-C", str(layout), "-cf", str(paths[maker]), "."], check=True)
    yield from paths.items()


def _of_registry(name: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield what crane and oras make of an image in the registry."""
    yield "crane", folder / "crane"
    assert tried("crane", "pull", name, folder / "crane")
    assert tried("crane", "pull", "--format", "oci", name, folder / "crane-layout")
    assert tried("oras", "cp", "--from-plain-http", name, "--to-oci-layout", f"{folder / 'oras-layout'}:1")
    for maker, layout in (("crane oci, bsdtar", "crane-layout"), ("oras, bsdtar", "oras-layout")):
        path = folder / f"{layout}.tar"
        subprocess.run(["bsdtar", "-C", str(folder / layout), "-cf", str(path), "."], check=True)
        yield maker, path


@contextmanager
def archive_bench(registry: Registry) -> Iterator[Bench]:
    """Start the loaders and make the archives."""
    names = registry.push(IMAGE, "lab/matrix-one:1"), registry.push(INDEX, "lab/matrix-many:1")
    with scratch() as folder, ExitStack() as running:
        daemons = {}
        for version in VERSIONS:
            (folder / version).mkdir()
            daemons[version] = running.enter_context(Containerd(version, folder / version))
            for name in names:
                daemons[version].cri_pull(name)
        docker = running.enter_context(Dockerd(daemons["1.7"], folder / "dockerd"))
        classic = running.enter_context(Dockerd(daemons["1.7"], folder / "classic", classic=True))
        podman = Podman(folder / "podman")
        made = dict(_of_ctr(daemons, names, folder))
        made |= _of_auditor(daemons["2.1"], names, folder)
        docker.pull(names[0])
        made["docker save"] = folder / "docker-save"
        made["docker save"].write_bytes(docker.save(names[0]))
        made["buildx with provenance"] = _of_buildx(docker, folder)
        classic.pull(names[0])
        made["docker save, classic store"] = folder / "docker-save-classic"
        made["docker save, classic store"].write_bytes(classic.save(names[0]))
        made |= _of_others(podman, names[0], made["ctr 1.7"], folder)
        made |= _of_registry(names[0], folder)
        yield Bench(daemons, docker, classic, podman, folder, made, registry)
