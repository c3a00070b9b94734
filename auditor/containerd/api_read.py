"""Bytes of blobs through the API, for where their files are not visible to us, and to ask what the daemon sees."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager

from auditor.containerd._proto import content_pb2
from auditor.containerd.channel import Connection, namespaced
from auditor.containerd.grpc_errors import translated
from auditor.errors import Conflict, MalformedDocument, NoFile, ReadFailed, StoreTimeout
from auditor.model.digest import Digest
from auditor.model.store import FileKind, FileState

#: What Go's error for reading a folder says; the daemon passes it on.
_IS_DIRECTORY = "is a directory"


@contextmanager
def reading(connection: Connection, digest: Digest) -> Iterator[None]:
    """Map errors of reading one blob; raises NoRecord, NoFile, ReadFailed, StoreTimeout, StoreUnreachable.

    A daemon that answers elsewhere while this blob does not come is not a daemon that hangs: the file is then
    something on which reading blocks, or its medium is.
    """
    try:
        with translated(f"read {digest}", otherwise=ReadFailed):
            yield
    except StoreTimeout as error:
        if not connection.answers():
            raise
        raise ReadFailed(error.message, hint="the daemon answers, but not for this blob: look at its file") from error


def record(connection: Connection, namespace: str, digest: Digest) -> content_pb2.Info:
    """The record of a blob, from the database alone. Raises NoRecord and StoreError's kinds."""
    request = content_pb2.InfoRequest(digest=digest)
    with translated(f"look up {digest}"):
        answer = connection.content.Info(request, timeout=connection.timeout, metadata=namespaced(namespace))
    return answer.info


def read(connection: Connection, namespace: str, digest: Digest, *, limit: int) -> bytes:
    """A small blob, whole. Raises as `reading` does; MalformedDocument where it has more than `limit` bytes."""
    data = part(connection, namespace, digest, size=limit + 1)
    if len(data) > limit:
        raise MalformedDocument(f"{digest} has more than the {limit} bytes that a document may have")
    return data


def part(connection: Connection, namespace: str, digest: Digest, *, offset: int = 0, size: int) -> bytes:
    """Up to `size` bytes from `offset` on, fewer where the file ends; raises as `reading` does, Conflict beyond it."""
    request = content_pb2.ReadContentRequest(digest=digest, offset=offset, size=size)
    with reading(connection, digest):
        call = connection.content.Read(request, timeout=connection.timeout, metadata=namespaced(namespace))
        return b"".join(message.data for message in call)


def stream(connection: Connection, namespace: str, digest: Digest) -> Generator[bytes, None, None]:
    """The blob from its start; the daemon stops at the recorded size, and earlier with a shorter file, silently."""
    request = content_pb2.ReadContentRequest(digest=digest)
    with reading(connection, digest):
        call = connection.content.Read(request, metadata=namespaced(namespace))
        with closing(connection.watch.messages(call, f"read {digest}")) as messages:
            for message in messages:
                yield message.data


def probe(connection: Connection, namespace: str, digest: Digest, size: int) -> FileState:
    """Look at a blob's file by asking for its last byte; a shorter file is measured by halving.

    `size` is the recorded size. The daemon never reads beyond it, so that a longer file looks right. Raises NoRecord
    and StoreError's kinds; everything about the file is in the answer.
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
    """The caller's size is beyond the record's: look again with the record's own."""
    recorded = record(connection, namespace, digest).size
    if recorded >= size:
        return FileState(FileKind.UNREADABLE, error=f"the daemon does not read byte {size - 1} of {recorded}")
    return probe(connection, namespace, digest, recorded)


def _size(reaches: Callable[[int], bool], recorded: int) -> int:
    """How many of `recorded` bytes are there; `reaches(n)` says whether there are at least n."""
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
