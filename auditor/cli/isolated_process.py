"""Start a file of this package as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def start_isolated(script: str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a process, in a session of its own, so that Ctrl-C does not reach it.

    It runs isolated (`-I`), in `/`: no folder of the caller and no variable of the environment adds code to it. Its
    standard input and output are pipes.

    Args:
        script: The file; it adds the folder of the package to its own paths.
        arguments: Its arguments.

    Raises:
        OSError: It cannot be started.

    """
    return subprocess.Popen(
        [sys.executable, "-I", str(Path(script).resolve()), *arguments],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
