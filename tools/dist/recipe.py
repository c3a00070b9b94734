"""What every artefact shares: names, version, time, and programs that are run."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAME = "containerd-auditor"
#: Where packages and the image put the bundle.
HOME = f"/usr/lib/{NAME}"
ARCH = "x86_64"
#: Programs and files, and the Debian package that each is from.
NEEDED = {
    "musl-gcc": "musl-tools",
    "strip": "binutils",
    "/usr/bin/python3.11": "python3.11",
    "xz": "xz-utils",
    "tar": "tar",
    "readelf": "binutils",
    "aarch64-linux-gnu-gcc": "gcc-aarch64-linux-gnu",
    "/usr/aarch64-linux-gnu/lib/libc.a": "libc6-dev-arm64-cross",
    "/etc/ssl/certs/ca-certificates.crt": "ca-certificates",
}


class CannotBuild(Exception):
    """A sentence for the person who runs `make dist`."""


def version() -> str:
    """Return the version of the checkout."""
    found = re.search(r'__version__ = "([^"]+)"', (ROOT / "auditor/version.py").read_text())
    if found is None:
        raise CannotBuild("auditor/version.py has no __version__")
    return found[1]


def commit() -> str:
    """Return the commit that is built."""
    return run("git", "-C", ROOT, "rev-parse", "HEAD").strip()


def epoch() -> int:
    """Return the time that all files get: SOURCE_DATE_EPOCH, or that of the commit."""
    return int(os.environ.get("SOURCE_DATE_EPOCH") or run("git", "-C", ROOT, "log", "-1", "--format=%ct"))


def check_programs() -> None:
    """Install the programs that the machine lacks. Raises CannotBuild where that is not possible."""
    if platform.machine() != ARCH:
        raise CannotBuild(f"bundles are built on {ARCH} only; this machine is {platform.machine()}")
    if absent := sorted({package for program, package in NEEDED.items() if not _present(program)}):
        if os.geteuid() != 0:
            raise CannotBuild(f"needed: apt-get install {' '.join(absent)}")
        run("apt-get", "-qq", "update")
        run("apt-get", "-qq", "-y", "--no-install-recommends", "install", *absent)


def _present(program: str) -> bool:
    return shutil.which(program) is not None or Path(program).is_file()


def run(*words: str | Path, folder: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a program; return its output.

    Raises:
        CannotBuild: It failed; with the end of what it printed.

    """
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C", "TZ": "UTC", **(env or {})},
    )
    if done.returncode:
        raise CannotBuild(f"{' '.join(map(str, words[:4]))} failed: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout
