"""Taking the words of real programs when something is wrong, and asking the auditor what they mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc
import msgspec

from auditor.diagnose.model import Diagnosis
from tests.lab.checked import Run, auditor_here
from tests.lab.kit.cri import ImageService
from tests.lab.kit.daemon import Containerd

#: What each release runs a pod's sandbox from; an image under this name needs no registry.
PAUSE: Final[Mapping[str, str]] = {
    "1.6": "registry.k8s.io/pause:3.6",
    "1.7": "registry.k8s.io/pause:3.8",
    "2.1": "registry.k8s.io/pause:3.10",
}


def modern(daemon: Containerd) -> bool:
    """Whether this release's ctr goes through the transfer service unless told otherwise."""
    return not daemon.version.startswith("1.")


def ask(daemon: Containerd, text: str, *more: str) -> tuple[Diagnosis, int]:
    """Diagnose a text against a daemon, as JSON, and return the exit status too."""
    run = auditor_here("diagnose", "--address", daemon.socket, "--format", "json", *more, text)
    return answer(run), run.status


def answer(run: Run) -> Diagnosis:
    """The diagnosis that a run printed as JSON."""
    return msgspec.json.decode(run.out.encode(), type=Diagnosis)


def ctr(daemon: Containerd, *arguments: str | Path, namespace: str | None = None) -> str:
    """What ctr says on the way to failing; empty where it does not fail."""
    done = daemon.ctr(*arguments, check=False, namespace=namespace)
    return done.stderr.strip() or "(silent)" if done.returncode else ""


def cri_pull(daemon: Containerd, reference: str, *, credentials: tuple[str, str] | None = None) -> str:
    """What a kubelet is told when it pulls; empty where the pull succeeds."""
    try:
        daemon.cri_pull(reference, credentials=credentials)
    except grpc.RpcError as error:
        return _words(error)
    return ""


def cri_remove(daemon: Containerd, reference: str) -> str:
    """What a kubelet is told when it removes an image."""
    try:
        with ImageService(daemon.socket) as service:
            service.remove(reference)
    except grpc.RpcError as error:
        return _words(error)
    return ""


def run_pod(daemon: Containerd) -> str:
    """What a kubelet is told when it starts a pod on the host's network, for which no plugin of a network is asked.

    The request is put together by hand: of all the messages of the runtime service it needs five fields.
    """
    metadata = field(1, b"pod") + field(2, b"uid") + field(3, b"default")
    on_host = field(2, field(1, bytes([1 << 3, 2])))  # security_context.namespace_options.network = NODE
    request = field(1, field(1, metadata) + field(3, str(daemon.base).encode()) + field(8, on_host))
    channel = grpc.insecure_channel(f"unix://{daemon.socket}", options=[("grpc.default_authority", "localhost")])
    with channel:
        call = channel.unary_unary("/runtime.v1.RuntimeService/RunPodSandbox", bytes, bytes)
        try:
            call(request, timeout=60)
        except grpc.RpcError as error:
            return _words(error)
    return ""


def field(number: int, value: bytes) -> bytes:
    """A field of a protobuf message that has a length."""
    size, length = len(value), b""
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def _words(error: grpc.RpcError) -> str:
    """The error as crictl and the kubelet's log print it."""
    return f"rpc error: code = {error.code().name.title().replace('_', '')} desc = {error.details()}"


def failures(daemon: Containerd, name: str, elsewhere: str, base: Path) -> Iterator[tuple[str, str]]:
    """Whatever ctr and the CRI say of an image, each with what was done; only what fails."""
    with _mounted(daemon, base / "mnt"):
        yield from ((what, text) for what, text in _attempts(daemon, name, elsewhere, base) if text)


def _attempts(daemon: Containerd, name: str, elsewhere: str, base: Path) -> Iterator[tuple[str, str]]:
    """What was done and what was said, one at a time.

    Pulls come last: they may bring back what was absent, so each text is to be explained before the next is asked for.
    """
    local: list[tuple[str, ...]] = [("images", "export", "--local"), ("images", "push", "--local", "--plain-http")]
    for verb in [("images", "export"), ("images", "push", "--plain-http"), *(local if modern(daemon) else [])]:
        where: tuple[str | Path, ...] = (base / "image.tar", name) if "export" in verb else (elsewhere, name)
        yield " ".join(verb), ctr(daemon, *verb, *where)
    yield "convert", ctr(daemon, "images", "convert", "--oci", name, "lab.example/converted:1")
    yield "mount", ctr(daemon, "images", "mount", name, base / "mnt")
    yield "cri pull", cri_pull(daemon, name)
    yield "pull", ctr(daemon, "images", "pull", "--plain-http", name)


@contextmanager
def _mounted(daemon: Containerd, folder: Path) -> Iterator[Path]:
    """A folder that `images mount` can use, free again afterwards."""
    folder.mkdir()
    try:
        yield folder
    finally:
        daemon.ctr("images", "unmount", folder, check=False)
