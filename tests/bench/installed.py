"""The program as users have it: installed without development tools, for the distribution's Python."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.program import ROOT

#: Most nodes have this Python. Distributions build theirs with profile-guided optimisation; a Python that was
#: configured without it, as tools that manage versions do, takes about a sixth longer.
SYSTEM = Path("/usr/bin/python3")
#: What the package is built from.
SOURCE = ("auditor", "pyproject.toml", "README.md", "LICENSE")


def interpreter() -> Path:
    """Return the distribution's Python where it can run the program, else the one that runs this."""
    probe = "import sys, ensurepip; sys.exit(sys.version_info < (3, 11))"
    usable = SYSTEM.exists() and subprocess.run([SYSTEM, "-c", probe], stderr=subprocess.DEVNULL, check=False)
    return SYSTEM if usable and usable.returncode == 0 else Path(sys.executable)


def install(folder: Path) -> Path:
    """Install this checkout's program into a new environment below `folder`.

    Returns:
        The command.

    Raises:
        CalledProcessError: The environment cannot be made.

    """
    source, environment = folder / "source", folder / "environment"
    source.mkdir()
    for name in SOURCE:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    subprocess.run([interpreter(), "-m", "venv", environment], check=True)
    quiet = ("--quiet", "--disable-pip-version-check", "--constraint", ROOT / "constraints.txt")
    subprocess.run([environment / "bin" / "pip", "install", *quiet, source], check=True)
    return environment / "bin" / "auditor"
