"""Image names as archives spell them: in full, as docker's RepoTags, and as the OCI ref name."""

from __future__ import annotations

import re

from auditor import reference
from auditor.reference import DEFAULT_HOST

_LIBRARY = "library/"


def full(name: str) -> str:
    """The full form of a name that docker wrote: `alpine` is `docker.io/library/alpine:latest`; others stay."""
    found = reference.find(name)
    return name if found is None else str(found)


def familiar(name: str) -> str | None:
    """The short form of a tagged name, for RepoTags; None for a name that has no tag, or a digest.

    distribution/reference `FamiliarString`. containerd (core/images/archive/reference.go `familiarizeReference`) also
    writes names by digest, and CRI's `sha256:<id>`, into RepoTags; `docker load` fails on those.
    """
    found = reference.find(name)
    if found is None or not found.tag or found.digest is not None:
        return None
    if found.host != DEFAULT_HOST:
        return f"{found.name}:{found.tag}"
    short = found.repository.removeprefix(_LIBRARY)
    return f"{found.repository if '/' in short else short}:{found.tag}"


def ref_name(name: str) -> str:
    """The value of `org.opencontainers.image.ref.name`: the tag, or the whole name where it has none.

    containerd core/images/archive/reference.go `ociReferenceName`, with pkg/reference `Parse`: the object is what
    follows the first `:` or `@` behind the host.
    """
    host, slash, path = name.partition("/")
    if not slash or not host or "://" in name:
        return name
    match = re.search(r"[:@]", path)
    if match is None or match.group() == "@":
        return name
    return path[match.end() :] or name
