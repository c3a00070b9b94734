"""Compare unpacked layers in several processes: the interpreter lock lets threads of one use a core only.

A process is started as the watchdog of a repair is. It gets tasks as lines of JSON on its standard input, and writes
lines on its standard output: the number of bytes that it read meanwhile, then the result, or an empty object where the
comparison failed. The caller works on tasks, too: it needs no start. What fails is compared again by the caller, which
then meets the error itself.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

#: The folder of the package, the only one that is added to the paths of the interpreter's isolated mode.
_PACKAGES = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(_PACKAGES))

import msgspec  # noqa: E402 - needs the path above

from auditor.cli.isolated_process import start_isolated  # noqa: E402
from auditor.concurrency import workers  # noqa: E402
from auditor.containerd.content_root import Absent, ContentRoot  # noqa: E402
from auditor.errors import AuditorError  # noqa: E402
from auditor.model.digest import Digest  # noqa: E402
from auditor.snapshots.layer_files import LayerFiles, LayerTask, compare_layer  # noqa: E402

#: Processes at most: each takes up to some 150 MiB for a layer of 200,000 files.
MOST = 4
#: Bytes of blobs below which starting processes takes longer than it saves.
LEAST = 64 << 20
#: Bytes between two messages about progress.
_STEP = 4 << 20
#: Objects made between two cycle collections.
_OBJECTS = 200_000

_Key = TypeVar("_Key")


def compare_ahead(
    root: Path, tasks: Mapping[_Key, LayerTask], *, jobs: int, admit: Callable[[int], None], least: int = LEAST
) -> Mapping[_Key, LayerFiles]:
    """Compare layers in up to `jobs` processes, this one among them, the largest first; none where that saves no time.

    Args:
        root: The folder of the content store.
        tasks: What to compare.
        jobs: Largest number of processes.
        admit: Called with the number of bytes that were read.
        least: Bytes of all blobs below which no process is started.

    Returns:
        The results by the keys of `tasks`; those are left out that failed.

    """
    count = min(jobs, MOST, len(tasks))
    if count < 2 or sum(task.size for task in tasks.values()) < least:  # noqa: PLR2004 - one does it without a process
        return {}
    waiting = iter(sorted(tasks.items(), key=lambda item: -item[1].size))
    run = _Run(waiting, admit)
    with ExitStack() as stack:
        try:
            started = [stack.enter_context(_process(root)) for _ in range(count - 1)]
        except OSError:
            return {}
        with workers(len(started), name="compare") as pool:
            driven = [pool.submit(run.drive, process) for process in started]
            run.take_part(root)
            for future in driven:
                future.result()
    return run.results


class _Run:
    """The tasks of several processes, and their results."""

    def __init__(self, waiting: Iterator[tuple[Any, LayerTask]], admit: Callable[[int], None]) -> None:
        self.results: dict[Any, LayerFiles] = {}
        self._waiting = waiting
        self._admit = admit
        self._lock = threading.Lock()

    def drive(self, process: subprocess.Popen[bytes]) -> None:
        """Give tasks to a process until none is left, or the process has ended."""
        with suppress(OSError, ValueError, msgspec.MsgspecError):
            while (item := self._next()) is not None:
                key, task = item
                _send(process, task)
                result = self._result(process)
                if result is not None:
                    self.results[key] = result

    def take_part(self, root: Path) -> None:
        """Do tasks in this process, which needs no start, until none is left."""
        content, progress = ContentRoot(root), _Progress(self._count)
        while (item := self._next()) is not None:
            key, task = item
            result = _compared(content, task, progress)
            if result is not None:
                self.results[key] = result

    def _count(self, read: int) -> None:
        with self._lock:
            self._admit(read)

    def _next(self) -> tuple[Any, LayerTask] | None:
        with self._lock:
            return next(self._waiting, None)

    def _result(self, process: subprocess.Popen[bytes]) -> LayerFiles | None:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(b"{"):
                return _decode(line)
            self._count(int(line))
        raise BrokenPipeError


def _send(process: subprocess.Popen[bytes], task: LayerTask) -> None:
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(task, enc_hook=str) + b"\n")
    process.stdin.flush()


def _decode(line: bytes) -> LayerFiles | None:
    return None if line == b"{}\n" else msgspec.json.decode(line, type=LayerFiles, dec_hook=_decode_digest)


def _decode_digest(kind: type[Any], value: object) -> Digest:
    if kind is not Digest or not isinstance(value, str):
        raise NotImplementedError
    return Digest.parse(value)


@contextmanager
def _process(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that ends with the block."""
    process = start_isolated(__file__, str(root.absolute()))
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


class _Progress:
    """Reports how many bytes were read, a few at a time."""

    def __init__(self, report: Callable[[int], None]) -> None:
        self._report = report
        self._read = 0

    def __call__(self, count: int) -> None:
        self._read += count
        if self._read >= _STEP:
            self._report(self._read)
            self._read = 0


def main(arguments: list[str]) -> int:
    """Compare what is asked for on the standard input until it ends.

    Args:
        arguments: The folder of the content store.

    """
    gc.set_threshold(_OBJECTS)
    root = ContentRoot(Path(arguments[0]))
    # The process ends where the caller has, which no longer reads.
    progress = _Progress(lambda count: _write(b"%d\n" % count))
    for line in sys.stdin.buffer:
        task = msgspec.json.decode(line, type=LayerTask, dec_hook=_decode_digest)
        _write(_answer(root, task, progress) + b"\n")
    return 0


def _answer(root: ContentRoot, task: LayerTask, progress: _Progress) -> bytes:
    found = _compared(root, task, progress)
    return b"{}" if found is None else msgspec.json.encode(found, enc_hook=str)


def _compared(root: ContentRoot, task: LayerTask, progress: _Progress) -> LayerFiles | None:
    """Compare a layer; None where that fails."""

    @contextmanager
    def blob() -> Iterator[Iterator[bytes]]:
        with root.opened(task.digest) as descriptor:
            yield root.pieces(descriptor, task.digest, fresh=False)

    try:
        return compare_layer(blob, task, admit=progress)
    except BrokenPipeError:
        raise
    except (Absent, AuditorError, OSError):
        return None


def _write(line: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
