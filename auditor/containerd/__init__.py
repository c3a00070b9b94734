"""Adapter for a live containerd over gRPC. Only this package imports grpc and the generated types."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from auditor.containerd import grpc_import  # noqa: F401 - before anything imports grpc
from auditor.containerd.channel import open_connection
from auditor.containerd.discover import ADDRESS_VARIABLE, discover, discover_all, notes, socket_path
from auditor.containerd.find_content_root import ContentRootOption
from auditor.containerd.store import ContainerdStore

if TYPE_CHECKING:
    from auditor.containerd.lookup_store import LookupContainerdStore
    from auditor.containerd.writable_store import WritableContainerdStore

__all__ = [
    "ADDRESS_VARIABLE",
    "ContainerdStore",
    "connect",
    "connect_lookup",
    "connect_writable",
    "discover",
    "discover_all",
    "notes",
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
    return ContainerdStore(open_connection(address, timeout=timeout), content_root=content_root)


def connect_lookup(
    address: Path, *, timeout: float = DEFAULT_TIMEOUT, content_root: ContentRootOption = "auto"
) -> LookupContainerdStore:
    """Connect for watching; arguments and errors as for `connect`."""
    from auditor.containerd.lookup_store import LookupContainerdStore  # noqa: PLC0415 - a check needs no events

    return LookupContainerdStore(open_connection(address, timeout=timeout), content_root=content_root)


def connect_writable(
    address: Path, *, timeout: float = DEFAULT_TIMEOUT, content_root: ContentRootOption = "auto"
) -> WritableContainerdStore:
    """Connect for a repair; arguments and errors as for `connect`."""
    from auditor.containerd.writable_store import WritableContainerdStore  # noqa: PLC0415 - a check never writes

    return WritableContainerdStore(open_connection(address, timeout=timeout), content_root=content_root)
