"""A containerd of any release in the lab, with roots and a socket of its own and the plugins that images need."""

from __future__ import annotations

import re
import socket as sockets
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

import grpc

from tests.lab.kit.binaries import binary
from tests.lab.kit.cri import CriImage, ImageService
from tests.lab.kit.process import PATH, Process, ServerError

CRI_NAMESPACE: Final = "k8s.io"
#: Field 2 of a deletion of a lease: return after the garbage collection.
SYNC: Final = b"\x10\x01"

# What is slow to load, or would touch the machine, and no image needs.
DISABLED: Final = (
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.internal.v1.tracing",
    "io.containerd.nri.v1.nri",
    "io.containerd.internal.v1.restart",
)

COMMON: Final = """\
root = "{base}/root"
state = "{base}/state"
disabled_plugins = [{disabled}]
[grpc]
address = "{base}/containerd.sock"
[ttrpc]
address = "{base}/containerd.ttrpc.sock"
[debug]
level = "info"
[plugins."io.containerd.internal.v1.opt"]
path = "{base}/opt"
"""

# The CRI moved in 2.0: images to a plugin of their own, the streaming server and the runtime to others.
CRI_1: Final = """\
[plugins."io.containerd.grpc.v1.cri"]
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{base}/cni/bin"
conf_dir = "{base}/cni/conf"
[plugins."io.containerd.grpc.v1.cri".registry]
config_path = "{base}/certs.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"
discard_unpacked_layers = {discard}
disable_snapshot_annotations = {unannotated}
"""
CRI_2: Final = """\
[plugins.'io.containerd.grpc.v1.cri']
stream_server_address = "127.0.0.1"
stream_server_port = "0"
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ["{base}/cni/bin"]
conf_dir = "{base}/cni/conf"
[plugins.'io.containerd.cri.v1.images']
snapshotter = "{snapshotter}"
discard_unpacked_layers = {discard}
disable_snapshot_annotations = {unannotated}
[plugins.'io.containerd.cri.v1.images'.registry]
config_path = "{base}/certs.d"
"""


# A collection otherwise runs a tenth of a second after the start and then four times a second, in the middle of
# whatever a test is doing. This puts it off for longer than any test; one that is asked for runs at once, as ever.
NO_AUTOMATIC_GC: Final = """\
[plugins."io.containerd.gc.v1.scheduler"]
startup_delay = "1h"
pause_threshold = 0.000001
mutation_threshold = 0
"""


