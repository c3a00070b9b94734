"""Adapter for a live containerd over gRPC. Only this package imports grpc and the generated types.

A function that connects imports gRPC, which takes longer than all else that a command imports; with `connect_listed`
another process does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from auditor.containerd.discover import ADDRESS_VARIABLE, discover, discover_all, notes, socket_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from auditor.containerd.find_content_root import ContentRootOption
    from auditor.containerd.listed_store import ListedStore
    from auditor.containerd.listing_process import ListingProcess
    from auditor.containerd.lookup_store import LookupContainerdStore
    from auditor.containerd.store import ContainerdStore
    from auditor.containerd.writable_store import WritableContainerdStore

__all__ = [
    "ADDRESS_VARIABLE",
    "connect",
    "connect_listed",
    "connect_lookup",
    "connect_writable",
    "discover",
    "discover_all",
    "dismiss",
    "notes",
    "prepare",
    "socket_path",
]

#: Timeout in seconds of a unary call, and of the next message of a stream.
DEFAULT_TIMEOUT = 30.0


def connect(
    address: Path, *, timeout: float = DEFAULT_TIMEOUT, content_root: ContentRootOption = "auto"
) -> ContainerdStore:
    """Connect for reading.

    Args:
        address: Path of containerd's socket.
        timeout: Seconds for a unary call, and for the next message of a stream.
        content_root: "auto" uses the daemon's content root where it is visible, None the API alone, a path where it is
            mounted here.

    Raises:
        StoreUnreachable: No containerd answers at `address`.
        StoreTimeout: It does not answer in time.

    """
    from auditor.containerd.channel import open_connection  # noqa: PLC0415 - imports gRPC
    from auditor.containerd.store import ContainerdStore  # noqa: PLC0415 - imports gRPC

    return ContainerdStore(open_connection(address, timeout=timeout), content_root=content_root)


#: The process that `prepare` made.
_prepared: list[ListingProcess] = []


def prepare() -> None:
    """Make the process that `connect_listed` uses; to be called while this one has no other threads."""
    from auditor.containerd import listing_process  # noqa: PLC0415 - for this function alone

    process = listing_process.fork()
    if process is not None:
        _prepared.append(process)


def connect_listed(
    address: Path,
    *,
    timeout: float = DEFAULT_TIMEOUT,
    content_root: ContentRootOption = "auto",
    namespaces: Sequence[str] = (),
) -> ListedStore | ContainerdStore:
    """Connect for reading once: the records are listed by a process of its own, if one is prepared.

    Args:
        address: Path of containerd's socket.
        timeout: Seconds for a unary call, and for the next message of a stream.
        content_root: As for `connect`.
        namespaces: The namespaces to list; by default all.

    Raises:
        StoreError: As `connect`; where a process lists the records, the store raises it when it is first used.

    """
    if not _prepared:
        return connect(address, timeout=timeout, content_root=content_root)
    process = _prepared.pop()
    process.start(address, timeout=timeout, namespaces=namespaces)
    from auditor.containerd.listed_store import ListedStore  # noqa: PLC0415 - while the process works

    return ListedStore(process, address, timeout=timeout, content_root=content_root, namespaces=namespaces)


def dismiss() -> None:
    """End the process that was prepared, if it is not in use."""
    while _prepared:
        _prepared.pop().close()


def connect_lookup(
    address: Path, *, timeout: float = DEFAULT_TIMEOUT, content_root: ContentRootOption = "auto"
) -> LookupContainerdStore:
    """Connect for watching; arguments and errors as for `connect`."""
    from auditor.containerd.channel import open_connection  # noqa: PLC0415 - imports gRPC
    from auditor.containerd.lookup_store import LookupContainerdStore  # noqa: PLC0415 - a check needs no events

    return LookupContainerdStore(open_connection(address, timeout=timeout), content_root=content_root)


def connect_writable(
    address: Path, *, timeout: float = DEFAULT_TIMEOUT, content_root: ContentRootOption = "auto"
) -> WritableContainerdStore:
    """Connect for a repair; arguments and errors as for `connect`."""
    from auditor.containerd.channel import open_connection  # noqa: PLC0415 - imports gRPC
    from auditor.containerd.writable_store import WritableContainerdStore  # noqa: PLC0415 - a check never writes

    return WritableContainerdStore(open_connection(address, timeout=timeout), content_root=content_root)
