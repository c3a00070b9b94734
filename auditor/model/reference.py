"""Image references: parsing a name into host, repository, tag and digest, by distribution/reference; no I/O."""

from __future__ import annotations

import re

import msgspec

from auditor.errors import InvalidDigest, UsageError
from auditor.model.digest import Digest

#: distribution/reference normalize.go: the default domain, its legacy name, and the prefix of its short names.
DEFAULT_HOST = "docker.io"
_LEGACY_HOST = "index.docker.io"
_OFFICIAL = "library/"
DEFAULT_TAG = "latest"
#: distribution/reference reference.go `RepositoryNameTotalLengthMax`.
_MAX_REPOSITORY = 255

# distribution/reference regexp.go, with Python's groups.
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<host>{_HOST})/(?P<repository>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?(?:@(?P<digest>[^@]+))?",
    re.ASCII,
)
_IDENTIFIER = re.compile(r"(?:sha256:)?[a-f0-9]{64}", re.ASCII)


class Reference(msgspec.Struct, frozen=True, order=True):
    """A normalised reference. It has a tag, a digest or both; `host` may carry a port."""

    host: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    @property
    def name(self) -> str:
        """Host and repository, as `docker.io/library/busybox`."""
        return f"{self.host}/{self.repository}"

    @property
    def hostname(self) -> str:
        """The host without its port, as in `distribution.source` labels; an IPv6 address has no brackets."""
        return hostname(self.host)

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}@{self.digest}" if self.digest else self.name + tag


def hostname(host: str) -> str:
    """Return `host[:port]` without the port, as Go's `url.Hostname`; a bare IPv6 address is returned whole."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0] if host.count(":") == 1 else host


def parse(text: str) -> Reference:
    """Parse and normalise a short or full name: `busybox` is `docker.io/library/busybox:latest`.

    Follows distribution/reference `ParseNormalizedNamed`, as containerd's CRI, nerdctl and Docker do, except that a
    tag beside a digest is kept.

    Raises:
        UsageError: The text is not a reference; image ids are not.

    """
    found = find(text)
    if found is None:
        raise UsageError(
            f"{_shown(text)} is not an image reference", hint="write host/repository:tag or host/repository@sha256:…"
        )
    return found


def find(name: str) -> Reference | None:
    """Return the name of an image record as a reference; None for other names.

    CRI also records each image under its id, `sha256:<hex>`, and clients may choose any name.
    """
    if _IDENTIFIER.fullmatch(name):
        return None
    match = _REFERENCE.fullmatch("/".join(_split_host(name)))
    if match is None or len(match["repository"]) > _MAX_REPOSITORY:
        return None
    digest = _digest(match["digest"])
    if match["digest"] and digest is None:
        return None
    tag = match["tag"] or ("" if digest else DEFAULT_TAG)
    return Reference(host=match["host"], repository=match["repository"], tag=tag, digest=digest)


def _split_host(name: str) -> tuple[str, str]:
    """Split a name into host and repository; distribution/reference `splitDockerDomain`."""
    first, slash, rest = name.partition("/")
    is_host = first == "localhost" or any(c in ".:" for c in first) or first.lower() != first
    host, remote = (first, rest) if slash and is_host else (DEFAULT_HOST, name)
    if host == _LEGACY_HOST:
        host = DEFAULT_HOST
    if host == DEFAULT_HOST and "/" not in remote:
        remote = _OFFICIAL + remote
    return host, remote


def _digest(text: str | None) -> Digest | None:
    try:
        return Digest.parse(text) if text else None
    except InvalidDigest:
        return None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:97] + "...")  # noqa: PLR2004 - the length that fits a line
