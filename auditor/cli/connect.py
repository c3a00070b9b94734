"""Open the store that the options select."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from auditor import containerd
from auditor.cli.options import EVERY, Common
from auditor.cli.output import print_message
from auditor.cli.progress import progress
from auditor.errors import UsageError

if TYPE_CHECKING:
    from auditor.containerd.store import ContainerdStore
    from auditor.containerd.writable_store import WritableContainerdStore
    from auditor.model.platforms import Platform
    from auditor.model.store import Store


@contextmanager
def connected(options: Common) -> Iterator[ContainerdStore]:
    """The store that the options select. Raises StoreUnreachable, UsageError."""
    root = content_root(options.content_root)
    address = _discovered(options)
    with containerd.connect(address, timeout=options.timeout, content_root=root) as store:
        if options.verbose:
            print_notes(store.info().notes)
        yield store


@contextmanager
def _listed(options: Common) -> Iterator[Store]:
    """The store that the options select, whose records are being listed. Raises StoreUnreachable, UsageError."""
    root = content_root(options.content_root)
    address, names = _discovered(options), options.namespaces
    with containerd.connect_listed(address, timeout=options.timeout, content_root=root, namespaces=names) as store:
        if options.verbose:
            print_notes(store.info().notes)
        yield store


def _discovered(options: Common) -> Path:
    """The socket of the options; without one, other sockets are named on stderr."""
    address = containerd.discover(options.address, environ=os.environ)
    if not (options.quiet or options.address or os.environ.get(containerd.ADDRESS_VARIABLE)):
        print_notes(containerd.notes([address], environ=os.environ))
    return address


def each_daemon(options: Common, addresses: tuple[str, ...]) -> tuple[Common, ...]:
    """The options of each daemon that --address selects; `all` stands for every daemon at the usual paths.

    Raises:
        StoreUnreachable: There is no daemon.
        UsageError: An address is not that of a Unix socket.

    """
    if not addresses:
        return (options,)
    named = [containerd.socket_path(address) for address in addresses if address != EVERY]
    found = containerd.discover_all(environ=os.environ) if EVERY in addresses else ()
    if EVERY in addresses and not options.quiet:
        print_notes(containerd.notes([*named, *found], environ=os.environ))
    distinct = {os.path.realpath(path): path for path in reversed([*named, *found])}
    return tuple(msgspec.structs.replace(options, address=str(path)) for path in reversed(distinct.values()))


def print_notes(notes: Iterable[str]) -> None:
    """Print notes on stderr."""
    for note in notes:
        print_message(f"note: {note}")


@contextmanager
def read_store(
    options: Common, *, without_records: bool = False, spare: bool = False, ahead: bool = False
) -> Iterator[Store]:
    """The daemon or the root of the options, for reading.

    `without_records` takes a root whose meta.db is lost; `spare` reads blobs of a root from unfinished writes, too;
    `ahead` lists a daemon's records, all that are asked for, in a process of its own.

    Raises StoreError, UsageError.
    """
    if options.root is None and ahead:
        with _listed(options) as store:
            yield store
        return
    containerd.dismiss()
    if options.root is None:
        with connected(options) as store:
            yield store
        return
    from auditor.offline.store import OfflineStore

    found = OfflineStore(options.root, while_running=options.while_running, spare=spare)
    if found.unread is not None:
        raise found.unread
    if found.lost is not None and not without_records:
        raise found.lost
    if options.verbose:
        print_notes(found.info().notes)
    print_notes(filter(None, [found.spare_note()]))
    yield found


@contextmanager
def opened(options: Common, archive: Path | None) -> Iterator[Store]:
    """The archive if one is given, else the daemon or the root of the options. Raises StoreError, UsageError."""
    if archive is None:
        with read_store(options) as store:
            yield store
    else:
        from auditor.archive.open import open_archive

        with progress(wanted=options.progress) as meter:
            found = open_archive(archive, on_bytes=meter.reading(0, "reading the archive"))
        yield found


def content_root(text: str) -> Literal["auto"] | Path | None:
    """Parse --content-root. Raises UsageError if the folder has no blobs."""
    if text == "auto":
        return "auto"
    if text == "none":
        return None
    path = Path(text)
    if not (path / "blobs").is_dir():
        raise UsageError(
            f"{text} has no folder blobs", hint="give the folder io.containerd.content.v1.content, or auto, or none"
        )
    return path


def wanted_platforms(texts: list[str] | None) -> tuple[Platform, ...]:
    """Parse --platform. Raises UsageError."""
    from auditor.model import platforms

    return tuple(platforms.parse(text) for text in texts or ())


@contextmanager
def export_store(options: Common) -> Iterator[Store]:
    """The daemon, writable for leases, or the root of the options. Raises StoreError, UsageError."""
    if options.root is not None:
        with read_store(options, spare=True) as found:
            yield found
        return
    with connected_writable(options) as store:
        yield store


@contextmanager
def connected_writable(options: Common) -> Iterator[WritableContainerdStore]:
    """The store that the options select, writable. Raises StoreUnreachable, UsageError."""
    from auditor.model import go_json  # noqa: F401 - now: an upgrade during a repair must not mix two versions

    address = _discovered(options)
    root = content_root(options.content_root)
    with containerd.connect_writable(address, timeout=options.timeout, content_root=root) as store:
        if options.verbose:
            print_notes(store.info().notes)
        yield store
