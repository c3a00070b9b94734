"""Which servers stand for a registry host: containerd's `hosts.toml` tree, and its defaults where there is none.

The rules are those of containerd's core/remotes/docker/config/hosts.go, so that a repair asks whom a pull would ask.
"""

from __future__ import annotations

import ipaddress
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from auditor.errors import SourceError
from auditor.model.reference import DEFAULT_HOST, hostname
from auditor.sources.hosts_file import HostsFileError, HostTable, read_hosts_file

#: Where containerd's packages look when `config_path` says so.
DEFAULT_DIRECTORY = Path("/etc/containerd/certs.d")
#: The server behind docker.io; core/remotes/docker/resolver.go `DefaultHost`.
_DOCKER_SERVER = "registry-1.docker.io"


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One server to ask, and how.

    `host` may carry a port, `path` is the root of the API. `header` may hold secrets and is not shown. With
    `fallback`, https is tried first and http taken where the server does not speak TLS. `dial_timeout` is in seconds.
    """

    scheme: str
    host: str
    path: str = "/v2"
    pull: bool = True
    ca: tuple[Path, ...] = ()
    client: tuple[tuple[Path, Path | None], ...] = ()
    skip_verify: bool = False
    header: tuple[tuple[str, tuple[str, ...]], ...] = field(default=(), repr=False)
    dial_timeout: float | None = None
    fallback: bool = False

    @property
    def root(self) -> str:
        """The URL of the server's API, for people and for requests."""
        return f"{self.scheme}://{self.host}{self.path}"

    def stands_for(self, host: str) -> bool:
        """Whether this is the registry `host` itself, not a mirror of it; registry.go `isProxy`."""
        return self.host == host or (host, self.host) == (DEFAULT_HOST, _DOCKER_SERVER)


@dataclass(frozen=True)
class Hosts:
    """The servers for a host, in the order to ask; `notes` say what of the configuration could not be used."""

    endpoints: tuple[Endpoint, ...]
    notes: tuple[str, ...] = ()


def find_hosts(root: Path | None, host: str) -> Hosts:
    """The servers for `host` by the tree under `root`; the defaults where that has nothing for it.

    A `hosts.toml` that cannot be understood is passed over with a note, as containerd does. Raises SourceError where
    the tree is there and cannot be read.
    """
    try:
        folder = _folder(root, host) if root is not None else None
        return _read(folder, host) if folder is not None else Hosts((_finish(HostTable(), host),))
    except OSError as error:
        raise SourceError(
            f"the registry configuration for {host} cannot be read: {error.strerror}",
            hint=f"look at {error.filename}, or name another tree with --hosts-dir",
        ) from None


def _folder(root: Path, host: str) -> Path | None:
    """Find a host's folder: `host_port_` before `host:port` before `_default`; config_unix.go `hostPaths`."""
    name, colon, port = host.rpartition(":")
    names = [f"{name}_{port}_"] if colon and name else []
    for each in (*names, host, "_default"):
        if (root / each).exists():
            return root / each
    return None


def _read(folder: Path, host: str) -> Hosts:
    file = folder / "hosts.toml"
    raw = file.read_bytes() if file.exists() else b""
    if not raw:
        return Hosts((_finish(_certificates(folder), host),))
    try:
        tables = read_hosts_file(raw, folder)
    except (HostsFileError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        note = f"{file} is passed over, as containerd does: {error}"
        return Hosts((_finish(_certificates(folder), host),), (note,))
    return Hosts(tuple(endpoint for table in tables if (endpoint := _finish(table, host)).pull))


def _certificates(folder: Path) -> HostTable:
    """Read a folder in Docker's layout: *.crt are authorities, *.cert with *.key are ours; `loadCertFiles`."""
    files = sorted(path for path in folder.iterdir() if not path.is_dir())
    keys = {path for path in files if path.suffix == ".key"}
    pairs = [(path, path.with_suffix(".key")) for path in files if path.suffix == ".cert"]
    return HostTable(
        ca=tuple(path for path in files if path.suffix == ".crt"),
        client=tuple((cert, key if key in keys else None) for cert, key in pairs),
    )


def _finish(table: HostTable, host: str) -> Endpoint:
    """Complete a table to an endpoint; one without a server stands for `host` itself, `ConfigureHosts`."""
    endpoint = _named(table) if table.server else _default(table, host)
    tls = bool(table.ca or table.client or table.skip_verify is not None or endpoint.skip_verify)
    if endpoint.scheme == "http" and tls and _port(endpoint.host) != "80":
        return replace(endpoint, scheme="https", fallback=True)
    return endpoint


def _named(table: HostTable) -> Endpoint:
    url = urlsplit(table.server)
    return _endpoint(table, scheme=url.scheme, host=url.netloc, path=url.path, pull=table.pull)


def _default(table: HostTable, host: str) -> Endpoint:
    if host == DEFAULT_HOST:
        return _endpoint(table, scheme="https", host=_DOCKER_SERVER)
    if not is_localhost(host):
        return _endpoint(table, scheme="https", host=host)
    local = _endpoint(table, scheme="https" if _port(host) in ("", "443") else "http", host=host)
    return local if _port(host) == "80" else replace(local, skip_verify=True)


def _endpoint(table: HostTable, *, scheme: str, host: str, path: str = "/v2", pull: bool = True) -> Endpoint:
    return Endpoint(
        scheme=scheme,
        host=host,
        path=path,
        pull=pull,
        ca=table.ca,
        client=table.client,
        skip_verify=bool(table.skip_verify),
        header=tuple(table.header.items()),
        dial_timeout=table.dial_timeout,
    )


def is_localhost(host: str) -> bool:
    """Whether `host[:port]` is this machine by name or number; resolver.go `IsLocalhost`."""
    bare = hostname(host)
    try:
        return bare == "localhost" or ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def _port(host: str) -> str:
    """The port of `host[:port]`, empty without one; the colons of a bracketed address are no port."""
    return "" if host.endswith("]") else host.rpartition(":")[2] if ":" in host else ""
