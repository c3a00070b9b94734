"""The bundle: what was left out of it is nothing that the program reaches."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests import images
from tests.dist.test_packages import DIST
from tests.lab.kit.binaries import NotInstalledError
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import scratch
from tests.lab.kit.registry import Registry
from tools.dist import recipe

STEM: Final = f"{recipe.NAME}-{recipe.version()}"
ARCHITECTURES: Final = ("amd64", "arm64")
QEMU: Final = "qemu-aarch64-static"
#: What the program imports, directly or by what it imports.
PACKAGES: Final = (
    "auditor",
    "backports.zstd",
    "google.protobuf",
    "grpc",
    "isal",
    "jinja2",
    "markdown_it",
    "markupsafe",
    "mdurl",
    "msgspec",
    "prometheus_client",
    "pygments",
    "rich",
    "shellingham",
    "tabulate",
    "typer",
    "typing_extensions",
    "urllib3",
)
#: Modules for other systems, or for packages that are no dependency: they cannot be imported in a full Python either.
ELSEWHERE: Final = {
    "backports.zstd._cffi",
    "google.protobuf.internal.json_format_benchmark",
    "google.protobuf.internal.message_benchmark",
    "prometheus_client.aiohttp",
    "prometheus_client.django",
    "prometheus_client.twisted",
    "pygments.sphinxext",
    "rich._win32_console",
    "rich._windows_renderer",
    "shellingham.nt",
    "typer._click._winconsole",
    "urllib3.contrib.emscripten",
    "urllib3.contrib.pyopenssl",
    "urllib3.contrib.socks",
    "urllib3.http2.connection",
}
#: pygments' own command, which needs the lexers that were left out.
LEFT_OUT: Final = {"pygments.cmdline"}
#: Imports every module below the packages; prints the names of those that fail.
IMPORT: Final = """
import importlib, pkgutil, sys
done = 0
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    done += 1
    for found in pkgutil.walk_packages(getattr(package, "__path__", []), name + ".", onerror=lambda _name: None):
        if found.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(found.name)
            done += 1
        except Exception as error:
            print(found.name)
print("imported", done, file=sys.stderr)
"""


def interpreter(root: Path, arch: str) -> list[str]:
    """Return the words that start the bundle's interpreter in a chroot, as bin/python does; for arm64 through qemu.

    qemu runs one program; that bin/auditor starts another one needs the kernel to know arm64.
    """
    home = f"/{STEM}-{arch}"
    if arch == "amd64":
        return ["chroot", str(root), f"{home}/bin/python"]
    loader = (f"{home}/lib/auditor", "--inhibit-cache", "--library-path", f"{home}/lib")
    words = (*loader, "--argv0", f"{home}/bin/python", f"{home}/lib/python")
    return ["chroot", str(root), f"/{QEMU}", "-0", "auditor", *words]


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """Give a folder with nothing but the unpacked bundles and qemu."""
    with scratch(on_disk=True) as folder:
        for arch in ARCHITECTURES:
            shutil.unpack_archive(DIST / f"{STEM}-linux-{arch}.tar.xz", folder)
            (folder / STEM).rename(folder / f"{STEM}-{arch}")
        found = shutil.which(QEMU)
        if found is None:
            raise NotInstalledError(f"{QEMU} is absent; run tools/lab-install --with {QEMU} as root")
        shutil.copy(found, folder / QEMU)
        yield folder


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_module_of_the_program_and_of_what_it_uses_can_be_imported(arch: str, root: Path) -> None:
    line = [*interpreter(root, arch), "-IS", "-W", "ignore", "-c", IMPORT, *PACKAGES]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == ELSEWHERE | LEFT_OUT
    count = int(done.stderr.split("imported ")[1])
    assert count > 600, "a search that finds few modules shows nothing"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_program_runs(arch: str, root: Path) -> None:
    line = [*interpreter(root, arch), "-IS", "-X", "utf8", "-m", "auditor"]
    told = subprocess.run([*line, "--version"], capture_output=True, text=True, check=True)
    assert told.stdout == f"auditor {recipe.version()}\n"
    done = subprocess.run([*line, "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "hint: " in done.stderr


def test_arm64_audits_a_daemon(root: Path) -> None:
    with scratch() as base, Registry(base / "registry") as registry, Containerd("2.1", base) as daemon:
        daemon.cri_pull(registry.push(images.image([images.layer(images.files("arm"))]), "lab/arm:1"))
        (root / "run").mkdir()
        (root / "dev").mkdir()
        # gRPC takes random numbers from it.
        os.mknod(root / "dev/urandom", stat.S_IFCHR | 0o666, os.makedev(1, 9))
        subprocess.run(["mount", "--bind", daemon.socket.parent, root / "run"], check=True)
        line = [*interpreter(root, "arm64"), "-IS", "-X", "utf8", "-m", "auditor", "check", "--verify", "layers"]
        try:
            done = subprocess.run(
                [*line, "--address", f"/run/{daemon.socket.name}", "--format", "json"],
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            subprocess.run(["umount", root / "run"], check=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["summary"]["images"]["total"] == 1


def test_the_launcher_of_arm64_starts_its_own_loader(root: Path) -> None:
    line = ["chroot", str(root), f"/{QEMU}", "-strace", f"/{STEM}-arm64/bin/auditor", "--version"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    home = f"/{STEM}-arm64"
    assert f'execve("{home}/lib/auditor",{{"auditor","--inhibit-cache","--library-path","{home}/lib"' in done.stderr
