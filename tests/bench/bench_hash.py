"""How fast blobs of a real store are proven: `python -m tests.bench.bench_hash [--mib N] [--rounds N]`.

From its files, beside as many parallel `openssl dgst -sha256` as there are cores and beside `ctr content get |
sha256sum`; over the API, beside a bare loop over the generated stub with hashlib. All in the same run, in turns; exit
status 1 where a goal is missed. And whether the program holds a rate.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import grpc

from auditor.containerd._proto import content_pb2, content_pb2_grpc
from auditor.containerd.store import ContainerdStore
from auditor.model.digest import Digest
from auditor.model.store import VerificationKind
from auditor.scrub import verify_blobs
from tests.bench.peers import best, cores, random_files, spent, verdict
from tests.bench.stocked import NAMESPACE, Stocked, stocked, targets
from tests.program import ROOT, command, environment

LIMIT = 20 << 20
SECONDS = 10


def ours(store: ContainerdStore, digests: Sequence[Digest], *, jobs: int) -> None:
    """These blobs, proven."""
    verifications = list(verify_blobs(store, targets(store, digests), jobs=jobs, known=frozenset(digests)))
    assert len(verifications) == len(digests)
    assert all(verification.kind is VerificationKind.SOUND for verification in verifications)


def openssl(files: Sequence[Path]) -> None:
    """All files, one process for each core with an even share of them."""

    def run(some: Sequence[Path]) -> None:
        subprocess.run(["openssl", "dgst", "-sha256", *map(str, some)], stdout=subprocess.DEVNULL, check=True)

    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(run, [files[number :: cores()] for number in range(cores())]))


def ctr(stock: Stocked, digest: Digest) -> None:
    """One blob as a script would hash it."""
    command = stock.daemon.ctr_command("content", "get", digest, namespace=NAMESPACE)
    with subprocess.Popen(command, stdout=subprocess.PIPE) as get:
        hashed = subprocess.run(["sha256sum"], stdin=get.stdout, capture_output=True, text=True, check=True)
    assert hashed.stdout.split()[0] == digest.hex


def bare(channel: grpc.Channel, digest: Digest) -> None:
    """The loop that anybody would write first."""
    stub = content_pb2_grpc.ContentStub(channel)
    found = hashlib.sha256(usedforsecurity=False)
    request = content_pb2.ReadContentRequest(digest=digest)
    for message in stub.Read(request, metadata=(("containerd-namespace", NAMESPACE),)):
        found.update(message.data)
    assert found.hexdigest() == digest.hex


def bare_loops(stock: Stocked, digests: Sequence[Digest], *, jobs: int) -> None:
    """The same for all blobs, in as many threads as we have."""
    options = [("grpc.max_receive_message_length", 64 << 20), ("grpc.default_authority", "localhost")]
    with (
        grpc.insecure_channel(f"unix:{stock.daemon.socket}", options=options) as channel,
        ThreadPoolExecutor(jobs) as pool,
    ):
        list(pool.map(partial(bare, channel), digests))


def held(stock: Stocked) -> float:
    """The rate that the program holds over ten seconds, as a part of its limit, by what the kernel saw it read."""
    state = stock.scratch / "state.db"
    line = command("scrub", "--address", stock.daemon.socket, "--state", state, "--limit-rate", f"{LIMIT}B")
    with subprocess.Popen(line, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL) as run:
        began = _read_by(run.pid)
        while _read_by(run.pid) - began < 2 * LIMIT:
            time.sleep(0.05)
        before, start = _read_by(run.pid), time.monotonic()
        time.sleep(SECONDS)
        rate = (_read_by(run.pid) - before) / (time.monotonic() - start)
        run.send_signal(signal.SIGKILL)
    return rate / LIMIT


def _read_by(pid: int) -> int:
    counts = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(counts["rchar"])


def from_files(stock: Stocked, digests: Sequence[Digest], files: Sequence[Path], *, rounds: int) -> bool:
    """Compare with openssl and with ctr."""
    mib = sum(file.stat().st_size for file in files) / (1 << 20)
    one = digests[0]
    part = files[0].stat().st_size / (1 << 20)
    with stock.store() as store:
        assert store.info().content_root is not None
        mine = partial(ours, store, digests, jobs=cores())
        hashing, peer, pipe = best(mine, lambda: openssl(files), lambda: ctr(stock, one), rounds=rounds)
        mine_spent, peer_spent = spent(mine, lambda: openssl(files), rounds=2)
    fast = verdict(f"{mib:.0f} MiB from files beside openssl", ours=hashing, theirs=peer, wanted=0.9)
    verdict("  processor time of it beside openssl", ours=mine_spent, theirs=peer_spent, wanted=0.9)
    # One blob stands for all: the pipe takes half a minute for a GiB.
    return verdict("the same beside ctr | sha256sum", ours=hashing, theirs=pipe * mib / part, wanted=20) and fast


def over_the_api(stock: Stocked, digests: Sequence[Digest], *, rounds: int) -> bool:
    """Compare with the bare loop, alone and with a thread a core."""
    fast = True
    with stock.store(content_root=None) as store:
        for jobs in (1, cores()):
            mine, loop = partial(ours, store, digests, jobs=jobs), partial(bare_loops, stock, digests, jobs=jobs)
            taken, peer = best(mine, loop, rounds=rounds)
            mine_spent, peer_spent = spent(mine, loop, rounds=2)
            fast &= verdict(f"over the API, {jobs} at once, beside bare loops", ours=taken, theirs=peer, wanted=0.9)
            verdict("  processor time of it", ours=mine_spent, theirs=peer_spent, wanted=0.9)
    return fast


def main() -> int:
    """Measure, print, and say by the status whether it is fast enough."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--mib", type=int, default=1024, help="how much to hash")
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    print(f"{cores()} cores, load {os.getloadavg()[0]:.1f}")
    with stocked() as stock:
        digests = random_files(stock.scratch, [given.mib << 17] * 4 + [given.mib << 14] * 32)
        files = stock.take(digests)
        fast = from_files(stock, digests, files, rounds=given.rounds)
        fast &= over_the_api(stock, digests[2:20], rounds=given.rounds)
        part = held(stock)
        print(f"{part:.3f} of the rate limit over {SECONDS} seconds, wanted 0.95 to 1.05")
    return 0 if fast and 0.95 <= part <= 1.05 else 1


if __name__ == "__main__":
    sys.exit(main())
