"""What benchmarks share: files to read, peers to run beside us, and a line that says how we compare."""

from __future__ import annotations

import os
import random
import subprocess
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from auditor.model.digest import Digest

#: How often each side is timed, in turns; the best of each counts, since everything else on the machine only slows.
ROUNDS = 3


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def best(*sides: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """The shortest time of each side in seconds, measured in turns so that all meet the same weather."""
    times = [float("inf")] * len(sides)
    for _ in range(rounds):
        for number, side in enumerate(sides):
            start = time.perf_counter()
            side()
            times[number] = min(times[number], time.perf_counter() - start)
    return times


def spent(*sides: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """The least processor time of each side in seconds, children included: steady where others use the machine."""
    return [processor for processor, _ in costs(*sides, rounds=rounds)]


def costs(*sides: Callable[[], object], rounds: int = ROUNDS) -> list[tuple[float, float]]:
    """The least processor time, children included, and the shortest elapsed time of each side, in seconds."""
    found = [(float("inf"), float("inf"))] * len(sides)
    for _ in range(rounds):
        for number, side in enumerate(sides):
            before = os.times()
            side()
            after = os.times()
            processor, elapsed = found[number]
            found[number] = min(processor, sum(after[:4]) - sum(before[:4])), min(elapsed, after[4] - before[4])
    return found


def verdict(what: str, *, ours: float, theirs: float, wanted: float) -> bool:
    """Print how many times as fast as the peer we are, both in seconds; whether it is as fast as wanted."""
    ratio = theirs / ours
    word = "ok" if ratio >= wanted else "TOO SLOW"
    print(f"{what}: ours {ours:.2f} s, theirs {theirs:.2f} s, {ratio:.2f} times their rate, wanted {wanted:g}: {word}")
    return ratio >= wanted


def random_files(folder: Path, sizes: Sequence[int]) -> list[Digest]:
    """Files of these sizes in bytes, each named by the hex of its digest."""
    return [_named(folder, random.Random(number).randbytes(size)) for number, size in enumerate(sizes)]


def _named(folder: Path, data: bytes) -> Digest:
    digest = Digest.of(data)
    (folder / digest.hex).write_bytes(data)
    return digest


def layers(folder: Path, *, sources: Sequence[str], count: int, size: int) -> list[Digest]:
    """Gzip layers made of what this machine has below `sources`, `count` of about `size` bytes before compression."""
    files = [path for source in sources for path in sorted(Path(source).rglob("*")) if _plain(path)]
    made = []
    for number in range(count):
        data = _layer(folder / f"{number}.tar", files[number::count], size)
        made.append(_named(folder, data))
    return made


def _plain(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and os.access(path, os.R_OK)


def _layer(path: Path, files: list[Path], size: int) -> bytes:
    with tarfile.open(path, "w") as archive:
        for file in files:
            if archive.offset > size:
                break
            archive.add(file, recursive=False)
    packed = subprocess.run(["gzip", "-6", "-n", "-c", str(path)], stdout=subprocess.PIPE, check=True).stdout
    path.unlink()
    return packed
