"""Read blobs over the API: where their files are not visible, and to examine a file as the daemon sees it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager

from auditor.containerd._proto import content_pb2
from auditor.containerd.channel import Connection, namespaced
from auditor.containerd.grpc_errors import translated
from auditor.errors import Conflict, DocumentTooLarge, NoFile, ReadFailed, StoreTimeout
from auditor.model.digest import Digest
from auditor.model.store import FileKind, FileState

#: Text of Go's error for reading a directory (errno EISDIR), which the daemon returns.
_IS_DIRECTORY = "is a directory"


@contextmanager
def reading(connection: Connection, digest: Digest) -> Iterator[None]:
    """Map the errors of reading one blob.

    If the daemon answers another call after a timeout, the file itself blocks: a FIFO, or a failing disk.

    Raises:
        NoRecord: The namespace has no record of the blob.
        NoFile: The record has no file.
        ReadFailed: The file cannot be read.
        StoreTimeout: The daemon does not answer at all.
        StoreUnreachable: The connection is lost.

    """
    try:
        with translated(f"read {digest}", otherwise=ReadFailed):
            yield
    except StoreTimeout as error:
        if not connection.answers():
            raise
        raise ReadFailed(error.message, hint="the daemon answers other calls: examine the file of this blob") from error


def record(connection: Connection, namespace: str, digest: Digest) -> content_pb2.Info:
    """Return the record of a blob, from the database alone.

    Raises:
        NoRecord: There is none.
        StoreError: The daemon failed.

    """
    request = content_pb2.InfoRequest(digest=digest)
    with translated(f"look up {digest}"):
        answer = connection.content.Info(request, timeout=connection.timeout, metadata=namespaced(namespace))
    return answer.info


def read(connection: Connection, namespace: str, digest: Digest, *, limit: int) -> bytes:
    """Return a small blob.

    Raises:
        DocumentTooLarge: It has more than `limit` bytes.
        AuditorError: As `reading` raises.

    """
    data = part(connection, namespace, digest, size=limit + 1)
    if len(data) > limit:
        raise DocumentTooLarge(f"{digest} has more than the {limit} bytes that a document may have")
    return data


def part(connection: Connection, namespace: str, digest: Digest, *, offset: int = 0, size: int) -> bytes:
    """Return up to `size` bytes from `offset`, fewer at the end of the file.

    Raises:
        Conflict: `offset` is beyond the recorded size.
        AuditorError: As `reading` raises.

    """
    request = content_pb2.ReadContentRequest(digest=digest, offset=offset, size=size)
    with reading(connection, digest):
        call = connection.content.Read(request, timeout=connection.timeout, metadata=namespaced(namespace))
        return b"".join(message.data for message in call)


def stream(connection: Connection, namespace: str, digest: Digest) -> Generator[bytes, None, None]:
    """Yield the blob from its start.

    The daemon stops at the recorded size; at a shorter file, it stops earlier without an error (containerd
    plugins/services/content/contentserver/contentserver.go `Read`).
    """
    request = content_pb2.ReadContentRequest(digest=digest)
    with reading(connection, digest):
        call = connection.content.Read(request, metadata=namespaced(namespace))
        with closing(connection.watch.messages(call, f"read {digest}")) as messages:
            for message in messages:
                yield message.data


def probe(connection: Connection, namespace: str, digest: Digest, size: int) -> FileState:
    """Examine a blob's file by reading its last byte; measure a shorter file by bisection.

    Args:
        connection: The daemon.
        namespace: A namespace with a record of the blob.
        digest: The blob.
        size: Recorded size in bytes. The daemon does not read beyond it, so a longer file is not noticed.

    Returns:
        Kind and size of the file; an error of the file is part of it.

    Raises:
        NoRecord: There is no record.
        StoreError: The daemon failed.

    """
    try:
        found = _size(lambda n: bool(part(connection, namespace, digest, offset=n - 1, size=1)), size)
        if size == 0:
            part(connection, namespace, digest, size=1)
    except NoFile:
        return FileState(FileKind.MISSING)
    except Conflict:
        return _probe_recorded(connection, namespace, digest, size)
    except ReadFailed as error:
        kind = FileKind.DIRECTORY if _IS_DIRECTORY in error.message else FileKind.UNREADABLE
        return FileState(kind, error=error.message)
    return FileState(FileKind.REGULAR, found, at_least=found == size)


def _probe_recorded(connection: Connection, namespace: str, digest: Digest, size: int) -> FileState:
    """Probe again with the recorded size, because the caller's is larger."""
    recorded = record(connection, namespace, digest).size
    if recorded >= size:
        return FileState(FileKind.UNREADABLE, error=f"the daemon does not read byte {size - 1} of {recorded}")
    return probe(connection, namespace, digest, recorded)


def _size(reaches: Callable[[int], bool], recorded: int) -> int:
    """Return the size of a file of at most `recorded` bytes; `reaches(n)` is whether it has at least n bytes."""
    if recorded == 0 or reaches(recorded):
        return recorded
    low, high = 0, recorded
    while high - low > 1:
        middle = 1 if high == recorded and low == 0 else (low + high) // 2
        if reaches(middle):
            low = middle
        else:
            high = middle
    return low