class Containerd:
    """A daemon under `base`; starts on entering, stops on leaving. The folder is the caller's to remove.

    Garbage is collected by `force_gc` and by clients that ask; `automatic_gc` restores the schedule containerd has.
    `extra_config` is TOML appended to the configuration. `path` is a folder that is searched for programs before those
    of the machine. `snapshot_annotations` gives snapshotters the labels that lazy ones need. A `hosts.toml` for the CRI
    goes under `certs_dir/<host>/`.
    `patience` is how many seconds the CRI may take to load its images. `variables` are
    added to the daemon's environment.
    The daemon dies with the thread that started it: start it from the one that runs the tests.
    """

    def __init__(
        self,
        version: str,
        base: Path,
        *,
        discard_unpacked_layers: bool = False,
        snapshotter: str = "overlayfs",
        automatic_gc: bool = False,
        extra_config: str = "",
        path: str = "",
        snapshot_annotations: bool = False,
        patience: float = 20,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.version = version
        self.base = base
        self.snapshotter = snapshotter
        self.discard_unpacked_layers = discard_unpacked_layers
        self.automatic_gc = automatic_gc
        self.extra_config = extra_config
        self.path = path
        self.snapshot_annotations = snapshot_annotations
        self.patience = patience
        self.variables = variables
        self.socket = base / "containerd.sock"
        self.root = base / "root"
        self.state = base / "state"
        self.content_root = self.root / "io.containerd.content.v1.content"
        self.certs_dir = base / "certs.d"
        self.log = base / "containerd.log"
        self._binary = binary(version, "containerd")
        self._ctr = binary(version, "ctr")
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start and return once the CRI answers. Raises ServerError with the end of the log."""
        config = self.base / "config.toml"
        self.certs_dir.mkdir(parents=True, exist_ok=True)
        config.write_text(self._config())
        command: list[str | Path] = [self._binary, "--config", config]
        path = f"{self._binary.parent}:{self.path or PATH}:{PATH}"
        self._process = Process(command, log=self.log, env={"PATH": path, **self.variables})
        try:
            self._process.wait_until(self._listening)
            self.cri_wait()
        except BaseException:
            self._process.kill()
            raise

    def stop(self) -> None:
        """End the daemon as an operator would."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """End the daemon with SIGKILL."""
        if self._process is not None:
            self._process.kill()

    def restart(self) -> None:
        """Stop, then start on the same roots; a changed `discard_unpacked_layers` or `snapshotter` takes effect."""
        self.stop()
        self.start()

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerError(f"containerd {self.version} was not started")
        return self._process.pid

    def blob_path(self, digest: str) -> Path:
        """Return where the file of a blob is, or would be."""
        algorithm, _, hexadecimal = digest.partition(":")
        return self.content_root / "blobs" / algorithm / hexadecimal

    def ctr(
        self, *arguments: str | Path, namespace: str | None = None, check: bool = True, stdin: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the daemon's own ctr, by default in the namespace of the CRI; a failure raises with what ctr said."""
        command = self.ctr_command(*arguments, namespace=namespace)
        done = subprocess.run(command, capture_output=True, check=False, timeout=120, input=stdin or b"")
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if check and done.returncode:
            raise ServerError(f"{' '.join(map(str, ('ctr', *arguments)))}: exit {done.returncode}: {err.strip()}")
        return subprocess.CompletedProcess(command, done.returncode, out, err)

    def ctr_command(self, *arguments: str | Path, namespace: str | None = None) -> list[str]:
        """Return the command line that `ctr` would run."""
        head = (self._ctr, "--address", self.socket, "--namespace", namespace or CRI_NAMESPACE)
        return [str(part) for part in (*head, *arguments)]

    def cri_wait(self) -> None:
        """Return when the CRI answers."""
        with ImageService(self.socket) as service:
            service.wait(seconds=self.patience)

    def cri_pull(self, reference: str, *, credentials: tuple[str, str] | None = None) -> str:
        """Pull as a kubelet does and return the image's id, the digest of its config."""
        username, password = credentials or ("", "")
        with ImageService(self.socket) as service:
            return service.pull(reference, username=username, password=password)

    def cri_remove_image(self, reference: str) -> None:
        """Remove an image as a kubelet does."""
        with ImageService(self.socket) as service:
            service.remove(reference)

    def cri_images(self) -> tuple[CriImage, ...]:
        """List the images that the CRI knows."""
        with ImageService(self.socket) as service:
            return service.images()

    def images(self, *, namespace: str | None = None) -> tuple[str, ...]:
        """Return the names of the images in a namespace."""
        return _lines(self.ctr("images", "list", "--quiet", namespace=namespace))

    def blobs(self, *, namespace: str | None = None) -> frozenset[str]:
        """Return the digests that have a record in a namespace, whatever the disk holds."""
        return frozenset(_lines(self.ctr("content", "list", "--quiet", namespace=namespace)))

    def labels(self, digest: str, *, namespace: str | None = None) -> dict[str, str]:
        """Return the labels of a blob's record."""
        for line in _lines(self.ctr("content", "list", namespace=namespace)):
            if line.startswith(f"{digest}\t"):
                cell = re.split(r"\t+", line)[3].strip()
                return {} if cell == "-" else _pairs(cell)
        raise ServerError(f"no record of {digest}")

    def snapshots(self, *, namespace: str | None = None, snapshotter: str | None = None) -> dict[str, str]:
        """Return the committed snapshots, each with its parent ("" where there is none)."""
        listing = self.ctr("snapshots", "--snapshotter", snapshotter or self.snapshotter, "list", namespace=namespace)
        return dict(_snapshot(line) for line in _lines(listing)[1:] if line.split()[-1] == "Committed")

    def force_gc(self, namespace: str | None = None) -> None:
        """Run a garbage collection and return when it is done."""
        self.call("leases.v1.Leases/Create", text_field(1, "lab-gc"), namespace=namespace)
        self.call("leases.v1.Leases/Delete", text_field(1, "lab-gc") + SYNC, namespace=namespace)

    def call(self, method: str, request: bytes, *, namespace: str | None = None) -> bytes:
        """Call a method of a service with an encoded request, which costs a tenth of a start of ctr."""
        address, authority = f"unix://{self.socket}", ("grpc.default_authority", "localhost")
        metadata = (("containerd-namespace", namespace or CRI_NAMESPACE),)
        with grpc.insecure_channel(address, options=[authority]) as channel:
            call = channel.unary_unary(f"/containerd.services.{method}", bytes, bytes)
            answer: bytes = call(request, metadata=metadata, timeout=60)
            return answer

    def _listening(self) -> bool:
        with sockets.socket(sockets.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def _config(self) -> str:
        newer = not self.version.startswith("1.")
        template = f"version = {3 if newer else 2}\n{COMMON}{CRI_2 if newer else CRI_1}"
        text = template.format(
            base=self.base,
            disabled=", ".join(f'"{name}"' for name in DISABLED if not name.endswith(f".{self.snapshotter}")),
            snapshotter=self.snapshotter,
            discard=str(self.discard_unpacked_layers).lower(),
            unannotated=str(not self.snapshot_annotations).lower(),
        )
        whole = f"{text}{'' if self.automatic_gc else NO_AUTOMATIC_GC}{self.extra_config}\n"
        tomllib.loads(whole)
        return whole


def text_field(number: int, text: str) -> bytes:
    """Encode a short text as a field of a protobuf message."""
    assert len(text) < 128
    return bytes([number << 3 | 2, len(text)]) + text.encode()


def _lines(done: subprocess.CompletedProcess[str]) -> tuple[str, ...]:
    return tuple(done.stdout.splitlines())


def _snapshot(line: str) -> tuple[str, str]:
    name, *parent, _kind = line.split()
    return name, parent[0] if parent else ""


def parse_check(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Return what `ctr images check` says of each image: "complete (6/6)", "incomplete (4/6)", …"""
    rows: Sequence[list[str]] = [line.split() for line in _lines(done)[1:]]
    return {row[0]: f"{row[3]} {row[4]}" for row in rows if len(row) > 4}


def _pairs(cell: str) -> dict[str, str]:
    """Read `name=value,…`, where a value may hold commas: the repositories of one host do."""
    pairs: list[str] = []
    for part in cell.split(","):
        if "=" in part:
            pairs.append(part)
        else:
            pairs[-1] += f",{part}"
    return dict(pair.split("=", 1) for pair in pairs)
