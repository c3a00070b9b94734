"""A daemon whose records, documents, labels and names are changed: `check`, `tree` and `export` end in order."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auditor.containerd._proto import content_pb2, images_pb2, introspection_pb2, snapshots_pb2
from tests import images
from tests.contract.small_containerd import SmallContainerd, World
from tests.lab.checked import auditor_here
from tests.soak import mutate
from tests.soak.record import Outcome, Recorder, fuzz
from tests.unit import archives

_FORMATS = ("table", "json", "ndjson", "prometheus", "junit", "markdown", "html")


def run(seconds: float, folder: Path) -> Outcome:
    """Fuzz what a daemon tells."""
    os.environ["AUDITOR_DEBUG"] = "1"
    world = World()
    with SmallContainerd(folder, world) as daemon:
        return fuzz(Recorder("documents", seconds), make, lambda data: judge(data, world, daemon.socket, folder))


def make(chance: random.Random) -> bytes:
    """Return a whole daemon as JSON, with some changes; blobs are text in Latin-1."""
    one, two = archives.image(seed="one"), archives.image(seed=str(chance.randrange(3)))
    built = chance.choice((one, images.index([one, two]), images.index([one], attestations=True)))
    blobs = dict(built.blobs)
    target = built.target
    if chance.random() < 0.7:
        digest = chance.choice([name for name, data in blobs.items() if data[:1] == b"{"])
        data = mutate.json_bytes(mutate.json_value(json.loads(blobs[digest]), chance, changes=2), chance)
        blobs[digest if chance.random() < 0.3 else images.sha256(data)] = data
        if digest == target.digest:
            target = images.Descriptor(target.media_type, images.sha256(data), len(data))
    world: Any = {
        "images": [{"name": "r.example/a:1", "labels": {"a": "b"}, **_target(target)}],
        "infos": [{"digest": name, "size": len(data), "labels": _labels(data, blobs)} for name, data in blobs.items()],
        "blobs": {name: data.decode("latin-1") for name, data in blobs.items()},
        "snapshots": [*_snapshots(one), *(_snapshots(two) if two.digest != one.digest else ())],
    }
    return json.dumps(mutate.json_value(world, chance, changes=chance.choice((0, 1, 2, 6)))).encode()


def _target(target: images.Descriptor) -> dict[str, object]:
    return {"digest": target.digest, "size": target.size, "media_type": target.media_type}


def _labels(data: bytes, blobs: Mapping[str, bytes]) -> dict[str, str]:
    """Labels as a pull sets them: a document's children, the origin."""
    children = [digest for digest in blobs if data[:1] == b"{" and digest.encode() in data]
    labels = {f"containerd.io/gc.ref.content.{n}": digest for n, digest in enumerate(children)}
    return {**labels, "containerd.io/distribution.source.r.example": "a"}


def _snapshots(built: images.BuiltImage) -> list[dict[str, object]]:
    parents = ("", *built.chain_ids)
    return [
        {"name": chain, "parent": parent, "kind": snapshots_pb2.COMMITTED, "labels": {}}
        for chain, parent in zip(built.chain_ids, parents, strict=False)
    ]


def judge(data: bytes, world: World, socket: Path, folder: Path) -> str:
    """Check the daemon in one format, show its trees and export it."""
    _load(world, json.loads(data))
    output_format = _FORMATS[len(data) % len(_FORMATS)]
    address = ("--address", socket)
    done = auditor_here("check", *address, "--verify", "layers", "--format", output_format, "--content-root", "none")
    auditor_here("tree", *address, "--content-root", "none")
    target = folder / "out.tar"
    target.unlink(missing_ok=True)
    auditor_here("export", *address, "--content-root", "none", "-o", target, "r.example/a:1")
    return f"exit {done.status}"


def _load(world: World, value: Any) -> None:
    """Put into a world what protobuf can hold of the value."""
    value = value if isinstance(value, dict) else {}
    world.infos = list(_made(content_pb2.Info, value.get("infos")))
    world.blobs = {key: _bytes(data) for key, data in _pairs(value.get("blobs"))}
    world.images = list(_images(value.get("images")))
    world.snapshots = {"overlayfs": list(_made(snapshots_pb2.Info, value.get("snapshots")))}
    world.plugins = [
        introspection_pb2.Plugin(type="io.containerd.snapshotter.v1", id="overlayfs"),
        introspection_pb2.Plugin(type="io.containerd.content.v1", id="content"),
    ]


def _images(rows: Any) -> Any:
    for row in rows if isinstance(rows, list) else ():
        fields = dict(_pairs(row))
        target = {key: fields.pop(key) for key in ("digest", "size", "media_type") if key in fields}
        for image in _made(images_pb2.Image, [fields]):
            for descriptor in _made(type(image.target), [target]):
                image.target.CopyFrom(descriptor)
            yield image


def _made(kind: Any, rows: Any) -> Any:
    """Messages of a type; a field that protobuf refuses is left out."""
    for row in rows if isinstance(rows, list) else ():
        message = kind()
        for key, value in _pairs(row):
            try:
                if isinstance(value, dict):
                    getattr(message, key).update({k: v for k, v in value.items() if isinstance(v, str)})
                else:
                    setattr(message, key, value)
            except (TypeError, ValueError, AttributeError):
                continue
        yield message


def _pairs(value: Any) -> Any:
    return value.items() if isinstance(value, dict) else ()


def _bytes(value: Any) -> bytes:
    return value.encode("latin-1", "replace") if isinstance(value, str) else b""
