"""Archives made in memory for tests, sound ones and every kind of broken one."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from backports import zstd

from auditor.archive.open import open_archive
from auditor.archive.store import ArchiveStore
from tests import images
from tests.images import Built, BuiltImage

NAME = "docker.io/library/thing:v1"


@dataclass(frozen=True)
class Member:
    """One member as it goes into a tar."""

    name: str
    data: bytes = b""
    type: bytes = tarfile.REGTYPE
    link: str = ""

    @property
    def info(self) -> tarfile.TarInfo:
        info = tarfile.TarInfo(self.name)
        info.size, info.type, info.linkname = len(self.data), self.type, self.link
        return info


def folder(name: str) -> Member:
    return Member(name, type=tarfile.DIRTYPE)


def symlink(name: str, target: str) -> Member:
    return Member(name, type=tarfile.SYMTYPE, link=target)


def image(*, seed: str = "one", repeat: bool = False) -> BuiltImage:
    """An image of two layers, or of three of which one comes twice."""
    low, high = (images.layer(images.files(f"{seed}-{n}", kilobytes=4)) for n in range(2))
    return images.image([low, high, low] if repeat else [low, high])


def json_member(name: str, body: object) -> Member:
    return Member(name, json.dumps(body, separators=(",", ":")).encode())


def oci(*built: Built, names: Sequence[str] = (NAME,)) -> list[Member]:
    """An OCI layout in ctr's order: blobs, index.json, manifest.json, oci-layout."""
    blobs = {digest: blob for one in built for digest, blob in one.blobs.items()}
    listed = [
        one.target.json()
        | {"annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "v1"}}
        for one, name in zip(built, names, strict=True)
    ]
    singles = [(one, name) for one, name in zip(built, names, strict=True) if isinstance(one, BuiltImage)]
    return [
        folder("blobs/"),
        folder("blobs/sha256/"),
        *(Member(blob_name(digest), blob) for digest, blob in sorted(blobs.items())),
        json_member("index.json", {"schemaVersion": 2, "manifests": listed}),
        json_member("manifest.json", [_entry(one, name) for one, name in singles]),
        json_member("oci-layout", {"imageLayoutVersion": "1.0.0"}),
    ]


def _entry(built: BuiltImage, name: str) -> dict[str, object]:
    return {
        "Config": blob_name(built.config_digest),
        "RepoTags": [name.removeprefix("docker.io/library/")],
        "Layers": [blob_name(layer.digest) for layer in built.layers],
    }


def old_docker(built: BuiltImage, *, tag: str = "thing:v1") -> list[Member]:
    """What `docker save` wrote before 25: layers by an id, links where a layer comes again, a config by its digest."""
    members, seen, paths = [], dict[str, str](), []
    for number, layer in enumerate(built.layers):
        where = f"{number:064x}"
        paths.append(f"{where}/layer.tar")
        inner = gzip.decompress(layer.blob)
        first = seen.setdefault(layer.diff_id, where)
        data = Member(paths[-1], inner) if first == where else symlink(paths[-1], f"../{first}/layer.tar")
        members += [folder(f"{where}/"), Member(f"{where}/VERSION", b"1.0"), json_member(f"{where}/json", {}), data]
    config = f"{built.config_digest.removeprefix('sha256:')}.json"
    entry = {"Config": config, "RepoTags": [tag], "Layers": paths}
    return [*members, Member(config, built.config), json_member("manifest.json", [entry])]


def skopeo_docker(built: BuiltImage) -> list[Member]:
    """What skopeo and podman write: layers by their diffID, with docker's old folders as links to them."""
    layers = {layer.diff_id.removeprefix("sha256:"): gzip.decompress(layer.blob) for layer in built.layers}
    config = f"{built.config_digest.removeprefix('sha256:')}.json"
    paths = [f"{layer.diff_id.removeprefix('sha256:')}.tar" for layer in built.layers]
    return [
        *(Member(f"{name}.tar", inner) for name, inner in layers.items()),
        Member(config, built.config),
        *(symlink(f"{n:064x}/layer.tar", f"../{path}") for n, path in enumerate(paths)),
        json_member("manifest.json", [{"Config": config, "RepoTags": ["docker.io/library/thing:v1"], "Layers": paths}]),
        json_member("repositories", {"thing": {"v1": "0"}}),
    ]


def blob_name(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def tar(members: Iterable[Member], *, end: int = 1024, form: Literal[0, 1, 2] = tarfile.PAX_FORMAT) -> bytes:
    """A tar as Go writes it: two blocks of zeros at the end."""
    out = bytearray()
    for member in members:
        out += member.info.tobuf(form, "utf-8", "surrogateescape")
        out += member.data + bytes(-len(member.data) % 512)
    return bytes(out) + bytes(end)


def swap(members: Sequence[Member], name: str, data: bytes) -> list[Member]:
    """The members with the bytes of one replaced."""
    assert any(member.name == name for member in members)
    return [replace(member, data=data) if member.name == name else member for member in members]


def drop(members: Sequence[Member], name: str) -> list[Member]:
    """The members without one."""
    assert any(member.name == name for member in members)
    return [member for member in members if member.name != name]


def packed(data: bytes, how: str) -> bytes:
    if how == "gzip":
        return gzip.compress(data, mtime=0)
    if how == "xz":
        return lzma.compress(data)
    if how == "bzip2":
        return bz2.compress(data)
    return zstd.compress(data) if how == "zstd" else data


def unpack(members: Iterable[Member], where: Path) -> Path:
    """The members as a folder."""
    for member in members:
        path = where / member.name
        if member.type == tarfile.DIRTYPE:
            path.mkdir(parents=True, exist_ok=True)
        elif member.type == tarfile.SYMTYPE:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(member.link)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(member.data)
    return where


def opened(data: bytes, *, layers: bool = True) -> ArchiveStore:
    """The archive that `data` is, read through a pipe."""
    return open_archive("-", stdin=io.BytesIO(data), layers=layers)


def codes(store: ArchiveStore) -> set[str]:
    return {problem.code for problem in store.problems}
