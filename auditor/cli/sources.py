"""The sources of content: unfinished writes, twins, and what --from selects: namespaces, archives, registries."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from auditor.archive.catalog import NAMESPACE as IN_ARCHIVES
from auditor.archive.open import open_archive
from auditor.checks.evidence import Evidence
from auditor.cli.output import print_message
from auditor.cli.progress import progress
from auditor.errors import UsageError
from auditor.formats.sanitize import plain
from auditor.model import reference
from auditor.model.blob_source import Source
from auditor.model.digest import Digest
from auditor.model.store import Store
from auditor.sources.credentials import load_docker_config
from auditor.sources.hosts import DEFAULT_DIRECTORY
from auditor.sources.ingest_source import IngestSource
from auditor.sources.proxies import Proxies
from auditor.sources.registry import REGISTRY, RegistrySource
from auditor.sources.store_source import StoreSource
from auditor.sources.twin_source import Twin, TwinSource
from auditor.version import __version__

NAMESPACE, ARCHIVE = "namespace", "archive:"
DEFAULT = (NAMESPACE, REGISTRY)


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The sources in order, and the options of registries."""

    order: tuple[str, ...] = DEFAULT
    hosts_dir: Path = DEFAULT_DIRECTORY
    docker_config: Path | None = None


def choice(texts: list[str] | None, *, hosts_dir: Path, docker_config: Path | None) -> Choice:
    """Parse the options. Raises UsageError."""
    for text in texts or ():
        _require_source(text)
    order = tuple(dict.fromkeys(texts or DEFAULT))
    return Choice(order=order, hosts_dir=hosts_dir, docker_config=_config_file(docker_config, os.environ))


def _require_source(text: str) -> None:
    """Refuse what is not a source. Raises UsageError."""
    kind, _, rest = text.partition(":")
    if text in DEFAULT or (rest and kind == REGISTRY and reference.find(rest) is not None):
        return
    if not rest or f"{kind}:" != ARCHIVE:
        hint = "use namespace, registry, registry:IMAGE or archive:PATH"
        raise UsageError(f"--from {text!r} is not a source", hint=hint)
    if not Path(rest).exists():
        raise UsageError(f"there is no archive {rest}")


def _config_file(given: Path | None, environment: Mapping[str, str]) -> Path:
    path = given or Path(environment.get("DOCKER_CONFIG") or Path.home() / ".docker")
    return path / "config.json" if given is None or path.is_dir() else path


def opener(store: Store, chosen: Choice, *, show: bool) -> Callable[[Evidence], Sequence[Source]]:
    """Open archives and registries once.

    Returns:
        A function from the evidence of a store to its sources in order.

    Raises:
        StoreError: An archive cannot be read.
        SourceError: The docker configuration is not valid.

    """
    lasting: dict[str, list[Source]] = {}
    for text in chosen.order:
        if text.startswith(ARCHIVE):
            lasting[text] = [_archive(text, show=show)]
        elif text.startswith(REGISTRY):
            lasting[text] = [_registry(chosen, text.removeprefix(REGISTRY).removeprefix(":"))]
    ingest = IngestSource(store.info().content_root)

    def sources(evidence: Evidence) -> Sequence[Source]:
        return [ingest, *_ordered(store, chosen.order, lasting, evidence)]

    return sources


def _ordered(
    store: Store, order: Sequence[str], lasting: Mapping[str, list[Source]], evidence: Evidence
) -> Iterator[Source]:
    """The sources in order; twins, which are local, before the first registry."""
    twin = TwinSource(store, _twins(evidence))
    twins_given = False
    for text in order:
        if text.startswith(REGISTRY) and not twins_given:
            yield twin
            twins_given = True
        if text == NAMESPACE:
            yield from (StoreSource(store, name, name=f"{NAMESPACE}:{name}") for name in store.namespaces())
        yield from lasting.get(text, ())
    if not twins_given:
        yield twin


def _archive(text: str, *, show: bool) -> Source:
    path = Path(text.removeprefix(ARCHIVE))
    with progress(wanted=show) as meter:
        size = path.stat().st_size if path.is_file() else 0
        archive = open_archive(path, layers=False, on_bytes=meter.reading(size, f"reading {path.name}"))
    return StoreSource(archive, IN_ARCHIVES, name=text)


def _registry(chosen: Choice, image: str) -> Source:
    return RegistrySource(
        image=image,
        hosts_dir=chosen.hosts_dir,
        credentials=load_docker_config(chosen.docker_config),
        proxies=Proxies.of(os.environ),
        user_agent=f"containerd-auditor/{__version__}",
        on_note=lambda note: print_message(f"note: {plain(note)}"),
    )


def _twins(evidence: Evidence) -> dict[Digest, list[Twin]]:
    """By diffID, the compressed blobs of the layer and their namespaces."""
    return {
        diff_id: [
            Twin(view.name, digest)
            for digest in digests
            if digest != diff_id
            for view in evidence.views
            if view.has(digest)
        ]
        for diff_id, digests in evidence.layers_by_diff_id.items()
    }
