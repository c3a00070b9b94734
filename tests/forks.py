"""Start a script again and again, each time as a fork of a process that has made its imports, to be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.program import ROOT

#: Put behind a script that defines `main`, a function of one word.
_SERVE: Final = """
import os, sys
for word in sys.stdin:
    if (child := os.fork()) == 0:
        print(os.getpid(), flush=True)
        main(word.strip())
        os._exit(0)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


class Forks:
    """The process that forks, from the side of a test."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @contextmanager
    def running(self, word: str = "") -> Iterator[int]:
        """Call `main` in a fork; hand over its process number, and wait for its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(word, file=self._process.stdin, flush=True)
        yield int(self._process.stdout.readline())
        assert self._process.stdout.readline() == "ended\n"


def kill(pid: int) -> None:
    """Kill a fork, which may have ended before."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


@contextmanager
def forks(script: str, *arguments: str | Path) -> Iterator[Forks]:
    """Run a script that defines `main`, with arguments that it reads from `sys.argv`."""
    command = [sys.executable, "-c", script + _SERVE, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        yield Forks(process)
        assert process.stdin is not None
        process.stdin.close()
