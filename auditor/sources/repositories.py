"""Repositories that may have a blob, from image names and `distribution.source` labels; no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from auditor.model import reference
from auditor.model.blob_source import Hints
from auditor.model.oci import INDEX_TYPES, MANIFEST_TYPES, SCHEMA1_TYPES

#: Maximum of repositories that are tried for one blob; labels of a common layer may name hundreds.
MAX_PLACES = 32


class Repository(NamedTuple):
    """A repository of a registry; `host` may carry a port."""

    host: str
    name: str

    def __str__(self) -> str:
        return f"{self.host}/{self.name}"


def repositories(hints: Hints, *, configured: Sequence[str] = ()) -> tuple[Repository, ...]:
    """Return the repositories to try, each once: those of the image names, then those of the labels.

    A label has a host without its port (containerd core/remotes/docker/handler.go `AppendDistributionSourceLabel`):
    it applies to every host of that name in the blob's images, whatever its port. Where they have none, it applies to
    those of other images and of the configuration, and to itself. Labels are untrusted; those that are not part of a
    valid reference are skipped.

    Args:
        hints: The origin of the blob.
        configured: Hosts with a folder in the `hosts.toml` tree, with ports.

    """
    named = [found for name in hints.names if (found := reference.find(name)) is not None]
    first = [Repository(found.host, found.repository) for found in named]
    hosts = dict.fromkeys(found.host for found in named)
    labelled = list(_labelled(hints, list(hosts), [*hints.hosts, *configured]))
    return tuple(dict.fromkeys([*first, *labelled]))[:MAX_PLACES]


def _labelled(hints: Hints, hosts: list[str], others: list[str]) -> Iterator[Repository]:
    for bare, names in hints.origins.items():
        label = f"[{bare}]" if ":" in bare else bare
        known = [host for host in hosts if reference.hostname(host) == bare]
        known = known or [*(host for host in others if reference.hostname(host) == bare), label]
        for name in names:
            for host in known:
                found = reference.find(f"{host}/{name}:label")
                if found is not None and (found.host, found.repository) == (host, name):
                    yield Repository(host, name)


def paths(repository: str, digest: str, media_type: str) -> tuple[str, ...]:
    """Return the paths of a blob below the API's root, the likelier one first.

    Documents are served from `manifests`; by old registries and some caches from `blobs` only (containerd
    core/remotes/docker/fetcher.go `Fetch`). Content without a media type is tried as a blob first (`FetchByDigest`).
    """
    document, blob = f"/{repository}/manifests/{digest}", f"/{repository}/blobs/{digest}"
    if media_type in INDEX_TYPES | MANIFEST_TYPES | SCHEMA1_TYPES:
        return (document, blob)
    return (blob,) if media_type else (blob, document)
