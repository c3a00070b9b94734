"""Roots of a stopped containerd, made by hand: real images, a database that the tests write."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests import images
from tests.unit.bbolt.bolt_files import Tree, Writer, database

TIME = b"\x01" + struct.pack(">qih", 63_900_000_000, 5_000, -1)
META = Path("io.containerd.metadata.v1.bolt", "meta.db")
BLOBS = Path("io.containerd.content.v1.content", "blobs", "sha256")


def image(name: str) -> images.BuiltImage:
    """Return an image of one layer."""
    return images.image([images.layer({f"etc/{name}": name.encode()})])


def disk(folder: Path, *held: images.Built) -> Path:
    """Write the blobs of images, and an empty place for the database."""
    (folder / BLOBS).mkdir(parents=True)
    (folder / META).parent.mkdir()
    for each in held:
        for digest, data in each.blobs.items():
            (folder / BLOBS / digest.partition(":")[2]).write_bytes(data)
    return folder


def varint(value: int) -> bytes:
    """Encode a number as Go's PutVarint."""
    left, out = value << 1, b""
    while left > 127:
        out += bytes([left & 127 | 128])
        left >>= 7
    return out + bytes([left])


def record(built: images.Built) -> Tree:
    """Return the record of an image."""
    target: Tree = {
        b"digest": built.digest.encode(),
        b"mediatype": built.target.media_type.encode(),
        b"size": varint(built.target.size),
    }
    return {b"createdat": TIME, b"updatedat": TIME, b"target": target, b"labels": {b"kept": b"yes"}}


def meta_db(named: Mapping[str, images.Built], *, namespace: str = "k8s.io", writer: Writer | None = None) -> bytearray:
    """Return a database with these images and a record of each of their blobs."""
    blobs: Tree = {
        digest.encode(): {b"size": varint(len(data)), b"createdat": TIME, b"labels": {b"a": b"b"}}
        for each in named.values()
        for digest, data in each.blobs.items()
    }
    records: Tree = {name.encode(): record(each) for name, each in named.items()}
    space: Tree = {b"images": records, b"content": {b"blob": blobs}}
    return database({b"v1": {b"version": b"\x06", namespace.encode(): space}}, writer=writer)


def pods(named: Sequence[tuple[str, str]]) -> bytes:
    """Return `kubectl get pods -o json` of containers with these images and ids."""
    statuses = [{"image": name, "imageID": image_id} for name, image_id in named]
    return json.dumps({"items": [{"status": {"containerStatuses": statuses}}]}).encode()
