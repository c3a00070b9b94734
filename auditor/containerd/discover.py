"""Find containerd's socket: the given address, the environment, or the first usual path on which a daemon listens."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from auditor.errors import StoreUnreachable, UsageError

#: Relative to the root of the file system: containerd, k3s and rke2, k0s, microk8s, and the daemon that dockerd starts.
USUAL_SOCKETS = (
    "run/containerd/containerd.sock",
    "run/k3s/containerd/containerd.sock",
    "run/k0s/containerd.sock",
    "var/snap/microk8s/common/run/containerd.sock",
    "run/docker/containerd/containerd.sock",
)
#: Relative to XDG_RUNTIME_DIR: the daemons of a user without privileges.
_ROOTLESS: Final = ("containerd/containerd.sock", "docker/containerd/containerd.sock")
#: Sockets of programs that keep images elsewhere.
_NOT_CONTAINERD: Final = {
    "run/podman/podman.sock": "podman",
    "run/crio/crio.sock": "CRI-O",
    "run/docker.sock": "Docker",
}
ADDRESS_VARIABLE = "CONTAINERD_ADDRESS"
#: Seconds that a daemon may take to accept a connection; a full queue blocks.
_PATIENCE: Final = 1.0


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
    present = [path for path in _usual(environ, root) if _exists(path)]
    if present:
        return next(filter(_listens, present), present[0])
    raise StoreUnreachable(
        "no containerd socket found",
        hint=_not_containerd(root)
        or f"is containerd running here? Name its socket with --address or {ADDRESS_VARIABLE}; looked for "
        + ", ".join(f"/{usual}" for usual in USUAL_SOCKETS),
    )


def notes(chosen: Path, *, environ: Mapping[str, str], root: Path = Path("/")) -> tuple[str, ...]:
    """Return a sentence for each other usual socket: whether another daemon listens on it, or none.

    Args:
        chosen: Socket that is used.
        environ: Environment variables.
        root: Folder that contains the usual paths.

    """
    found = {path.resolve(): path for path in reversed(list(_usual(environ, root))) if _exists(path)}
    found.pop(chosen.resolve(), None)
    return tuple(
        f"another containerd listens on {path}, which is not examined; --address {path} examines it"
        if _listens(path)
        else f"no daemon listens on {path}"
        for path in sorted(found.values())
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


def _usual(environ: Mapping[str, str], root: Path) -> Iterator[Path]:
    yield from (root / usual for usual in USUAL_SOCKETS)
    if runtime := environ.get("XDG_RUNTIME_DIR"):
        yield from (Path(runtime) / usual for usual in _ROOTLESS)


def _not_containerd(root: Path) -> str:
    """Return a hint that names the program of a socket that is no containerd's; empty where there is none."""
    found = next((usual for usual in _NOT_CONTAINERD if _exists(root / usual)), None)
    if found is None:
        return ""
    name = _NOT_CONTAINERD[found]
    return f"/{found} is {name}'s socket; only images in containerd are checked; --address names a containerd elsewhere"


def _listens(path: Path) -> bool:
    """Whether a process listens; also if it does not accept or permission is denied: the later error names that."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PATIENCE)
        try:
            probe.connect(str(path))
        except (PermissionError, TimeoutError, BlockingIOError):
            return True
        except OSError:
            return False
    return True


def _exists(path: Path) -> bool:
    """Whether a path exists; also if permission is denied, so that the later error names the permission."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True
