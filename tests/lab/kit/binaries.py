"""Where the lab's servers are. `tools/lab-install` puts them there; one that is absent fails the test that needs it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

LAB: Final = Path(__file__).resolve().parents[3] / ".lab"
VERSIONS: Final = ("1.6", "1.7", "2.1")
"""Releases of containerd by their lab name; "2.1" is the newest 2.x that Debian has, never older than that."""


class NotInstalledError(Exception):
    """A program of the lab is absent: never a reason to skip, always to run `tools/lab-install`."""


def binary(version: str, name: str) -> Path:
    """Return a program (`containerd`, `ctr`, …) of one release of containerd."""
    if version not in VERSIONS:
        raise NotInstalledError(f"the lab knows no containerd {version!r}, only {', '.join(VERSIONS)}")
    return program(f"containerd-{version}", f"usr/bin/{name}")


def program(folder: str, path: str) -> Path:
    """Return a program unpacked under `.lab/<folder>`."""
    found = LAB / folder / path
    if not found.is_file():
        raise NotInstalledError(f".lab/{folder}/{path} is absent; run tools/lab-install as root")
    return found
