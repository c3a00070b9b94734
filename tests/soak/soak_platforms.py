"""Indexes of any platforms: the manifest that `ctr images mount --platform` of each release takes is the one chosen."""

from __future__ import annotations

import json
import random
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from auditor import containerd
from auditor.audit import collect
from auditor.containerd.writable_store import WritableContainerdStore
from auditor.errors import NothingExamined
from auditor.model import platforms
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.model.store import Image
from tests import images
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.soak.record import Failed, Outcome, Recorder, fuzz

_NAMESPACE: Final = "platforms"
_LAYERS: Final = [images.layer({f"child-{number}": b"x"}) for number in range(5)]
_VARIANTS: Final = {
    "amd64": ("", "v1", "v2", "v3", "V2", "2", "x"),
    "arm": ("", "v5", "v6", "v7", "v8", "7"),
    "arm64": ("", "v8", "8", "v8.2", "v9", "v9.0", "v9.2"),
    "386": ("",),
    "x86_64": ("",),
    "aarch64": ("",),
    "armhf": ("",),
    "unknown": ("",),
    "": ("",),
}
_SYSTEMS: Final = ("linux",) * 6 + ("windows", "windows", "Linux", "", "unknown")
_BUILDS: Final = ("", "10.0.17763.1", "10.0.20348.2", "10.0.26100.1", "6.3.9600", "10.0")
_WANTED: Final = (
    "linux/amd64 linux/amd64/v2 linux/amd64/v3 linux/386 linux/arm/v5 linux/arm/v6 linux/arm linux/arm/v8 linux/arm64 "
    "linux/arm64/v9 windows/amd64 windows(10.0.17763)/amd64 windows(10.0.20348)/amd64 windows(10.0.26100)/amd64 "
    "linux/arm64/v8.2 linux/arm64/v9.2 linux(+a)/amd64"
).split()


def run(seconds: float, folder: Path) -> Outcome:
    """Compare the choices of a daemon of each release with those of an audit."""
    with ExitStack() as running:
        daemons = []
        for version in VERSIONS:
            base = folder / version
            base.mkdir()
            daemons.append(running.enter_context(Containerd(version, base)))
        return fuzz(Recorder("platforms", seconds), make, partial(judge, daemons), suffix=".json")


def make(chance: random.Random) -> bytes:
    """Return a wanted platform, and the platforms that the children of an index and their configs state."""
    children = []
    for _ in range(chance.randrange(1, len(_LAYERS) + 1)):
        stated = None if chance.randrange(6) == 0 else _platform(chance)
        children.append([stated, _platform(chance) if stated is None or chance.randrange(8) == 0 else stated])
    return json.dumps({"release": chance.randrange(3), "wanted": chance.choice(_WANTED), "children": children}).encode()


def _platform(chance: random.Random) -> dict[str, Any]:
    architecture = chance.choice(list(_VARIANTS))
    found: dict[str, Any] = {
        "os": chance.choice(_SYSTEMS),
        "architecture": architecture,
        "variant": chance.choice(_VARIANTS[architecture]),
        "os.version": chance.choice(_BUILDS) if chance.randrange(3) == 0 else "",
    }
    found |= {"os.features": ["a"]} if chance.randrange(8) == 0 else {}
    return {key: value for key, value in found.items() if value}


def judge(daemons: list[Containerd], data: bytes) -> str:
    """Write an index to one daemon, mount it, and audit it."""
    try:
        case = json.loads(data)
        daemon, wanted, built = daemons[case["release"]], case["wanted"], _index(case["children"])
    except (ValueError, KeyError, TypeError):
        return "no case"  # an input that is being made smaller
    if case["release"] == 0 and any(stated is None and own and "variant" in own for stated, own in case["children"]):
        return "left out"  # 1.6 reads no variant from a config
    name = f"case/{built.digest[-12:]}:1"
    with containerd.connect_writable(daemon.socket) as store:
        _write(store, built, name)
        taken = _mounted(daemon, name, wanted)
        if taken is None:
            return "not a platform of this release"
        chosen = _chosen(store, name, wanted)
    if chosen is None:
        return "not examined"
    if chosen != taken:
        raise Failed(f"{daemon.version} takes {taken}, the audit {chosen}, for {wanted} of {case['children']}")
    return "taken" if taken else "no match"


def _index(children: list[list[dict[str, Any] | None]]) -> images.Built:
    listed: list[dict[str, Any]] = []
    blobs: dict[str, bytes] = {}
    for number, (stated, own) in enumerate(children):
        rootfs = {"type": "layers", "diff_ids": [_LAYERS[number].diff_id]}
        config = images.dump({**(own or {}), "config": {}, "rootfs": rootfs})
        built = images.assemble(config, images.CONFIG_TYPES["oci"], [_LAYERS[number]])
        blobs |= built.blobs
        listed.append(built.target.json() | ({} if stated is None else {"platform": stated}))
    document = images.dump({"schemaVersion": 2, "mediaType": images.INDEX_TYPES["oci"], "manifests": listed})
    target = images.Descriptor(images.INDEX_TYPES["oci"], images.sha256(document), len(document))
    return images.Built(target, (target,), {**blobs, target.digest: document})


def _write(store: WritableContainerdStore, built: images.Built, name: str) -> None:
    lease = store.grant(_NAMESPACE, seconds=3600)
    held = store.inventory(_NAMESPACE).blobs
    for digest, data in built.blobs.items():
        if digest not in held:
            store.fill(lease, Digest(digest), [data], size=len(data))
            store.commit(lease, Digest(digest), size=len(data), expected=Digest(digest))
    target = Descriptor(built.target.media_type, Digest(built.digest), built.target.size)
    if name not in {image.name for image in store.inventory(_NAMESPACE).images}:
        store.create_image(lease, Image(_NAMESPACE, name, target))


def _mounted(daemon: Containerd, name: str, wanted: str) -> list[int] | None:
    """Return the number of the child that is mounted; None where the release does not know the wanted platform."""
    folder = daemon.base / "mounted"
    folder.mkdir(exist_ok=True)
    ran = daemon.ctr("images", "mount", "--platform", wanted, name, folder, check=False, namespace=_NAMESPACE)
    if ran.returncode:
        if "no match for platform" in ran.stderr:
            return []
        if "must match" in ran.stderr:
            return None
        raise Failed(ran.stderr.strip()[-300:])
    found = [int(path.name.removeprefix("child-")) for path in folder.iterdir()]
    daemon.ctr("images", "unmount", "--rm", folder, namespace=_NAMESPACE)
    return found


def _chosen(store: WritableContainerdStore, name: str, wanted: str) -> list[int] | None:
    """Return the numbers of the children that an audit of the image wants and takes for runnable."""
    asked = collect.Request(namespaces=(_NAMESPACE,), images=(name,), platforms=(platforms.parse(wanted),))
    try:
        evidence = collect.collect(store, asked, known={}, now=datetime.now(UTC))
    except NothingExamined:  # of an image of which no platform is known, too
        return None
    (graph,) = evidence.views[0].graphs
    inside = [evidence.views[0].content(node.digest) for node in graph.manifests if node.wanted and not graph.unmatched]
    numbers = {layer.digest: number for number, layer in enumerate(_LAYERS)}
    return [numbers[each.layers[0].descriptor.digest] for each in inside if each is not None]
