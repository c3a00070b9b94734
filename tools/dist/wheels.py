"""The wheels of the program and of what it imports, in the versions of constraints.txt."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

from tools.dist import recipe
from tools.dist.systems import System


def build(work: Path) -> list[Path]:
    """Return the wheels, for Debian's Python 3.11; the program's is built from the commit, not from changed files."""
    source, folder = work / "source", work / "wheels"
    source.mkdir(parents=True)
    archive = work / "source.tar"
    recipe.run("git", "-C", recipe.ROOT, "archive", "-o", archive, recipe.commit())
    recipe.run("tar", "-xf", archive, "-C", source)
    recipe.run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"),
        *("--constraint", source / "constraints.txt", "--wheel-dir", folder, source),
        env={"SOURCE_DATE_EPOCH": str(recipe.epoch())},
    )
    return sorted(folder.glob("*.whl"))


def of(system: System, built: list[Path], work: Path) -> list[Path]:
    """Return the wheels for a system: those of this machine, or the same versions for another architecture.

    Args:
        system: The system; without `platforms` it is this machine.
        built: This machine's wheels.
        work: The folder that `build` was given.

    """
    if not system.platforms:
        return built
    folder = work / f"wheels-{system.arch}"
    (program,) = (wheel for wheel in built if wheel.name.startswith("containerd_auditor-"))
    recipe.run(
        *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
        *("--only-binary", ":all:", "--python-version", "3.11", "--implementation", "cp"),
        *(word for name in system.platforms for word in ("--platform", name)),
        *("--constraint", work / "source/constraints.txt", "--dest", folder, program),
    )
    return sorted(folder.glob("*.whl"))


def unpack(wheels: list[Path], library: Path) -> None:
    """Unpack wheels into a library folder; scripts and headers stay behind."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as packed:
            members = [name for name in packed.namelist() if ".data/" not in name]
            packed.extractall(library, members)
