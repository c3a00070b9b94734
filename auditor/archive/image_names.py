"""The names of the images in index.json and manifest.json, and which of them loaders refuse or ignore."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from auditor.archive.docker_manifest import MANIFEST_JSON, Entry
from auditor.archive.members import cleaned
from auditor.archive.problems import ArchiveProblem, shown
from auditor.checks.archive_faults import DUPLICATE, MALFORMED, UNNAMED
from auditor.model import reference
from auditor.model.digest import Digest
from auditor.model.findings import Severity
from auditor.model.oci import Descriptor, Index
from auditor.model.reference import DEFAULT_HOST

IMAGE_NAME: Final = "io.containerd.image.name"
REF_NAME: Final = "org.opencontainers.image.ref.name"
_LIBRARY: Final = "library/"
#: Beginning of an image id, which `ctr images export` writes into RepoTags for the names of CRI.
_ID: Final = "sha256:"


def key(descriptor: Descriptor) -> str:
    """Return the name of an image of index.json; its digest where it has none."""
    return _named(descriptor) or str(descriptor.digest)


def _named(descriptor: Descriptor) -> str:
    """Return the name that an annotation gives; empty without one."""
    return descriptor.annotations.get(IMAGE_NAME) or descriptor.annotations.get(REF_NAME) or ""


def problems(index: Index | None, entries: Sequence[Entry] | None, *, member: str) -> Iterator[ArchiveProblem]:
    """Yield the problems of the names in an archive.

    Args:
        index: index.json, which containerd's importer prefers; None where there is none.
        entries: manifest.json; None where there is none.
        member: the document that importers take the names from.

    """
    listed = index.manifests if index is not None else entries or ()
    names = [_named(child) for child in index.manifests] if index is not None else [*_tags(entries or ())]
    if listed and not any(names):
        message = f"{member} gives no image a name; ctr images import loads none without --digests"
        yield ArchiveProblem(UNNAMED, message, member=member)
    for name in _ambiguous(index) if index is not None else ():
        message = f"index.json gives the name {shown(name)} to several images: importers refuse it, or load one of them"
        yield ArchiveProblem(DUPLICATE, message, member=member)
    yield from _refused(entries or (), level=Severity.ERROR if index is None else Severity.WARNING)


def _tags(entries: Sequence[Entry]) -> Iterator[str]:
    for entry in entries:
        yield from entry.repo_tags or ()


def _refused(entries: Sequence[Entry], *, level: Severity) -> Iterator[ArchiveProblem]:
    """Yield the names and paths in manifest.json that docker's and containerd's importers refuse.

    containerd finds members by their clean names only: core/images/archive/importer.go `ImportIndex`.
    """
    for tag in dict.fromkeys(_tags(entries)):
        if reference.find(tag) is None and not tag.startswith(_ID):
            message = f"manifest.json gives an image the name '{shown(tag)}', which importers refuse"
            yield ArchiveProblem(MALFORMED, message, member=MANIFEST_JSON, level=level)
        elif _untagged(tag):
            message = f"manifest.json gives an image the name '{shown(tag)}' without a tag; docker and podman refuse it"
            yield ArchiveProblem(MALFORMED, message, member=MANIFEST_JSON, level=Severity.WARNING)
    for path in dict.fromkeys(path for entry in entries for path in entry.paths):
        if cleaned(path) not in (None, path):
            message = f"manifest.json writes the path {shown(path)}; containerd looks for {cleaned(path)} only"
            yield ArchiveProblem(MALFORMED, message, member=MANIFEST_JSON, level=level)


def _untagged(name: str) -> bool:
    """Whether a name has neither tag nor digest; `find` would add `latest`."""
    return "@" not in name and ":" not in name.rpartition("/")[2]


def _ambiguous(index: Index) -> Iterator[str]:
    """Yield the names that several images have; manifests of different platforms may share one."""
    by_name: dict[str, dict[Digest, Descriptor]] = {}
    for child in index.manifests:
        by_name.setdefault(key(child), {})[child.digest] = child
    for name, found in by_name.items():
        platforms = {child.platform for child in found.values()}
        if len(found) > 1 and (None in platforms or len(platforms) < len(found)):
            yield name


def full(name: str) -> str:
    """Return the full form of a name that docker wrote, such as `docker.io/library/alpine:latest` for `alpine`."""
    found = reference.find(name)
    return name if found is None else str(found)


def familiar(name: str) -> str | None:
    """Return the short form of a tagged name, for RepoTags; None for a name without a tag or with a digest.

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
    """Return the value of `org.opencontainers.image.ref.name`: the tag, or the whole name where it has none.

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
