"""Find the servers of a registry host: from containerd's `hosts.toml` tree, or by its defaults.

The rules are those of containerd core/remotes/docker/config/hosts.go, so that a repair uses the servers of a pull.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from auditor.errors import SourceError
from auditor.model.reference import DEFAULT_HOST, hostname
from auditor.regular_file import read_regular
from auditor.sources.hosts_file import HostsFileError, HostTable, read_hosts_file

#: The usual `config_path` of containerd's packages.
DEFAULT_DIRECTORY = Path("/etc/containerd/certs.d")
#: Maximum length of a `hosts.toml` in bytes.
_MAX_FILE = 1 << 20
#: The server behind docker.io; core/remotes/docker/resolver.go `DefaultHost`.
_DOCKER_SERVER = "registry-1.docker.io"
#: The end of a folder `host_port_`.
_PORT_FOLDER = re.compile(r"_([0-9]+)_$", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One server and its settings.

    Attributes:
        host: Host name, with or without a port.
        path: Root of the API.
        header: Custom headers; may contain secrets.
        dial_timeout: Seconds.
        fallback: Try https first, and http if the server does not use TLS.

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
        """The URL of the server's API."""
        return f"{self.scheme}://{self.host}{self.path}"

    def stands_for(self, host: str) -> bool:
        """Whether this is the registry `host` itself, not a mirror; containerd registry.go `isProxy`."""
        return self.host == host or (host, self.host) == (DEFAULT_HOST, _DOCKER_SERVER)


@dataclass(frozen=True)
class Hosts:
    """The servers of a host, in the order to ask; `notes` names unusable configuration."""

    endpoints: tuple[Endpoint, ...]
    notes: tuple[str, ...] = ()


def find_hosts(root: Path | None, host: str) -> Hosts:
    """Return the servers of a host; an invalid `hosts.toml` is skipped with a note, as containerd does.

    Args:
        root: Root of the `hosts.toml` tree; None for the defaults.
        host: Host name, with or without a port.

    Raises:
        SourceError: The tree cannot be read.

    """
    try:
        folder = _folder(root, host) if root is not None else None
        return _read(folder, host) if folder is not None else Hosts((_finish(HostTable(), host),))
    except OSError as error:
        raise SourceError(
            f"the registry configuration for {host} cannot be read: {error.strerror}",
            hint=f"check {error.filename}, or name another tree with --hosts-dir",
        ) from None


def configured_hosts(root: Path | None) -> tuple[str, ...]:
    """Return the hosts that have a folder in a `hosts.toml` tree, sorted; none of a tree that cannot be listed."""
    try:
        names = sorted(entry.name for entry in root.iterdir()) if root is not None else []
    except OSError:
        return ()
    return tuple(dict.fromkeys(_PORT_FOLDER.sub(r":\1", name) for name in names if name != "_default"))


def _folder(root: Path, host: str) -> Path | None:
    """Return a host's folder: `host_port_`, `host:port` or `_default`; containerd config_unix.go `hostPaths`."""
    name, colon, port = host.rpartition(":")
    names = [f"{name}_{port}_"] if colon and name else []
    for each in (*names, host, "_default"):
        if (root / each).exists():
            return root / each
    return None


def _read(folder: Path, host: str) -> Hosts:
    file = folder / "hosts.toml"
    raw = read_regular(file, limit=_MAX_FILE) if file.exists() else b""
    if not raw:
        return Hosts((_finish(_certificates(folder), host),))
    try:
        tables = read_hosts_file(raw, folder)
    except (HostsFileError, tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        note = f"{file} is skipped, as containerd does: {str(error)[:200]}"
        return Hosts((_finish(_certificates(folder), host),), (note,))
    return Hosts(tuple(endpoint for table in tables if (endpoint := _finish(table, host)).pull))


def _certificates(folder: Path) -> HostTable:
    """Read a folder in Docker's layout: *.crt authorities, *.cert and *.key client certificates; `loadCertFiles`."""
    files = sorted(path for path in folder.iterdir() if not path.is_dir())
    keys = {path for path in files if path.suffix == ".key"}
    pairs = [(path, path.with_suffix(".key")) for path in files if path.suffix == ".cert"]
    return HostTable(
        ca=tuple(path for path in files if path.suffix == ".crt"),
        client=tuple((cert, key if key in keys else None) for cert, key in pairs),
    )


def _finish(table: HostTable, host: str) -> Endpoint:
    """Complete a table to an endpoint; a table without a server is `host` itself; `ConfigureHosts`."""
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
    """Whether `host[:port]` is localhost or a loopback address; containerd resolver.go `IsLocalhost`."""
    bare = hostname(host)
    try:
        return bare == "localhost" or ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False


def _port(host: str) -> str:
    """Return the port of `host[:port]`, empty without one; colons inside an IPv6 address do not count."""
    return "" if host.endswith("]") else host.rpartition(":")[2] if ":" in host else ""
