"""What comparing unpacked files costs: `python -m tests.bench.bench_snapshots`, as root; `--help` lists the options.

On trees of small files and on a copy of folders of this machine, one after the other: decompressing the layer to its
diffID (what --verify layers does), playing and comparing it (--verify snapshots), counting the files (--verify
snapshots-quick), `gzip -dc | tar -d`, and `sha256sum` of all files. Processor time, the least of several rounds, page
cache warm; elapsed time of the comparison and of tar beside it. Memory is the most that a process of its own takes for
a comparison. `calls`: the system calls of a comparison in a loop that does nothing else, so that decode and calls
together are the least that a comparison in Python can take. Then the EROFS image of the last tree, and several layers
on one core and on two. Exit status 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import os
import random
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from auditor.cli.compare_processes import compare_ahead
from auditor.containerd.content_root import ContentRoot
from auditor.layers import LayerInspector
from auditor.model.digest import Digest
from auditor.snapshots.beside import Beside, at_once
from auditor.snapshots.compare import compare
from auditor.snapshots.erofs_image import in_image
from auditor.snapshots.examine import usage
from auditor.snapshots.layer_files import LayerTask, compare_layer
from auditor.snapshots.play import play
from auditor.snapshots.tree import Node
from tests.bench.peers import best, cores, costs, verdict
from tests.lab.kit.binaries import program
from tests.lab.kit.process import scratch

#: Gives the size of a file in bytes.
Size = Callable[[random.Random], int]
#: Files in a folder.
FOLDER = 40
#: Goals: times the processor time of decompressing; times that of gzip and tar; MiB; seconds for 100,000 files.
DECODING, TAR, MEMORY, QUICK = 2.5, 1.0, 150, 1.0
#: How many times as fast two cores have to be as one.
CORES = 1.7
PIECE = 1 << 20


@dataclass(frozen=True)
class Layer:
    """A gzip layer and the files that it unpacks to."""

    name: str
    blob: Path
    files: Path

    @property
    def image(self) -> Path:
        """The same files as an EROFS image."""
        return self.blob.with_suffix(".erofs")

    def pieces(self) -> Iterator[bytes]:
        """Read the blob."""
        with self.blob.open("rb") as file:
            while piece := file.read(PIECE):
                yield piece


def small(made: random.Random) -> int:
    """4.5 KB on average."""
    return made.randint(100, 9000)


def tiny(made: random.Random) -> int:
    """350 bytes on average."""
    return made.randint(100, 600)


def installed(made: random.Random) -> int:
    """Most files are of some KB and few of hundreds, as in Python's site-packages: 11 KB on average."""
    return min(int(made.lognormvariate(8, 1.65)), 2 << 20)


