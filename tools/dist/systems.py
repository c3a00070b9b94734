"""The Debian systems that interpreters and shared libraries are taken from: this machine, and one for arm64."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.dist import recipe

#: A package by its name and version.
Package = tuple[str, str]


@dataclass(frozen=True)
class System:
    """A Debian system of one architecture.

    Attributes:
        root: Its root folder.
        arch: Debian's name of the architecture.
        triplet: The name of the folder of its shared libraries.
        loader: The dynamic loader, below the root.
        compiler: The words that compile a static program for it.
        strip: The program that removes symbols from its programs.
        platforms: pip's names of the wheels that run on it; empty for this machine.
        owners: The package of each file below the root; empty for this machine, where dpkg answers.

    """

    root: Path
    arch: str
    triplet: str
    loader: str
    compiler: tuple[str, ...]
    strip: str
    platforms: tuple[str, ...]
    owners: Mapping[str, Package]

    @property
    def python(self) -> Path:
        """The interpreter."""
        return self.root / "usr/bin/python3.11"

    @property
    def library(self) -> Path:
        """Python's standard library."""
        return self.root / "usr/lib/python3.11"

    def shared(self, name: str) -> Path:
        """Return the path of a shared library. Raises CannotBuild if there is none."""
        for folder in ("lib", "usr/lib"):
            if (found := self.root / folder / self.triplet / name).exists():
                return found
        raise recipe.CannotBuild(f"{self.arch}: no package has {name}")

    def packages(self, files: Iterable[Path]) -> list[Package]:
        """Return the packages that own files. Raises CannotBuild for a file that none owns: its licence is unknown."""
        return sorted({self._owner(file) for file in files})

    def _owner(self, file: Path) -> Package:
        for path in (file, file.resolve()):
            inside = "/" + str(path.relative_to(self.root))
            for candidate in (inside, f"/usr{inside}", inside.removeprefix("/usr")):
                if found := self.owners.get(candidate) if self.owners else _installed(candidate):
                    return found
        raise recipe.CannotBuild(f"no Debian package owns {file}; its licence is unknown")


HOST: Final = System(
    root=Path("/"),
    arch="amd64",
    triplet="x86_64-linux-gnu",
    loader="lib64/ld-linux-x86-64.so.2",
    compiler=("musl-gcc",),
    strip="strip",
    platforms=(),
    owners={},
)


def _installed(file: str) -> Package | None:
    """Return the package of this machine that owns a file."""
    try:
        name = recipe.run("dpkg-query", "-S", file).partition(": ")[0].split(",")[0]
    except recipe.CannotBuild:
        return None
    return name.partition(":")[0], recipe.run("dpkg-query", "-W", "-f", "${Version}", name).strip()


def arm64(work: Path) -> System:
    """Download and unpack Python and what it needs for arm64; this machine's packages and apt are not changed.

    Args:
        work: A folder for apt's state and the system.

    """
    root = work / "arm64"
    owners: dict[str, Package] = {}
    for folder in ("bin", "lib", "sbin"):
        (root / "usr" / folder).mkdir(parents=True)
        (root / folder).symlink_to(f"usr/{folder}")
    for archive in _download(work / "apt", "arm64", "python3.11", "libgcc-s1", "libstdc++6"):
        package, version = (recipe.run("dpkg-deb", "-f", archive, field).strip() for field in ("Package", "Version"))
        owners |= dict.fromkeys(_unpack(archive, root), (package, version))
    return System(
        root=root,
        arch="arm64",
        triplet="aarch64-linux-gnu",
        loader="lib/ld-linux-aarch64.so.1",
        compiler=("aarch64-linux-gnu-gcc",),
        strip="aarch64-linux-gnu-strip",
        platforms=("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
        owners=owners,
    )


def _download(state: Path, arch: str, *packages: str) -> list[Path]:
    """Return the archives of packages and of all that they depend on, from the sources of this machine's apt."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True)
    (state / "status").touch()
    settings = {
        "APT::Architecture": arch,
        "APT::Architectures": arch,
        "APT::Sandbox::User": "root",
        "APT::Update::Post-Invoke-Success": "",
        "Acquire::Languages": "none",
        "Dir::State": state,
        "Dir::State::lists": state / "lists",
        "Dir::State::status": state / "status",
        "Dir::Cache": state / "cache",
    }
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    recipe.run("apt-get", *options, "-qq", "update")
    recipe.run("apt-get", *options, "-qq", "-y", "--no-install-recommends", "--download-only", "install", *packages)
    return sorted((state / "cache/archives").glob("*.deb"))


def _unpack(archive: Path, root: Path) -> list[str]:
    """Unpack a package through the links of a merged /usr; return its files."""
    tar = archive.with_suffix(".tar")
    with tar.open("wb") as out:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", archive], stdout=out, check=True)
    recipe.run("tar", "-xf", tar, "--keep-directory-symlink", "--no-same-owner", "-C", root)
    return [name.removeprefix(".") for name in recipe.run("tar", "-tf", tar).splitlines()]
