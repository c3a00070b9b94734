"""Choose the HTTP proxy from the environment, as Go's golang.org/x/net/http/httpproxy does for containerd."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from auditor.sources.hosts import is_localhost


@dataclass(frozen=True, kw_only=True)
class Proxies:
    """The proxies by the scheme of the request; their URLs may contain a password."""

    http: str = field(default="", repr=False)
    https: str = field(default="", repr=False)
    exempt: tuple[str, ...] = ()

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Read HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in either case; golang.org/x/net/http/httpproxy."""
        http, https, no = (_first(environment, name) for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"))
        exempt = tuple(part.strip().lower() for part in no.split(",") if part.strip())
        return cls(http=_url(http), https=_url(https), exempt=exempt)

    def choose(self, scheme: str, host: str, port: int) -> str:
        """Return the URL of the proxy for a request; empty for a direct connection, as always for localhost."""
        if is_localhost(host) or any(_covers(rule, host.lower(), port) for rule in self.exempt):
            return ""
        return self.https if scheme == "https" else self.http


def _first(environment: Mapping[str, str], name: str) -> str:
    return environment.get(name) or environment.get(name.lower(), "")


def _url(proxy: str) -> str:
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def _covers(rule: str, host: str, port: int) -> bool:
    """Whether a rule of NO_PROXY matches the host: `*`, a network, an address, or a domain with its subdomains."""
    if rule == "*":
        return True
    if "/" in rule:
        return _in_network(rule, host)
    name, colon, wanted = rule.partition(":") if rule.count(":") == 1 else (rule, "", "")
    if colon and wanted != str(port):
        return False
    name = name.removeprefix("*")
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _in_network(rule: str, host: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(rule, strict=False)
    except ValueError:
        return False
