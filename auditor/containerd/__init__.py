"""Adapter: a live containerd over gRPC. Nothing outside this package imports grpc or sees a generated type."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from auditor.containerd import grpc_import  # noqa: F401 - before anything imports grpc
from auditor.containerd.channel import open_connection
from auditor.containerd.discover import discover
from auditor.containerd.find_content_root import ContentRootOption
from auditor.containerd.store import ContainerdStore

if TYPE_CHECKING:
    from auditor.containerd.writable_store import WritableContainerdStore

__all__ = ["ContainerdStore", "connect", "connect_writable", "discover"]

#: Seconds for one call, or for the next message of a stream.
DEFAULT_TIMEOUT = 30.0


def connect(
    address: Path, *, timeout: float = DEFAULT_TIMEOUT, content_root: ContentRootOption = "auto"
) -> ContainerdStore:
    """Connect for reading. Raises StoreUnreachable, StoreTimeout; later also what `Store` says."""
    return ContainerdStore(open_connection(address, timeout=timeout), content_root=content_root)


def connect_writable(
    address: Path, *, timeout: float = DEFAULT_TIMEOUT, content_root: ContentRootOption = "auto"
) -> WritableContainerdStore:
    """Connect for a repair. Raises as `connect` does."""
    from auditor.containerd.writable_store import WritableContainerdStore  # noqa: PLC0415 - a check never writes

    return WritableContainerdStore(open_connection(address, timeout=timeout), content_root=content_root)
