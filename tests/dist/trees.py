"""Bare systems of the machine's own Debian release, made once by debootstrap and copied for each use."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.lab.kit.binaries import LAB
from tests.lab.kit.process import rooted, scratch

BARE: Final = ("ca-certificates", "python3", "python3-venv")
"""What a node or a laptop has before anything of ours is installed."""
BOOTED: Final = ("systemd", "systemd-sysv", "dbus", "containerd", "runc")
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: How this machine reaches its package registries.
SETTINGS: Final = ("etc/resolv.conf", "etc/hosts", "etc/pip.conf", "etc/ssl/certs/ca-certificates.crt")


def release() -> str:
    """Return the code name of this machine's Debian."""
    lines = Path("/etc/os-release").read_text().splitlines()
    return next(line.removeprefix("VERSION_CODENAME=") for line in lines if line.startswith("VERSION_CODENAME="))


def archive() -> str:
    """Return the address of the Debian archive in this machine's apt configuration."""
    listing = subprocess.run(
        ["apt-get", "indextargets", "--no-release-info", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)"],
        capture_output=True,
        text=True,
        check=True,
    )
    rows = [line.split(maxsplit=2) for line in listing.stdout.splitlines()]
    return next(uri for suite, component, uri in rows if (suite, component) == (release(), "main"))


def base(name: str, packages: Sequence[str]) -> Path:
    """Return the folder of a system with these packages; made at the first call, later ones reuse it."""
    root = LAB / "trees" / name
    root.parent.mkdir(parents=True, exist_ok=True)
    with (root.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (root / ".complete").exists():
            shutil.rmtree(root, ignore_errors=True)
            include = f"--include={','.join(packages)}"
            line = ["debootstrap", "--variant=minbase", include, release(), str(root), archive()]
            subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
            (root / ".complete").touch()
    return root


@contextmanager
def copy(name: str, packages: Sequence[str]) -> Iterator[Path]:
    """Give a system of its own; it and every mount in it are removed at the end."""
    origin = base(name, packages)
    with scratch(on_disk=True) as folder:
        root = folder / "root"
        subprocess.run(["cp", "-a", "--reflink=auto", origin, root], check=True)
        yield root


def run(root: Path, *words: str, status: int = 0, env: Mapping[str, str] | None = None) -> str:
    """Run a program in a copy of a system, by itself in the process table; return what it printed."""
    through = [
        *rooted(root.parent / "tree"),
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        f"--mount-proc={root}/proc",
        "chroot",
        str(root),
    ]
    done = subprocess.run(
        [*through, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", **(env or {})},
        timeout=600,
    )
    assert done.returncode == status, f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}"
    return done.stdout


def connect(root: Path) -> dict[str, str]:
    """Copy to a system how this machine reaches its registries; return the environment for it."""
    for name in SETTINGS:
        if Path("/", name).exists():
            shutil.copy(Path("/", name), root / name)
    wanted = ("PIP_DEFAULT_TIMEOUT", "PIP_INDEX_URL", "http_proxy", "https_proxy", "HTTPS_PROXY", "NO_PROXY")
    passed = {name: os.environ[name] for name in wanted if name in os.environ}
    bundle = "/etc/ssl/certs/ca-certificates.crt"
    return {**passed, "PIP_CERT": bundle, "SSL_CERT_FILE": bundle, "REQUESTS_CA_BUNDLE": bundle}
