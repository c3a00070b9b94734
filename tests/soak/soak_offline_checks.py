"""Changed pages of containerd's database: `check --root` ends in order, and lost records are never called intact."""

from __future__ import annotations

import os
import random
from functools import cache, partial
from pathlib import Path
from typing import Final

from tests.lab.checked import auditor_here
from tests.soak import mutate
from tests.soak.record import Failed, Outcome, Recorder, fuzz
from tests.unit import archives
from tests.unit.bbolt.bolt_files import PAGE, Tree, Writer, database
from tests.unit.offline.test_store import TIME, varint

_DATABASE: Final = "io.containerd.metadata.v1.bolt/meta.db"
_BUILT: Final = archives.image()


def run(seconds: float, folder: Path) -> Outcome:
    """Fuzz databases."""
    os.environ["AUDITOR_DEBUG"] = "1"
    blobs = folder / "io.containerd.content.v1.content/blobs/sha256"
    blobs.mkdir(parents=True)
    for digest, data in _BUILT.blobs.items():
        (blobs / digest.removeprefix("sha256:")).write_bytes(data)
    (folder / _DATABASE).parent.mkdir()
    return fuzz(Recorder("offline_checks", seconds), make, partial(judge, folder), suffix=".db")


def make(chance: random.Random) -> bytes:
    """Return a database with fields, pages or bytes changed."""
    data = bytearray(_original(chance.choice((2, 1000)), chance.choice((0, 1024))))
    for _ in range(chance.choice((0, 1, 1, 3))):
        page = chance.randrange(len(data) // PAGE)
        kind = chance.randrange(4)
        if kind == 0:
            other = chance.randrange(len(data) // PAGE)
            data[page * PAGE : (page + 1) * PAGE] = data[other * PAGE : (other + 1) * PAGE]
        elif kind == 1:
            data[page * PAGE : (page + 1) * PAGE] = bytes(PAGE)
        else:  # a field of the page's head or of its first elements, in a size that bbolt has
            at, length = page * PAGE + 4 * chance.randrange(40), chance.choice((2, 4, 8))
            data[at : at + length] = chance.choice((0, 1, 7, 2**15, 2**length * 8 - 1)).to_bytes(8, "little")[:length]
    made = bytes(data)
    return mutate.raw_bytes(made, chance) if chance.randrange(4) == 0 else made


@cache
def _original(split: int, inline: int) -> bytes:
    blobs: Tree = {
        digest.encode(): {b"size": varint(len(data)), b"createdat": TIME, b"labels": {b"a": b"b"}}
        for digest, data in _BUILT.blobs.items()
    }
    described: Tree = {
        b"digest": _BUILT.digest.encode(),
        b"mediatype": _BUILT.target.media_type.encode(),
        b"size": varint(_BUILT.target.size),
    }
    images: Tree = {b"r.example/a:1": {b"createdat": TIME, b"target": described}}
    top: Tree = {b"version": b"\x06", b"default": {b"images": images, b"content": {b"blob": blobs}}}
    return bytes(database({b"v1": top}, writer=Writer(split=split, inline=inline)))


def judge(folder: Path, data: bytes) -> str:
    """Check the root; exit 0 is right only where all records are there."""
    (folder / _DATABASE).write_bytes(data)
    done = auditor_here("check", "--root", folder, "--verify", "digests", "--format", "json")
    if done.status == 0 and done.report.summary.blobs.verified < len(_BUILT.blobs):
        raise Failed(f"exit 0 with {done.report.summary.blobs.verified} of {len(_BUILT.blobs)} blobs")
    return f"exit {done.status}"
