"""Changed archives: `auditor verify` ends in order, and none with a wrong blob is called intact."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests import images
from tests.lab.checked import auditor_here
from tests.soak import mutate
from tests.soak.record import Failed, Outcome, Recorder, fuzz
from tests.unit import archives
from tests.unit.archives import Member

_FORMATS: Final = ("table", "json", "ndjson", "prometheus", "junit", "markdown", "html")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_ODD_NAMES: Final = (
    "",
    "/",
    "../x",
    "blobs/sha256",
    "blobs/sha256/../x",
    "index.json",
    "manifest.json",
    "é\udcff",
    "a" * 300,
)


def run(seconds: float, folder: Path) -> Outcome:
    """Fuzz archives."""
    os.environ["AUDITOR_DEBUG"] = "1"
    return fuzz(Recorder("archives", seconds), make, lambda data: judge(data, folder), suffix=".tar")


def make(chance: random.Random) -> bytes:
    """Return an archive of one of the known writers with some changes."""
    members = _members(chance)
    for _ in range(chance.choice((0, 1, 1, 2))):
        members = _changed(members, chance)
    data = archives.tar(members, form=chance.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)))
    if chance.randrange(4) == 0:
        data = mutate.raw_bytes(data, chance)
    data = archives.packed(data, chance.choice(("none", "none", "gzip", "zstd")))
    return mutate.raw_bytes(data, chance) if chance.randrange(6) == 0 else data


def _members(chance: random.Random) -> list[Member]:
    built = archives.image(seed=str(chance.randrange(9)), repeat=chance.random() < 0.3)
    writer = chance.randrange(5)
    if writer == 0:
        return archives.old_docker(built)
    if writer == 1:
        return archives.skopeo_docker(built)
    if writer == 2:
        return archives.oci(images.index([built], attestations=True))
    return archives.oci(built)


def _changed(members: list[Member], chance: random.Random) -> list[Member]:
    """Return the members with one dropped, doubled, moved, renamed, linked or with other content."""
    made = list(members)
    at = chance.randrange(len(made))
    member = made[at]
    kind = chance.randrange(10)
    if kind == 0:
        del made[at]
    elif kind == 1:
        made.insert(chance.randrange(len(made)), member)
    elif kind == 2:
        chance.shuffle(made)
    elif kind == 3:
        made[at] = replace(member, name=chance.choice((*_ODD_NAMES, _odd(member.name, chance))))
    elif kind == 4:
        target = chance.choice(made).name
        made[at] = Member(member.name, type=chance.choice((tarfile.SYMTYPE, tarfile.LNKTYPE)), link=target)
    elif kind == 5:
        made[at] = replace(member, data=mutate.raw_bytes(member.data, chance))
    else:
        made = _changed_document(made, chance)
    return made


def _odd(name: str, chance: random.Random) -> str:
    """Return a changed name that a tar can hold, with at most 400 characters."""
    return mutate.text(name, chance)[:400].encode(errors="surrogatepass").decode(errors="surrogateescape")


def _changed_document(members: Sequence[Member], chance: random.Random) -> list[Member]:
    """Change one JSON document; now and then what names it follows, so that its digest is right again."""
    documents = [(index, value) for index, member in enumerate(members) if (value := _parsed(member.data)) is not None]
    if not documents:
        return list(members)
    index, value = chance.choice(documents)
    data = mutate.json_bytes(mutate.json_value(value, chance, changes=chance.choice((1, 1, 4))), chance)
    made = list(members)
    if made[index].name.startswith("blobs/") and chance.random() < 0.8:
        return _renamed(made, index, data)
    made[index] = replace(made[index], data=data)
    return made


def _renamed(members: list[Member], index: int, data: bytes, *, depth: int = 5) -> list[Member]:
    """Store `data` under its own digest, and change that in all documents; their digests follow once."""
    old, new = members[index].name.rpartition("/")[2], hashlib.sha256(data).hexdigest()
    members[index] = Member(f"blobs/sha256/{new}", data)
    for at, member in enumerate(members):
        if depth and at != index and old.encode() in member.data:
            changed = member.data.replace(old.encode(), new.encode())
            if member.name.startswith("blobs/"):
                members = _renamed(members, at, changed, depth=depth - 1)
            else:
                members[at] = replace(member, data=changed)
    return members


def _parsed(data: bytes) -> object:
    try:
        return json.loads(data) if data[:1] in b"{[" else None
    except (ValueError, RecursionError):
        return None


def judge(data: bytes, folder: Path) -> str:
    """Verify an archive in each format in turn; compare a verdict of intact with a second opinion."""
    path = folder / "archive.tar"
    path.write_bytes(data)
    output_format = _FORMATS[len(data) // 512 % len(_FORMATS)]
    done = auditor_here("verify", path, "--format", output_format, "--no-progress")
    if done.status == 0 and (wrong := _wrong_blob(data)):
        raise Failed(f"exit 0, but {wrong} has other content")
    return f"exit {done.status}"


def _wrong_blob(data: bytes) -> str:
    """Return the name of a blob that documents name and that has other content, by Python's own tar reader."""
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            found = {entry.name: file.read() for entry in archive if (file := _file(archive, entry))}
    except (tarfile.TarError, OSError, EOFError):
        return ""
    index = found.get("index.json", b"")
    wanted = set(_DIGEST.findall(index.decode(errors="replace")))
    wrong = (digest for digest in wanted if _hex(found.get(archives.blob_name(digest))) not in ("", digest))
    return next(wrong, "")


def _file(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> io.BufferedReader | None:
    return archive.extractfile(entry) if entry.isreg() else None  # type: ignore[return-value]


def _hex(data: bytes | None) -> str:
    return "" if data is None else images.sha256(data)
