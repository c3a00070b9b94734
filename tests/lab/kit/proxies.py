"""Real lazy snapshotters as containerd's proxy plugins: soci-snapshotter and nydus-snapshotter of Debian."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests import images
from tests.lab.kit.binaries import program
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.process import PATH, Process, ServerError, containment
from tests.lab.kit.snapshotters import unpack_config

NAMES: Final = ("soci", "nydus")

_PROXY: Final = """
[proxy_plugins.{name}]
type = "snapshot"
address = "{socket}"
"""
_MIRROR: Final = """
[[resolver.host."{host}".mirrors]]
host = "{mirror}"
"""
#: nydus-snapshotter reads a configuration of nydusd, which Debian does not have, although it starts none.
_NYDUSD: Final = {"device": {"backend": {"type": "registry", "config": {}}, "cache": {"type": "blobcache"}}}
_INDEXING: Final = "indexing"
_NYDUS_BLOB: Final = "application/vnd.oci.image.layer.nydus.blob.v1"


@contextmanager
def proxy(
    name: str, version: str, base: Path, *, trusted: Path, plain: Mapping[str, str]
) -> Iterator[dict[str, object]]:
    """Run a snapshotter and give the options of a Containerd that uses it.

    Args:
        name: One of `NAMES`.
        version: The release of containerd.
        base: A folder of the test.
        trusted: The certificate that a registry's is signed with.
        plain: Hosts of registries, each with one that has the same data without TLS: soci reads its indexes with TLS
            and layers of registries on 127.0.0.1 without.

    """
    socket = base / f"{name}.sock"
    command = _soci(socket, base, plain) if name == "soci" else _nydus(socket, base)
    running = Process(command, log=base / f"{name}.log", env={"SSL_CERT_FILE": str(trusted)})
    try:
        running.wait_until(socket.exists)
        config = _PROXY.format(name=name, socket=socket) + unpack_config(name, version)
        yield {"snapshotter": name, "extra_config": config, "snapshot_annotations": True}
    finally:
        running.stop()


def _soci(socket: Path, base: Path, plain: Mapping[str, str]) -> list[str | Path]:
    config = base / "soci.toml"
    config.write_text("".join(_MIRROR.format(host=host, mirror=mirror) for host, mirror in plain.items()))
    binary = program("soci-snapshotter", "usr/bin/soci-snapshotter-grpc")
    return [binary, "--address", socket, "--root", base / "soci", "--config", config]


def _nydus(socket: Path, base: Path) -> list[str | Path]:
    config = base / "nydusd.json"
    config.write_text(json.dumps(_NYDUSD))
    binary = program("nydus-snapshotter", "usr/bin/containerd-nydus-grpc")
    options = ("--daemon-mode", "none", "--log-to-stdout", "--nydusd-config", config)
    return [binary, "--address", socket, "--root", base / "nydus", *options]


def nydus_image(name: str) -> images.BuiltImage:
    """Return an image as nydus converts one: a blob that its snapshotter reads on demand, and a bootstrap."""
    data = images.noise(name, 20_000)
    blob = images.raw_layer(data, images.sha256(data), compression="none", media_type=_NYDUS_BLOB)
    bootstrap = images.layer({"image/": b"", "image/image.boot": images.noise("boot", 4096)})
    return images.image(
        [
            replace(blob, annotations={"containerd.io/snapshot/nydus-blob": "true"}),
            replace(bootstrap, annotations={"containerd.io/snapshot/nydus-bootstrap": "true"}),
        ]
    )


def soci_index(daemon: Containerd, reference: str, ca: Path, *, least: int) -> None:
    """Index the layers of an image from `least` bytes on, in a namespace of its own, and push the index."""
    daemon.ctr("content", "fetch", "--tlscacert", ca, reference, namespace=_INDEXING)
    create = ("create", "--min-layer-size", str(least), reference)
    _soci_commands(daemon, ca, _INDEXING, create, ("push", "--existing-index", "allow", reference))


def soci_pull(daemon: Containerd, reference: str, ca: Path) -> None:
    """Pull an image lazily; layers without an index are fetched by the snapshotter itself."""
    _soci_commands(daemon, ca, CRI_NAMESPACE, ("image", "rpull", reference))


def _soci_commands(daemon: Containerd, ca: Path, namespace: str, *commands: tuple[str, ...]) -> None:
    """Run soci's command line with an empty /var/lib, where it keeps indexes under a name that no option changes."""
    soci = str(program("soci-snapshotter", "usr/bin/soci"))
    head = (soci, "--address", str(daemon.socket), "--namespace", namespace)
    lines = [" ".join((*head, *command)) for command in commands]
    script = " && ".join(("mount -t tmpfs lab /var/lib", *lines))
    command = [*containment(), "sh", "-c", script]
    env = {"PATH": PATH, "SSL_CERT_FILE": str(ca)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise ServerError(f"soci {commands[0][0]}: exit {done.returncode}: {done.stderr or done.stdout}")
