"""Where containerd listens: what the user says, else the first of the usual sockets that exists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from auditor.errors import StoreUnreachable, UsageError

#: Relative to the root of the file system, most usual first: containerd itself, k3s and rke2, k0s, microk8s, and the
#: daemon that dockerd starts for itself.
USUAL_SOCKETS = (
    "run/containerd/containerd.sock",
    "run/k3s/containerd/containerd.sock",
    "run/k0s/containerd.sock",
    "var/snap/microk8s/common/run/containerd.sock",
    "run/docker/containerd/containerd.sock",
)
ADDRESS_VARIABLE = "CONTAINERD_ADDRESS"


def discover(address: str | None, *, environ: Mapping[str, str], root: Path = Path("/")) -> Path:
    """The socket to connect to: `address`, else the environment's, else the first usual one that exists.

    `root` is where the usual sockets are looked for. Raises UsageError for an address that is no Unix socket's,
    StoreUnreachable where nothing was said and none exists.
    """
    said = address or environ.get(ADDRESS_VARIABLE)
    if said:
        return socket_path(said)
    for candidate in (root / usual for usual in USUAL_SOCKETS):
        if _exists(candidate):
            return candidate
    raise StoreUnreachable(
        "no containerd socket found",
        hint=f"is containerd running here? Name its socket with --address or {ADDRESS_VARIABLE}; looked for "
        + ", ".join(f"/{usual}" for usual in USUAL_SOCKETS),
    )


def socket_path(address: str) -> Path:
    """The path in `address`: a path, `unix:path` or `unix:///path`. Raises UsageError for any other scheme."""
    path = address
    for prefix in ("unix://", "unix:"):
        if address.startswith(prefix):
            path = address.removeprefix(prefix)
            break
    if "://" in path or not path:
        raise UsageError(
            f"{address!r} is not the address of a containerd",
            hint="give the path of its socket, such as /run/containerd/containerd.sock",
        )
    return Path(path).absolute()


def _exists(path: Path) -> bool:
    """Whether it is there as far as we may see; a folder closed to us counts, so that the error can say forbidden."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True
