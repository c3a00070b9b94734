"""Archives of real tools, cut anywhere or with one byte changed anywhere: `auditor verify` never accepts another image.

The second opinion is Python's `tarfile`: an archive whose members are the same as before is no damaged one, wherever
the byte was. The documents at the top of an archive, and those of docker's first format that no loader reads, have no
digest: a change there that leads to the same content (a letter of a name, of an annotation) is counted apart. So is a
byte of a compressed layer that decompresses to the same one, as a few bits of the format have no meaning.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import tarfile
import time
import zlib
from pathlib import Path
from typing import Final

from tests.lab.archive_bench import Bench, archive_bench
from tests.lab.checked import auditor_here
from tests.lab.kit.registry import Registry
from tests.soak.record import Failed, Outcome, Recorder, peak_mib

#: Documents that no digest protects; loaders of archives with a manifest.json do not read the old ones.
_OLD: Final = frozenset({"repositories", "json", "VERSION"})
_UNPROTECTED: Final = frozenset({"index.json", "manifest.json", "oci-layout"}) | _OLD
#: What `tarfile` and the decompressors raise for damaged bytes.
_DAMAGED: Final = (tarfile.TarError, OSError, EOFError, KeyError, ValueError, zlib.error)
_Members = dict[str, bytes]


def run(seconds: float, folder: Path) -> Outcome:
    """Damage the archives of the matrix in turn."""
    os.environ["AUDITOR_DEBUG"] = "1"
    recorder = Recorder("damaged_archives", seconds)
    chance = random.SystemRandom()
    with Registry(folder / "registry") as registry, archive_bench(registry) as bench:
        archives = _read(bench)
        for number in recorder.rounds():
            maker, (data, members) = list(archives.items())[number % len(archives)]
            damage = _cut if chance.randrange(3) == 0 else _flip
            changed, label = damage(data, chance)
            started = time.process_time()
            try:
                result = _judge(changed, members, folder / "damaged")
                recorder.add(result, seconds=time.process_time() - started, mib=peak_mib(), label=f"{maker}, {label}")
            except Failed as error:
                recorder.fail(f"{maker}, {label}: {error}", changed, suffix=".tar")
    return recorder.outcome()


def _read(bench: Bench) -> dict[str, tuple[bytes, _Members]]:
    found = {}
    for maker, path in bench.made.items():
        data = path.read_bytes()
        members = _members(data)
        assert members, maker
        found[maker] = (data, members)
    return found


def _cut(data: bytes, chance: random.Random) -> tuple[bytes, str]:
    """Cut at any byte, or between two blocks of a tar."""
    at = chance.randrange(len(data))
    at = at // 512 * 512 if chance.randrange(3) == 0 else at
    return data[:at], f"cut at {at} of {len(data)}"


def _flip(data: bytes, chance: random.Random) -> tuple[bytes, str]:
    """Change one byte: anywhere, or in the first bytes of a block, where headers and documents are."""
    at = chance.randrange(len(data))
    if chance.randrange(2):
        at = min(at // 512 * 512 + chance.randrange(160), len(data) - 1)
    value = data[at] ^ chance.randrange(1, 256)
    return data[:at] + bytes([value]) + data[at + 1 :], f"byte {at} of {len(data)} from {data[at]} to {value}"


def _judge(changed: bytes, members: _Members, path: Path) -> str:
    """Return the result in a word. Raises Failed where other content was accepted."""
    path.write_bytes(changed)
    ran = auditor_here("verify", "--no-progress", "-q", path)
    if ran.status in (1, 3):
        return "found"
    if ran.status:
        raise Failed(f"exit status {ran.status}: {ran.err}")
    now = _members(changed)
    if now == members:
        return "the members are the same"
    if now is None:
        raise Failed("tarfile cannot read what was accepted")
    other = {name for name in members.keys() | now.keys() if _plain(name, members) != _plain(name, now)}
    if not other:
        return "the layers decompress to the same"
    other = {name for name in other if name.rpartition("/")[2] not in _OLD or "manifest.json" not in members}
    if {name.rpartition("/")[2] for name in other} <= _UNPROTECTED and all(
        _leads_to(now.get(name)) == _leads_to(members.get(name)) for name in other
    ):
        return "text without a digest"
    raise Failed(f"accepted, with other content of {sorted(other)}")


def _plain(name: str, members: _Members) -> bytes | None:
    """Return a member without gzip; as it is where it has a digest, is not compressed, or is damaged."""
    content = members.get(name)
    if content is None or name.startswith("blobs/") or not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except _DAMAGED:
        return content


def _leads_to(document: bytes | None) -> list[object]:
    """What a loader follows in a document that no digest protects: digests, sizes, types, and names of files."""
    try:
        parsed = json.loads((document or b"null").decode(errors="replace"))
    except ValueError:
        return ["no JSON"]
    if isinstance(parsed, dict):
        return [[each.get(key) for key in ("mediaType", "digest", "size")] for each in parsed.get("manifests") or []]
    return [[each.get(key) for key in ("Config", "Layers")] for each in parsed or []]


def _members(data: bytes) -> _Members | None:
    """Return name and content of each file of an archive; None for a damaged one."""
    try:
        plain = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
        with tarfile.open(fileobj=io.BytesIO(plain), mode="r:") as archive:
            return {
                info.name.removeprefix("./"): (archive.extractfile(info) or io.BytesIO()).read()
                for info in archive
                if info.isreg() or info.islnk() or info.issym()
            }
    except _DAMAGED:
        return None
