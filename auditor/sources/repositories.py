"""Where a blob may lie: the repositories that image names and `distribution.source` labels lead to; no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from auditor.model import reference
from auditor.model.blob_source import Hints
from auditor.model.oci import INDEX_TYPES, MANIFEST_TYPES, SCHEMA1_TYPES

#: No more repositories than this are tried for one blob; labels of a common layer may name hundreds.
MAX_PLACES = 32


class Repository(NamedTuple):
    """A repository of a registry; `host` may carry a port."""

    host: str
    name: str

    def __str__(self) -> str:
        return f"{self.host}/{self.name}"


def repositories(hints: Hints) -> tuple[Repository, ...]:
    """The repositories to try, each once: those of the image names, then those of the labels.

    A label has its host without the port (handler.go `AppendDistributionSourceLabel`), so it stands for every host of
    that name among the image names, ports and all, and for itself where there is none. What could not be part of an
    address is passed over: labels are as hostile as any input.
    """
    named = [found for name in hints.names if (found := reference.find(name)) is not None]
    first = [Repository(found.host, found.repository) for found in named]
    hosts = dict.fromkeys(found.host for found in named)
    labelled = list(_labelled(hints, list(hosts)))
    return tuple(dict.fromkeys([*first, *labelled]))[:MAX_PLACES]


def _labelled(hints: Hints, hosts: list[str]) -> Iterator[Repository]:
    for bare, names in hints.origins.items():
        label = f"[{bare}]" if ":" in bare else bare
        known = [host for host in hosts if reference.hostname(host) == bare] or [label]
        for name in names:
            for host in known:
                found = reference.find(f"{host}/{name}:label")
                if found is not None and (found.host, found.repository) == (host, name):
                    yield Repository(host, name)


def paths(repository: str, digest: str, media_type: str) -> tuple[str, ...]:
    """Where a server keeps the content, below its API's root, the likelier place first.

    Documents are served from `manifests` and, by old registries and some caches, from `blobs` only; fetcher.go
    `Fetch`. What is of no known type is a blob before it is a document; `FetchByDigest`.
    """
    document, blob = f"/{repository}/manifests/{digest}", f"/{repository}/blobs/{digest}"
    if media_type in INDEX_TYPES | MANIFEST_TYPES | SCHEMA1_TYPES:
        return (document, blob)
    return (blob,) if media_type else (blob, document)
