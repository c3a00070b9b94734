"""Find containerd's socket: the given address, the environment, or the first usual path on which a daemon listens."""

from __future__ import annotations

import _socket as sockets  # `socket` takes milliseconds to load, for enumerations
import enum
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
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
#: Relative to a user's runtime folder: the daemons of rootless containerd and nerdctl, of rootless dockerd and k3s.
_ROOTLESS: Final = (
    "containerd/containerd.sock",
    "docker/containerd/containerd.sock",
    "k3s/containerd/containerd.sock",
)
#: Sockets of programs that keep images elsewhere: relative to the root, and to a user's runtime folder.
_NOT_CONTAINERD: Final = {
    "run/podman/podman.sock": "podman",
    "run/crio/crio.sock": "CRI-O",
    "run/docker.sock": "Docker",
}
_NOT_CONTAINERD_ROOTLESS: Final = {"podman/podman.sock": "podman", "docker.sock": "Docker"}
ADDRESS_VARIABLE = "CONTAINERD_ADDRESS"
#: Seconds that a daemon may take to accept a connection; a full queue blocks.
_PATIENCE: Final = 1.0


class Answer(enum.Enum):
    """What a socket answers to a connection."""

    ACCEPTS = enum.auto()
    #: This user may not connect; a later error names the permission.
    DENIED = enum.auto()
    #: No process listens.
    NOBODY = enum.auto()


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
    found = _sockets(environ, root)
    for wanted in (Answer.ACCEPTS, Answer.DENIED):
        if path := next((path for path, answer in found.items() if answer is wanted), None):
            return path
    return next(iter(found))


def discover_all(*, environ: Mapping[str, str], root: Path = Path("/")) -> tuple[Path, ...]:
    """Return the socket of every daemon at the usual paths, each daemon once; sockets without a daemon are left out.

    Raises:
        StoreUnreachable: No usual path exists, or no daemon listens on any.

    """
    found = _sockets(environ, root)
    live = tuple(path for path, answer in found.items() if answer is not Answer.NOBODY)
    if not live:
        raise StoreUnreachable(
            f"no daemon listens on {', '.join(map(str, found))}",
            hint="is containerd running? auditor check --root DIR reads the disk of a stopped one",
        )
    return live


def notes(chosen: Sequence[Path], *, environ: Mapping[str, str], root: Path = Path("/")) -> tuple[str, ...]:
    """Return a sentence for each other usual socket: whether another daemon listens on it, or none.

    Args:
        chosen: Sockets that are used.
        environ: Environment variables.
        root: Folder that contains the usual paths.

    """
    used = {os.path.realpath(path) for path in chosen}
    others = {path: answer for path, answer in _present(environ, root).items() if os.path.realpath(path) not in used}
    return tuple(
        f"no daemon listens on {path}"
        if answer is Answer.NOBODY
        else f"another containerd listens on {path}, which is not examined; --address {path} examines it"
        for path, answer in sorted(others.items())
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


def _sockets(environ: Mapping[str, str], root: Path) -> Mapping[Path, Answer]:
    """The usual sockets that exist. Raises StoreUnreachable where none does."""
    found = _present(environ, root)
    if not found:
        raise StoreUnreachable(
            "no containerd socket found",
            hint=_not_containerd(environ, root)
            or f"is containerd running here? Name its socket with --address or {ADDRESS_VARIABLE}; looked for "
            + ", ".join(f"/{usual}" for usual in USUAL_SOCKETS),
        )
    return found


def _present(environ: Mapping[str, str], root: Path) -> dict[Path, Answer]:
    """The usual sockets that exist, in order, each once however many links lead to it."""
    real: dict[str, Path] = {}
    for path in _usual(environ, root):
        if _exists(path):
            real.setdefault(os.path.realpath(path), path)
    return {path: _answer(path) for path in real.values()}


def _usual(environ: Mapping[str, str], root: Path) -> Iterator[Path]:
    yield from (root / usual for usual in USUAL_SOCKETS)
    yield from (folder / usual for folder in _runtimes(environ, root) for usual in _ROOTLESS)


def _runtimes(environ: Mapping[str, str], root: Path) -> Iterator[Path]:
    """The runtime folder of this user, then those of other users that can be read."""
    if own := environ.get("XDG_RUNTIME_DIR"):
        yield Path(own)
    yield from (folder for folder in sorted((root / "run/user").glob("*")) if os.access(folder, os.X_OK))


def _not_containerd(environ: Mapping[str, str], root: Path) -> str:
    """Return a hint that names the program of a socket that is no containerd's; empty where there is none."""
    known = {root / usual: name for usual, name in _NOT_CONTAINERD.items()}
    for folder in _runtimes(environ, root):
        known |= {folder / usual: name for usual, name in _NOT_CONTAINERD_ROOTLESS.items()}
    found = next((path for path in known if _exists(path)), None)
    if found is None:
        return ""
    return (
        f"{found} is {known[found]}'s socket; only images in containerd are checked; "
        "--address names a containerd elsewhere"
    )


def _answer(path: Path) -> Answer:
    """What a socket answers; a daemon that does not accept in time counts as one that does."""
    with closing(sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)) as probe:
        probe.settimeout(_PATIENCE)
        try:
            probe.connect(str(path))
        except PermissionError:
            return Answer.DENIED
        except (TimeoutError, BlockingIOError):
            return Answer.ACCEPTS
        except OSError:
            return Answer.NOBODY
    return Answer.ACCEPTS


def _exists(path: Path) -> bool:
    """Whether a path exists; also if permission is denied, so that the later error names the permission."""
    try:
        path.stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True
