"""The shared libraries of a bundle, found by the names that its programs are linked with."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tools.dist import recipe
from tools.dist.systems import System

#: Libraries that are loaded by name only: names of hosts and users, and the end of a thread.
BY_NAME = ("libresolv.so.2", "libnss_files.so.2", "libnss_dns.so.2", "libgcc_s.so.1")


def copy(root: Path, system: System) -> list[Path]:
    """Copy every library that the interpreter and the extension modules need to lib/; return the originals.

    Args:
        root: The bundle, with its interpreter and modules.
        system: Where the libraries are.

    Raises:
        CannotBuild: A library is nowhere.

    """
    own = {path.name for path in root.rglob("*.so*")}
    found: dict[str, Path] = {}
    wanted = [*BY_NAME, *needed([root / "lib/python", *sorted(root.rglob("*.so"))])]
    while wanted:
        name = wanted.pop()
        if name not in own and name not in found:
            found[name] = system.shared(name)
            wanted += needed([found[name]])
    for name, path in found.items():
        shutil.copy(path.resolve(), root / "lib" / name)
    return [found[name] for name in sorted(found)]


def needed(files: list[Path]) -> set[str]:
    """Return the names of the libraries that files are linked with, less the dynamic loader."""
    names = set(re.findall(r"\(NEEDED\).*\[(.+)\]", recipe.run("readelf", "--dynamic", "--wide", *files)))
    return {name for name in names if not name.startswith("ld-linux")}
