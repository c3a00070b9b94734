"""Find containerd's socket: the given address, the environment, or the first usual path that exists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from auditor.errors import StoreUnreachable, UsageError

#: Relative to the root of the file system: containerd, k3s and rke2, k0s, microk8s, and the daemon that dockerd starts.
USUAL_SOCKETS = (
    "run/containerd/containerd.sock",
    "run/k3s/containerd/containerd.sock",
    "run/k0s/containerd.sock",
    "var/snap/microk8s/common/run/containerd.sock",
    "run/docker/containerd/containerd.sock",
)
ADDRESS_VARIABLE = "CONTAINERD_ADDRESS"


def discover(address: str | None, *, environ: Mapping[str, str], root: Path = Path("/")) -> Path:
    """Return the path of the socket to connect to.

    Args:
        address: Address given by the user, if any.
        environ: Environment variables; CONTAINERD_ADDRESS comes second.
        root: Folder that contains the usual paths.

    Raises:
        UsageError: The address is not that of a Unix socket.
        StoreUnreachable: No address is given and no usual path exists.

    """
    given = address or environ.get(ADDRESS_VARIABLE)
    if given:
        return socket_path(given)
    for candidate in (root / usual for usual in USUAL_SOCKETS):
        if _exists(candidate):
            return candidate
    raise StoreUnreachable(
        "no containerd socket found",
        hint=f"is containerd running here? Name its socket with --address or {ADDRESS_VARIABLE}; looked for "
        + ", ".join(f"/{usual}" for usual in USUAL_SOCKETS),
    )


def socket_path(address: str) -> Path:
    """Return the path in an address: a path, `unix:path` or `unix:///path`.

    Raises:
        UsageError: The address has another scheme, or is empty.

    """
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
    """Whether a path exists; also if permission is denied, so that the later error names the permission."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True
