"""Parse a `hosts.toml` in file order; resolve relative paths; as containerd hosts.go `parseHostsFile`."""

from __future__ import annotations

import posixpath
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

_CAPABILITIES = frozenset({"pull", "resolve", "push", "referrers"})
_DURATION = re.compile(r"([0-9]*\.?[0-9]+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_PAIR = 2


class HostsFileError(ValueError):
    """A value that containerd rejects, too; the message never contains a header's value."""


@dataclass(frozen=True, kw_only=True)
class HostTable:
    """The settings of one server; `server` is a URL, or empty for the requested host."""

    server: str = ""
    pull: bool = True
    ca: tuple[Path, ...] = ()
    client: tuple[tuple[Path, Path | None], ...] = ()
    skip_verify: bool | None = None
    header: Mapping[str, tuple[str, ...]] = field(default_factory=dict, repr=False)
    dial_timeout: float | None = None


def read_hosts_file(raw: bytes, folder: Path) -> tuple[HostTable, ...]:
    """Return the mirrors in file order, then the server itself.

    Args:
        raw: The file.
        folder: Its folder, for relative paths.

    Raises:
        HostsFileError: A value is invalid.
        tomllib.TOMLDecodeError: The file is not TOML.
        UnicodeDecodeError: The file is not UTF-8.

    """
    root = tomllib.loads(raw.decode())
    mirrors = root.get("host", {})
    if not isinstance(mirrors, dict):
        raise HostsFileError("`host` is not a table")
    if any(not isinstance(table, dict) for table in mirrors.values()):
        raise HostsFileError("an entry of `host` is not a table")
    server = root.get("server", "")
    if not isinstance(server, str):
        raise HostsFileError("`server` is not a string")
    return (*(_table(name, table, folder) for name, table in mirrors.items()), _table(server, root, folder))


def _table(server: str, table: dict[str, Any], folder: Path) -> HostTable:
    skip = table.get("skip_verify")
    if skip is not None and not isinstance(skip, bool):
        raise HostsFileError("`skip_verify` is neither true nor false")
    return HostTable(
        server=_url(server, keep_path=table.get("override_path") is True),
        pull=_pulls(table.get("capabilities")),
        ca=tuple(folder / path for path in _texts(table.get("ca"), "ca")),
        client=_pairs(table.get("client"), folder),
        skip_verify=skip,
        header=_header(table.get("header")),
        dial_timeout=_duration(table.get("dial_timeout")),
    )


def _url(server: str, *, keep_path: bool) -> str:
    """Complete a server to scheme, host and API root; containerd hosts.go `parseHostConfig`."""
    if not server:
        return ""
    try:
        url = urlsplit(server if server.startswith("http") else f"https://{server}")
    except ValueError:
        raise HostsFileError("a server is not an http or https address") from None
    if url.scheme not in ("http", "https") or not url.netloc or "@" in url.netloc:
        raise HostsFileError("a server is not an http or https address, or carries a user name")
    path = posixpath.normpath(url.path).rstrip("/") if url.path else ""
    if not keep_path and not path.endswith("/v2"):
        path += "/v2"
    return urlunsplit((url.scheme, url.netloc, path, "", ""))


def _pulls(value: object) -> bool:
    """Whether the server has the capability `pull`; true without a list."""
    names = [name.lower() for name in _texts(value, "capabilities")]
    if not _CAPABILITIES.issuperset(names):
        raise HostsFileError("`capabilities` has an unknown value")
    return not names or "pull" in names


def _texts(value: object, key: str) -> tuple[str, ...]:
    """Read a string or a list of strings."""
    items = value if isinstance(value, list) else [] if value is None else [value]
    if any(not isinstance(item, str) for item in items):
        raise HostsFileError(f"`{key}` has a value that is not a string")
    return tuple(items)


def _pairs(value: object, folder: Path) -> tuple[tuple[Path, Path | None], ...]:
    """Read `client`: one file with certificate and key, a list of such files, or pairs of certificate and key."""
    items = value if isinstance(value, list) else [] if value is None else [value]
    pairs: list[tuple[Path, Path | None]] = []
    for item in items:
        files = [folder / name for name in _texts(item, "client")]
        if isinstance(item, list) and len(files) != _PAIR:
            raise HostsFileError("`client` has a list that is not a pair of certificate and key")
        pairs.append((files[0], files[1] if len(files) == _PAIR else None))
    return tuple(pairs)


def _header(value: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict | None):
        raise HostsFileError("`header` is not a table")
    header = {str(key): _texts(item, "header") for key, item in (value or {}).items()}
    if not all(_TOKEN.fullmatch(key) for key in header):
        raise HostsFileError("`header` has an invalid name")
    if any(char in text for texts in header.values() for text in texts for char in "\r\n\0"):
        raise HostsFileError("`header` has a value of more than one line")
    return header


def _duration(value: object) -> float | None:
    """Read a Go duration such as `1m30s` in seconds; None for no value or zero."""
    if value in (None, ""):
        return None
    text = value if isinstance(value, str) else ""
    if text == "0":
        return None
    if not re.fullmatch(f"(?:{_DURATION.pattern})+", text):
        raise HostsFileError("`dial_timeout` is not a duration such as 10s")
    return sum(float(number) * _SECONDS[unit] for number, unit in _DURATION.findall(text)) or None
