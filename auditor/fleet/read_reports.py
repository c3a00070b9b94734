"""Read many files in a pool of processes; a process that is killed costs one file, not the run."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Final

from auditor.fleet.read_file import FileContent, read_file
from auditor.report.fleet import UnreadFile

#: Files in one task, and tasks per process that wait or run: bounds what is held in memory.
_BATCH: Final = 16
_AHEAD: Final = 3
#: Below this number of files, starting processes takes longer than reading.
_FEW: Final = 64
#: prctl(2)
_PR_SET_PDEATHSIG: Final = 1


def read_reports(paths: Sequence[Path], *, limit: int, jobs: int, read: ReadFile = read_file) -> Iterator[FileContent]:
    """Read files, in any order.

    Args:
        paths: The files.
        limit: The most bytes of one report after decompression.
        jobs: Number of processes.
        read: Reads one file; it must be importable by name, since it runs in another process.

    Yields:
        What is in each file; a file whose reader was killed is named as unread.

    """
    if jobs == 1 or len(paths) < _FEW:
        for path in paths:
            yield read(path, limit=limit)
        return
    batches = deque(tuple(paths[start : start + _BATCH]) for start in range(0, len(paths), _BATCH))
    while batches:
        yield from _pooled(batches, limit, jobs, read)


ReadFile = Callable[..., FileContent]
_Batches = deque[tuple[Path, ...]]


def _pooled(batches: _Batches, limit: int, jobs: int, read: ReadFile) -> Iterator[FileContent]:
    """Work through the batches; where a process is killed, read those that were under way one file at a time."""
    running: deque[tuple[tuple[Path, ...], Future[list[FileContent]]]] = deque()
    with _pool(jobs) as pool:
        while batches or running:
            while batches and len(running) < jobs * _AHEAD:
                batch = batches.popleft()
                try:
                    running.append((batch, pool.submit(_read_batch, batch, limit, read)))
                except BrokenProcessPool:
                    batches.appendleft(batch)
                    break
            batch, future = running.popleft()
            try:
                yield from future.result()
            except BrokenProcessPool:
                batches.extendleft(other for other, _ in reversed(running))
                break
        else:
            return
    for path in batch:
        yield _alone(path, limit, read)


def _pool(jobs: int) -> ProcessPoolExecutor:
    # A fork shares the modules; this process has no other threads when the pool starts.
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("fork"), initializer=_begin)


def _begin() -> None:
    """Set up a process: Ctrl-C and SIGTERM are the parent's to handle, and its death ends this process too."""
    gc.disable()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _read_batch(paths: Sequence[Path], limit: int, read: ReadFile) -> list[FileContent]:
    return [read(path, limit=limit) for path in paths]


def _alone(path: Path, limit: int, read: ReadFile) -> FileContent:
    with _pool(1) as pool:
        try:
            return pool.submit(_read_batch, (path,), limit, read).result()[0]
        except BrokenProcessPool:
            why = "the process that read it was killed; --max-file-size sets the most that is read"
            return FileContent((), (UnreadFile(file=str(path), reason=why),))
