"""Remove credentials and names of private hosts from text for a public issue.

The text is arbitrary, so the patterns remove too much rather than too little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_GONE: Final = "[removed]"
#: Words that always name a secret before a value, and words that error messages also use: `token: unexpected status`.
_SURELY: Final = r"pass(?:word|wd|phrase)?|secret|api_?key|signature|sig|x-amz-[a-z-]+"
_MAYBE: Final = r"(?:access_?|refresh_?|identity_?|registry_?)?token|auth(?:orization)?|credentials?"
_VALUE: Final = r"[^\s\"',;&\\}]+"
#: A value that is not a word of an error message: it has a digit or capital letter, or is long.
_ODD: Final = r"(?!sha\d|\[removed)(?=[^\s\"',;&\\}]*[0-9A-Z=+/_]|[^\s\"',;&\\}]{24})"
_CREDENTIALS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE if fold else 0), instead)
    for pattern, instead, fold in (
        # user:password@ in an address
        (r"(?<=://)[^/@\s\"']+@", "", True),
        # the query of a URL: signed URLs have their secret there
        (r"(https?://[^\s\"'?]+)\?[^\s\"'\\]*", rf"\1?{_GONE}", True),
        (rf"(authorization[\"'\\]*\s*[:=]\s*[\"'\\]*)(?:basic|bearer|token|digest)\s+{_VALUE}", rf"\1{_GONE}", True),
        (r"\b(bearer|basic)\s+(?=[\w.~+/=-]*[0-9A-Z=])[\w.~+/=-]{6,}", rf"\1 {_GONE}", True),
        (r"(?<!\S)(--?(?:creds?|user|password|auth|u|p)[= ]+)[^\s\"']+", rf"\1{_GONE}", True),
        # "key":"value", key=value; a pattern begins with the word that names the secret, as a prefix `[\w-]*` is
        # quadratic in a long word
        (
            rf"((?:{_SURELY}|{_MAYBE})(?:[\"'\\]+\s*:\s*|\s*=\s*)[\"'\\]*)(?!sha\d|\[removed){_VALUE}",
            rf"\1{_GONE}",
            True,
        ),
        # key: value
        (rf"((?:{_SURELY}):\s*)(?!\[removed){_VALUE}", rf"\1{_GONE}", True),
        (rf"((?i:{_MAYBE}):\s*){_ODD}{_VALUE}", rf"\1{_GONE}", False),
        # tokens with a known form: JWT, GitHub, GitLab, AWS
        (r"\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?", _GONE, False),
        (r"\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|A(?:KI|SI)A[0-9A-Z]{12,})", _GONE, False),
    )
)
#: Public hosts, and names that look like hosts; they are kept.
_PUBLIC: Final = frozenset(
    {
        "docker.io", "registry-1.docker.io", "auth.docker.io", "index.docker.io", "quay.io", "ghcr.io", "gcr.io",
        "registry.k8s.io", "k8s.gcr.io", "mcr.microsoft.com", "public.ecr.aws", "registry.gitlab.com", "github.com",
        "containerd.io", "go.etcd.io", "golang.org",
    }
)  # fmt: skip
_ADDRESS: Final = re.compile(r"(?<=://)[^/\s\"'?\\]+(?=[/\s\"'?:\\]|$)")
_IP: Final = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?(?![\w.])|\[[0-9a-fA-F:]{3,}\](?::\d+)?")
_BEFORE_NAME: Final = re.compile(
    r"(?<![\w./@:%-])(?:localhost|[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+|[a-zA-Z0-9-]+(?=:\d+/))(?::\d+)?(?=/[a-z0-9])"
)
_LOOKED_UP: Final = re.compile(r"(?<=lookup )[^\s:]+|(?<=dial tcp )(?!lookup)[^\s:]+:\d+")
_SYSLOG: Final = re.compile(r"^((?:\w{3} +\d+ [\d:]{8}|\d{4}-\d\d-\d\dT\S+) )(\S+)(?= \S+\[\d+\]:)", re.MULTILINE)


def without_credentials(text: str) -> str:
    """The text without passwords, tokens and signatures."""
    for pattern, instead in _CREDENTIALS:
        text = pattern.sub(instead, text)
    return text


class Veil:
    """Replaces each private host by an alias, the same at every occurrence.

    `hosts` are known registries, with or without a port.
    """

    def __init__(self, hosts: Iterable[str] = ()) -> None:
        self._aliases: dict[str, str] = {}
        for host in hosts:
            self._alias(host)

    def over(self, text: str) -> str:
        """The text without credentials and private hosts."""
        text = _SYSLOG.sub(r"\1node.example", without_credentials(text))
        text = _ADDRESS.sub(self._found, text)
        text = _LOOKED_UP.sub(self._found, text)
        text = _BEFORE_NAME.sub(self._found, text)
        for host in sorted(self._aliases, key=len, reverse=True):
            text = re.sub(rf"(?<![\w-]){re.escape(host)}(?::\d+)?(?![\w-])", self._aliases[host], text)
        return _IP.sub(self._found, text)

    def _found(self, found: re.Match[str]) -> str:
        return self._alias(found[0])

    def _alias(self, host: str) -> str:
        name = _bare(host)
        if not name or name in _PUBLIC or name.endswith(".example"):
            return host
        if name not in self._aliases:
            number = len(set(self._aliases.values()))
            self._aliases[name] = "registry.example" if not number else f"registry{number + 1}.example"
        return self._aliases[name]


def _bare(host: str) -> str:
    """The host without a port."""
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]