def small_files(folder: Path, count: int, size_of: Size) -> None:
    """Files of text and noise, about half of which compresses away."""
    made = random.Random(count)
    for number in range(count):
        parent = folder / f"package-{number // FOLDER}"
        if not number % FOLDER:
            parent.mkdir()
        size = size_of(made)
        (parent / f"module_{number}.py").write_bytes(b"    return value\n" * (size // 34) + made.randbytes(size // 2))


#: The trees of as many files as wanted.
SIZES: Mapping[str, Size] = {"files as in site-packages": installed, "small files": small}


def copied(folder: Path, sources: list[str]) -> None:
    """Copy folders of this machine."""
    for number, source in enumerate(sources):
        subprocess.run(["cp", "-a", source, folder / str(number)], check=True)


def layer(base: Path, name: str, fill: Callable[[Path], None], *, extended: bool = False) -> Layer:
    """Make files, and pack them.

    Args:
        base: Where to make them.
        name: The name of the row.
        fill: Makes the files.
        extended: Write three times of each file in an extended header, as GNU tar does; else times are whole seconds
            in the usual header, as containerd, BuildKit and buildah write them.

    """
    place = name.replace(" ", "-")
    files, blob = base / place, base / f"{place}.tar.gz"
    files.mkdir()
    fill(files)
    times = "" if extended else "--mtime=@1700000000 --pax-option=delete=atime,delete=ctime"
    if not extended:
        subprocess.run(["find", files, "-exec", "touch", "-h", "-d", "@1700000000", "{}", "+"], check=True)
    pack = f"tar --format=pax {times} --sort=name --xattrs -C {files} -c . | gzip -6 -n > {blob}"
    subprocess.run(pack, shell=True, check=True)
    return Layer(name, blob, files)


def decoded(made: Layer) -> None:
    """Decompress the layer to its diffID."""
    inspector = LayerInspector()
    for piece in made.pieces():
        inspector.update(piece)
    inspector.finish()


def compared(made: Layer) -> None:
    """Play the layer and compare its files."""
    with Beside(made.files) as files:
        played = play(made.pieces(), lowest=True, files=files)
    found = compare(played.tree, made.files)
    if played.refusal or found.items:
        raise SystemExit(f"{made.name}: {played.refusal or found.items[:3]}")


def compared_image(made: Layer) -> None:
    """Play the layer and compare the files of its EROFS image."""

    def played(root: Path | None) -> Node | str:
        with Beside(root or made.files) as files:
            result = play(made.pieces(), lowest=True, files=files)
        return result.refusal or result.tree

    found = in_image(played, made.image)
    if isinstance(found, str) or found.items:
        raise SystemExit(f"{made.image}: {found if isinstance(found, str) else found.items[:3]}")


def tar(made: Layer) -> None:
    """Compare the layer with tar."""
    command = f"gzip -dc {made.blob} | tar -d -C {made.files}"
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)


def counted(made: Layer) -> None:
    """Count the files and their disk usage."""
    usage(made.files)


def called(names: Mapping[str, Sequence[str]]) -> None:
    """Do the system calls that a comparison needs for each file, and nothing else."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOATIME
    for folder, files in names.items():
        at = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        for name in files:
            size = os.lstat(name, dir_fd=at).st_size
            descriptor = os.open(name, flags, dir_fd=at)
            for _ in range(0, size + 1, PIECE):
                os.read(descriptor, min(size + 1, PIECE))
            os.listxattr(descriptor)
            os.close(descriptor)
        for name in files:
            os.lstat(name, dir_fd=at)
        os.close(at)


def regular(root: Path) -> Mapping[str, Sequence[str]]:
    """The names of the regular files of a tree, by folder."""
    return {
        folder: [name for name in files if stat.S_ISREG(os.lstat(f"{folder}/{name}").st_mode)]
        for folder, _, files in os.walk(root)
    }


def sha256sum(made: Layer) -> None:
    """Hash all files."""
    command = f"find {made.files} -type f -print0 | xargs -0 -n 1000 sha256sum"
    subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)


def memory(made: Layer) -> float:
    """Return the most memory, in MiB, of a process that compares the layer."""
    command = [sys.executable, "-m", "tests.bench.bench_snapshots", "--one", str(made.blob), str(made.files)]
    process = subprocess.Popen(command)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        raise SystemExit("the comparison failed")
    return used.ru_maxrss / 1024


def measure(made: Layer, *, rounds: int) -> bool:
    """Print a row; whether the goals are met."""
    sides = (decoded, compared, tar, sha256sum, counted)
    calls = partial(called, regular(made.files))
    found = costs(*(partial(side, made) for side in sides), calls, rounds=rounds)
    decode, ours, theirs, hashed, quick, least = (processor for processor, _ in found)
    waited, theirs_waited = found[1][1], found[2][1]
    count, most = usage(made.files).inodes, memory(made)
    print(
        f"| {made.name}, {count:,} | {decode:.2f} | {least:.2f} | {ours:.2f} | {theirs:.2f} | {hashed:.2f} | "
        f"{quick:.2f} | {ours / decode:.1f} | {ours / theirs:.2f} | {waited:.2f} | {theirs_waited:.2f} | {most:.0f} |"
    )
    return (
        ours <= DECODING * decode
        and ours <= TAR * theirs
        and waited <= TAR * theirs_waited
        and most < MEMORY
        and quick <= QUICK * max(count / 100_000, 1)
    )


def measure_image(made: Layer, *, rounds: int) -> bool:
    """Print what comparing the layer's EROFS image costs; whether it is at most the goal."""
    subprocess.run([program("erofs-utils", "usr/bin/mkfs.erofs"), "--quiet", made.image, made.files], check=True)
    (decode, _), (ours, waited) = costs(partial(decoded, made), partial(compared_image, made), rounds=rounds)
    print(f"{made.name}, as an EROFS image: decode {decode:.2f} s, compare {ours:.2f} s, {waited:.2f} s elapsed")
    return ours <= DECODING * decode


def tasks(base: Path) -> dict[int, LayerTask]:
    """Return the layers of a content store, each beside its files."""
    found = {}
    for number, files in enumerate(sorted(base.glob("*.files"))):
        blob = base / "blobs/sha256" / files.stem
        found[number] = LayerTask(
            Digest(f"sha256:{files.stem}"),
            blob.stat().st_size,
            Digest((base / f"{files.stem}.diff-id").read_text()),
            os.fsencode(files),
            lowest=True,
            privileged=True,
        )
    return found


def stored(base: Path, made: Layer) -> None:
    """Move a layer into a content store."""
    data = made.blob.read_bytes()
    digest = Digest.of(data)
    (base / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    made.blob.rename(base / "blobs/sha256" / digest.hex)
    made.files.rename(base / f"{digest.hex}.files")
    (base / f"{digest.hex}.diff-id").write_text(Digest.of(gzip.decompress(data)))


def several(base: Path, jobs: int) -> None:
    """Compare all layers of a content store in so many processes."""
    wanted = tasks(base)
    found = compare_ahead(base, wanted, jobs=jobs, admit=at_once, least=0)
    root = ContentRoot(base)
    for number, task in wanted.items():
        result = found.get(number) or compare_layer(partial(opened, root, task.digest), task)
        if isinstance(result.differences, str) or result.differences.items:
            raise SystemExit(f"{task.directory!r}: {result.differences}")


@contextmanager
def opened(root: ContentRoot, digest: Digest) -> Iterator[Iterator[bytes]]:
    """Open a blob."""
    with root.opened(digest) as descriptor:
        yield root.pieces(descriptor, digest, fresh=False)


def on_cores(base: Path, count: int) -> None:
    """Compare all layers of a content store with so many cores, in a process of its own."""
    available = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "tests.bench.bench_snapshots", "--several", str(count), str(base)]
    try:
        os.sched_setaffinity(0, available[:count])
        subprocess.run(command, check=True)
    finally:
        os.sched_setaffinity(0, available)


def measure_cores(base: Path, *, count: int, rounds: int) -> bool:
    """Compare four layers on one core and on two; whether two are fast enough."""
    for number in range(4):
        fill = partial(small_files, count=count + number, size_of=small)
        stored(base, layer(base, f"of four {number}", fill))
    one, two = best(partial(on_cores, base, 1), partial(on_cores, base, 2), rounds=rounds)
    return verdict("four layers on two cores, against one", ours=two, theirs=one, wanted=CORES)


def main() -> int:
    """Measure each tree."""
    gc.set_threshold(200_000)  # as the program does
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, nargs="*", default=[36_000])
    parser.add_argument("--tiny", type=int, nargs="*", default=[200_000])
    parser.add_argument("--from", dest="sources", nargs="*", default=["/usr/bin", "/usr/lib/python3", "/usr/share/doc"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--each", type=int, default=20_000, help="files of each of the four layers for two cores")
    parser.add_argument("--one", nargs=2, metavar=("BLOB", "FILES"))
    parser.add_argument("--several", nargs=2, metavar=("JOBS", "FOLDER"))
    given = parser.parse_args()
    if given.one:
        compared(Layer("one", *map(Path, given.one)))
        return 0
    if given.several:
        several(Path(given.several[1]), int(given.several[0]))
        return 0
    print(f"{cores()} cores, load {os.getloadavg()[0]:.1f}; seconds of processor time")
    print(
        "| files | decode | calls | compare | tar -d | sha256sum | count | to decoding | to tar -d | wait | tar waits "
        "| MiB |"
    )
    print("|" + " --- |" * 12)
    met = True
    with scratch() as base:
        if given.sources:
            made = layer(base, "folders of this machine", partial(copied, sources=given.sources))
            met = measure(made, rounds=given.rounds) and met
        trees = [(f"{word} {count}", count, size) for word, size in SIZES.items() for count in given.files]
        for name, count, size_of in [*trees, *((f"tiny files {count}", count, tiny) for count in given.tiny)]:
            made = layer(base, name, partial(small_files, count=count, size_of=size_of))
            met = measure(made, rounds=given.rounds) and met
        for number in given.files:
            fill = partial(small_files, count=number, size_of=small)
            made = layer(base, f"small files by GNU tar {number}", fill, extended=True)
            met = measure(made, rounds=given.rounds) and met
            met = measure_image(made, rounds=given.rounds) and met
        if given.each and cores() > 1:
            met = measure_cores(base, count=given.each, rounds=given.rounds) and met
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
