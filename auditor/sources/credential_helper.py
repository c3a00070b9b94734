"""Run a credential helper of docker, with limits on its time and output."""

from __future__ import annotations

import os
import select
import subprocess
import time
from typing import IO, Final

from auditor.errors import SourceError

#: Seconds after which a helper is killed.
_SECONDS: Final = 30.0
#: Maximum length of its output in bytes; identity tokens have a few thousand.
MAX_OUTPUT: Final = 1 << 20
_PIECE: Final = 1 << 16


class HelperFailed(SourceError):
    """A helper did not answer within its limits; the message says which limit."""


def run_helper(name: str, server: str, *, seconds: float = _SECONDS) -> tuple[int, bytes]:
    """Run a credential helper as docker does; its standard error is discarded.

    Args:
        name: Suffix of the program `docker-credential-`.
        server: The registry, sent to its standard input.
        seconds: Limit on its time.

    Returns:
        Exit status and standard output.

    Raises:
        OSError: It is not installed.
        HelperFailed: It runs too long, or prints more than 1 MiB.

    """
    with subprocess.Popen(
        [f"docker-credential-{name}", "get"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            output = _exchange(process, server.encode(), time.monotonic() + seconds)
            return process.wait(max(0.0, seconds)), output
        except subprocess.TimeoutExpired:
            raise HelperFailed(f"it did not end within {seconds:.0f} s") from None
        finally:
            process.kill()


def _exchange(process: subprocess.Popen[bytes], question: bytes, end: float) -> bytes:
    """Send the question and read the answer to its end."""
    if process.stdin is None or process.stdout is None:
        raise HelperFailed("it has no pipes")
    try:
        process.stdin.write(question)  # shorter than a pipe's buffer
        process.stdin.close()
    except BrokenPipeError:
        pass  # it answers without reading
    return _read(process.stdout, end)


def _read(pipe: IO[bytes], end: float) -> bytes:
    output = bytearray()
    while True:
        ready, _, _ = select.select([pipe], [], [], max(0.0, end - time.monotonic()))
        if not ready:
            raise HelperFailed("it did not answer in time")
        piece = os.read(pipe.fileno(), _PIECE)
        if not piece:
            return bytes(output)
        output += piece
        if len(output) > MAX_OUTPUT:
            raise HelperFailed(f"it printed more than {MAX_OUTPUT >> 10} KiB")
