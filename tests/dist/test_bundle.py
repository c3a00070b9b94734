"""The bundle: what was left out of it is nothing that the program reaches."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.dist.test_packages import DIST
from tests.lab.kit.process import scratch
from tools.dist import recipe

STEM: Final = f"{recipe.NAME}-{recipe.version()}"
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


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """Give a folder with nothing but the unpacked bundle."""
    with scratch(on_disk=True) as folder:
        with tarfile.open(DIST / f"{STEM}-linux-amd64.tar.xz") as tar:
            tar.extractall(folder, filter="tar")
        yield folder


def test_every_module_of_the_program_and_of_what_it_uses_can_be_imported(root: Path) -> None:
    line = ["chroot", str(root), f"/{STEM}/bin/python", "-IS", "-W", "ignore", "-c", IMPORT, *PACKAGES]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == ELSEWHERE | LEFT_OUT
    count = int(done.stderr.split("imported ")[1])
    assert count > 600, "a search that finds few modules shows nothing"
