"""The samples under reports/samples, made by the program from real stores: `python -m tests.lab.samples [FOLDER]`.

What differs from one run or machine to the next (the port, the socket, the host, times, the daemon's release, what
zlib makes of bytes) is replaced or avoided, so that the samples change only when the program does.
"""

from __future__ import annotations

import re
import struct
import sys
import zlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from auditor.cli.render import advice
from auditor.formats import json_report, table
from auditor.model.findings import Report
from tests import images
from tests.lab.checked import auditor_here
from tests.lab.kit import faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.process import scratch, sweep
from tests.lab.kit.registry import Registry
from tests.program import ROOT

FOLDER: Final = ROOT / "reports" / "samples"
VERSION: Final = VERSIONS[-1]
HOST: Final = "registry.example"
SOCKET: Final = "/run/containerd/containerd.sock"
BEGUN: Final = datetime(2026, 1, 15, 3, 0, tzinfo=UTC)
TOOK: Final = timedelta(seconds=0.25)
STALE: Final = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)

Scenario = Callable[[Containerd, Registry], None]


def main(arguments: Sequence[str]) -> int:
    """Write all samples."""
    write(make(), arguments)
    return 0


def write(made: Mapping[str, str], arguments: Sequence[str]) -> None:
    """Write samples by the names of their files, into the folder that was given or where they belong."""
    folder = Path(arguments[0]) if arguments else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        (folder / name).write_text(text)
        print(folder / name)


def make() -> dict[str, str]:
    """All samples by the names of their files."""
    sweep()
    found: dict[str, str] = {}
    with scratch() as base, Registry(base / "registry") as registry:
        for name, (scenario, discard, options) in SCENARIOS.items():
            folder = base / name
            folder.mkdir()
            with Containerd(VERSION, folder, discard_unpacked_layers=discard) as daemon:
                scenario(daemon, registry)
                found |= _sample(name, daemon, registry, options)
                if name == "bug":
                    found["tree.txt"] = _tree(daemon, registry)
    return found


def store(name: str, *, of: int, platform: str = "linux/amd64") -> images.BuiltImage:
    """An image of a plausible service."""
    return images.image([layer(f"{name}-{number}") for number in range(of)], platform=platform)


def layer(seed: str, *, block: int = 0xFFFF) -> images.BuiltLayer:
    """A layer whose bytes no release of zlib has a say in; `block` makes the same layer another blob."""
    inner = images.tar(images.files(seed, kilobytes=32))
    return images.raw_layer(stored(inner, block=block), images.sha256(inner))


def stored(data: bytes, *, block: int) -> bytes:
    """Gzip without compression, in blocks of `block` bytes: RFC 1952 round stored blocks of RFC 1951, 3.2.4."""
    parts = [data[start : start + block] for start in range(0, len(data), block)]
    out = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    for number, part in enumerate(parts, 1):
        out += struct.pack("<BHH", number == len(parts), len(part), len(part) ^ 0xFFFF) + part
    return out + struct.pack("<II", zlib.crc32(data), len(data))


def _index(name: str, *, of: int = 3) -> images.BuiltIndex:
    both = [store(name, of=of), store(name, of=of, platform="linux/arm64")]
    return images.index(both, attestations=True)


def _healthy(daemon: Containerd, registry: Registry) -> None:
    """Two services from one base, as a kubelet pulls them."""
    daemon.cri_pull(registry.push(_index("web"), "shop/web:1.4"))
    daemon.cri_pull(registry.push(_index("api"), "shop/api:2.0"))
    daemon.ctr("content", "fetch", "--plain-http", registry.push(store("tools", of=1), "ops/tools:7"))


def _bug(daemon: Containerd, registry: Registry) -> None:
    """The missing-blobs bug: a base that was packed twice, and other platforms that nobody pulled."""
    base = ("base-0", "base-1")
    first = images.image([*(layer(seed) for seed in base), layer("billing")])
    second = images.image([*(layer(seed, block=0x8000) for seed in base), layer("orders")])
    arm = store("orders", of=3, platform="linux/arm64")
    daemon.cri_pull(registry.push(first, "shop/billing:3.1"))
    daemon.cri_pull(registry.push(images.index([second, arm], attestations=True), "shop/orders:3.1"))


def _damaged(daemon: Containerd, registry: Registry) -> None:
    """What a power cut, a bad disk and a clean-up by hand leave."""
    _healthy(daemon, registry)
    web, api, tools = store("web", of=3), store("api", of=3), store("tools", of=1)
    faults.delete_file(daemon, web.layers[1].digest)
    faults.empty_file(daemon, web.layers[2].digest)
    faults.flip(daemon, api.layers[0].digest, offset=100)
    faults.remove_record(daemon, api.config_digest)
    faults.remove_record(daemon, tools.layers[0].digest)
    lost = store("lost", of=2)
    daemon.cri_pull(registry.push(lost, "shop/lost:1"))
    faults.drop_middle_snapshot(daemon, lost.chain_ids, 0)
    faults.strip_reference(daemon, lost.digest, lost.layers[1].digest)
    faults.stale_ingest(daemon, "layer-sha256:stuck", age=datetime.now(UTC) - STALE)


def _discarded(daemon: Containerd, registry: Registry) -> None:
    """A node that throws layers away once they are unpacked, as EKS and GKE set theirs."""
    _healthy(daemon, registry)
    daemon.force_gc()


#: By name: what to do to the store, whether the daemon discards layers, and how to look.
SCENARIOS: Final[Mapping[str, tuple[Scenario, bool, tuple[str, ...]]]] = {
    "bug": (_bug, False, ()),
    "damaged": (_damaged, False, ("--verify", "digests")),
    "healthy": (_healthy, False, ("--verify", "digests")),
    "discarded": (_discarded, True, ()),
}
#: Samples of what is normal show it.
VERBOSE: Final = ("healthy", "discarded")


def _sample(name: str, daemon: Containerd, registry: Registry, options: Sequence[str]) -> dict[str, str]:
    ran = auditor_here("check", "--format", "json", "--address", daemon.socket, *options)
    report = _fixed(json_report.load(_neutral(ran.out, daemon, registry).encode(), name=name))
    return {f"{name}.json": json_report.render(report), f"{name}.txt": as_text(name, report)}


def as_text(name: str, report: Report) -> str:
    """A sample as a terminal shows it."""
    return table.render(report, advice=advice(), style=table.Style(verbose=name in VERBOSE))


def _tree(daemon: Containerd, registry: Registry) -> str:
    reference = registry.reference("shop/orders:3.1")
    ran = auditor_here("tree", "--address", daemon.socket, "--namespace", CRI_NAMESPACE, reference)
    return _neutral(ran.out, daemon, registry)


def _neutral(text: str, daemon: Containerd, registry: Registry) -> str:
    """Replace what is this run's own."""
    text = text.replace(registry.host, HOST).replace(str(daemon.socket), SOCKET)
    text = text.replace(str(daemon.content_root), "/var/lib/containerd/io.containerd.content.v1.content")
    return re.sub(r"\b2026-01-02T12:0\d:\d\d(\.\d+)?", "2026-01-02T12:00:00", text)


def _fixed(report: Report) -> Report:
    return msgspec.structs.replace(
        report,
        source=msgspec.structs.replace(report.source, version=VERSION),
        tool=msgspec.structs.replace(report.tool, version="0.1.0"),
        host="node-1.example",
        started_at=BEGUN,
        finished_at=BEGUN + TOOK,
        duration_seconds=TOOK.total_seconds(),
        facts={"kernel": "6.1.0-31-amd64", "filesystem": "ext4", "mount_options": "rw,relatime"},
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
