"""Write one blob: the `Write` stream of the content service, and the ingest's file."""

from __future__ import annotations

import os
import queue
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from auditor.containerd._proto import content_pb2
from auditor.containerd.channel import Connection, namespaced
from auditor.containerd.content_root import ContentRoot
from auditor.containerd.grpc_errors import translated
from auditor.containerd.grpc_import import grpc
from auditor.containerd.stream_timeout import StallWatch
from auditor.errors import Busy, Conflict, NoRecord, StoreError
from auditor.model.digest import Digest
from auditor.model.store import Labels
from auditor.model.writable_store import LeaseHandle

#: Bytes of one WRITE request. The daemon accepts messages of up to 16 MiB; ctr sends 1 MiB.
PIECE = 1 << 20
#: Maximum of requests without an answer.
AHEAD = 4
#: Seconds in which a client that ends closes a lock whose ingest it has aborted.
_ENDING = 1.0
#: Lowest assumed hash rate of the daemon in bytes a second; extends the timeout of a commit.
_SLOWEST = 8 << 20

_Request = content_pb2.WriteContentRequest
_Response = content_pb2.WriteContentResponse


class WriteStream:
    """One open `Write` stream; each request has one answer, in order."""

    def __init__(self, requests: queue.SimpleQueue[_Request | None], answers: Iterator[_Response]) -> None:
        self._requests = requests
        self._answers = answers

    def call(self, request: _Request) -> _Response:
        """Send a request and return its answer.

        Raises:
            grpc.RpcError: The call failed.
            StoreTimeout: No answer in time.

        """
        self.send(request)
        return self.receive()

    def send(self, request: _Request) -> None:
        """Send a request without waiting for its answer."""
        self._requests.put(request)

    def receive(self) -> _Response:
        """Return the next answer; errors as for `call`."""
        answer = next(self._answers, None)
        if answer is None:
            raise StoreError("containerd ended a write without an answer")
        return answer


@contextmanager
def write_stream(
    connection: Connection, lease: LeaseHandle, doing: str, *, watch: StallWatch | None = None
) -> Iterator[WriteStream]:
    """Open a `Write` stream under a lease; without a COMMIT, the ingest stays and can be resumed.

    Args:
        connection: The daemon.
        lease: The lease.
        doing: Completes the sentence "cannot …".
        watch: Timeout of the answers; the connection's by default.

    Raises:
        Busy: Another client has the reference open.
        AlreadyThere: The blob exists.
        Conflict: Size, offset or digest differ.
        StoreError: The daemon failed.

    """
    requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
    with translated(doing):
        call: Any = connection.content.Write(
            iter(requests.get, None), metadata=namespaced(lease.namespace, lease=lease.id)
        )
        answers = (watch or connection.watch).messages(call, doing)
        try:
            yield WriteStream(requests, answers)
        finally:
            # Close this side, then wait for the daemon to close its side: it unlocks the reference before.
            requests.put(None)
            with suppress(grpc.RpcError, StoreError), closing(answers):
                deque(answers, maxlen=0)


def write(
    connection: Connection,
    lease: LeaseHandle,
    ref: str,
    chunks: Iterable[bytes],
    *,
    size: int,
    expected: Digest,
    labels: Labels,
    deferred: bool,
    before_commit: Callable[[], None] | None,
) -> None:
    """Write a blob and commit it; an earlier ingest under `ref` is overwritten, because its bytes are unverified."""
    doing = f"write {expected}"
    with write_stream(connection, lease, doing) as stream:
        stream.call(_Request(ref=ref, total=size, expected="" if deferred else expected))
        offset = _send(stream, ref, chunks, size=size)
        if offset != size:
            raise Conflict(f"cannot {doing}: the source gave {offset} of {size} bytes")
        if before_commit is not None:
            before_commit()
        _commit(stream, ref, size=size, expected=expected, labels=labels)


def adopt(connection: Connection, lease: LeaseHandle, ref: str, digest: Digest, *, size: int, labels: Labels) -> bool:
    """Commit a blob that another namespace has, without sending its bytes.

    Under the shared policy the first answer carries the digest (containerd core/metadata/content.go `Writer`).

    Returns:
        False, with nothing committed, where the daemon does not offer the blob.

    """
    with write_stream(connection, lease, f"adopt {digest}") as stream:
        answer = stream.call(_Request(ref=ref, total=size, expected=digest))
        if answer.digest != digest:
            return False
        _commit(stream, ref, size=size, expected=digest, labels=labels)
    return True


def fill(connection: Connection, lease: LeaseHandle, ref: str, chunks: Iterable[bytes], *, size: int) -> None:
    """Write an ingest without a commit; an earlier one under `ref` is overwritten.

    Raises:
        Conflict: The chunks have not `size` bytes.

    """
    doing = f"stage {size} bytes"
    with write_stream(connection, lease, doing) as stream:
        stream.call(_Request(ref=ref, total=size))
        offset = _send(stream, ref, chunks, size=size)
        if offset != size:
            raise Conflict(f"cannot {doing}: the source gave {offset}")


def begin(connection: Connection, lease: LeaseHandle, ref: str, *, size: int) -> None:
    """Create an empty ingest."""
    with write_stream(connection, lease, f"begin a write of {size} bytes") as stream:
        stream.call(_Request(ref=ref, total=size))


def commit(
    connection: Connection, lease: LeaseHandle, ref: str, *, size: int, expected: Digest, labels: Labels
) -> None:
    """Commit the ingest of `fill`; the daemon reads and hashes it on opening.

    Raises:
        NoRecord: The ingest is empty.
        Conflict: Its size or digest differs.

    """
    doing = f"commit {expected}"
    timeout = connection.timeout + size / _SLOWEST
    with closing(StallWatch(timeout)) as watch, write_stream(connection, lease, doing, watch=watch) as stream:
        found = stream.call(_Request(ref=ref, total=size)).offset
        if found != size:
            kind = NoRecord if found == 0 else Conflict
            raise kind(f"cannot {doing}: {found} of {size} bytes were staged")
        _commit(stream, ref, size=size, expected=expected, labels=labels)


@contextmanager
def claimed(connection: Connection, namespace: str, ref: str) -> Iterator[None]:
    """Hold a lock: an open ingest without bytes, which the daemon frees when the connection ends.

    Source: containerd plugins/content/local/locks.go.

    Raises:
        Busy: Another client holds it.
        StoreError: No client holds it: containerd keeps the lock of an ingest whose record could not be written, as on
            a full disk, until it is restarted (core/metadata/content.go `Writer`).

    """
    with ExitStack() as held:
        for pause in (_ENDING, None):
            try:
                held.enter_context(_claim(connection, namespace, ref))
                break
            except Busy:
                if _is_listed(connection, namespace, ref):
                    raise
                if pause is None:
                    raise _lost(namespace, ref) from None
                time.sleep(pause)
        yield


@contextmanager
def _claim(connection: Connection, namespace: str, ref: str) -> Iterator[None]:
    with write_stream(connection, LeaseHandle(namespace, ""), f"claim {ref!r} in {namespace}") as stream:
        stream.call(_Request(ref=ref))
        yield


def _lost(namespace: str, ref: str) -> StoreError:
    return StoreError(
        f"containerd holds the lock {ref!r} in {namespace} for no client: it could not write the record, "
        "as on a full disk",
        hint="make room on its disk and restart containerd; containers keep running",
    )


def _is_listed(connection: Connection, namespace: str, ref: str) -> bool:
    with translated(f"list the ingests of {namespace}"):
        request = content_pb2.ListStatusesRequest()
        answer = connection.content.ListStatuses(request, timeout=connection.timeout, metadata=namespaced(namespace))
    return any(status.ref == ref for status in answer.statuses)


def _send(stream: WriteStream, ref: str, chunks: Iterable[bytes], *, size: int) -> int:
    """Send all chunks from offset 0, which truncates the ingest; return the number of bytes.

    Up to AHEAD requests are open, so that reading overlaps with the daemon's writing.
    """
    offset = 0
    awaited: deque[int] = deque()
    for piece in regroup(chunks):
        if offset + len(piece) > size:
            raise Conflict(f"the source gives more than the {size} bytes of the blob")
        stream.send(_Request(action=content_pb2.WRITE, ref=ref, offset=offset, data=bytes(piece)))
        offset += len(piece)
        awaited.append(offset)
        if len(awaited) > AHEAD:
            _check_offset(stream, awaited.popleft())
    for wanted in awaited:
        _check_offset(stream, wanted)
    return offset


def _check_offset(stream: WriteStream, offset: int) -> None:
    answer = stream.receive()
    if answer.offset != offset:
        raise Conflict(f"containerd has {answer.offset} bytes of an ingest after {offset} were sent")


def _commit(stream: WriteStream, ref: str, *, size: int, expected: Digest, labels: Mapping[str, str]) -> None:
    stream.call(
        _Request(action=content_pb2.COMMIT, ref=ref, offset=size, total=size, expected=expected, labels=dict(labels))
    )


def regroup(chunks: Iterable[bytes], *, piece: int = PIECE) -> Iterator[bytes | memoryview]:
    """Regroup chunks to `piece` bytes each, the last one shorter, none empty.

    A chunk of half to four times that size is passed on unchanged: a copy costs as much as a send.
    """
    pending = bytearray()
    for chunk in chunks:
        if not pending and piece // 2 <= len(chunk) <= 4 * piece:
            yield chunk
            continue
        pending += chunk
        while len(pending) >= piece:
            yield bytes(memoryview(pending)[:piece])
            del pending[:piece]
    if pending:
        yield bytes(pending)


def data_file(root: ContentRoot, namespace: str, ref: str) -> Path | None:
    """Return the data file of an ingest; None where it is not found or not writable.

    The file `ref` beside it contains `<namespace>/<number>/<ref>` (containerd core/metadata/content.go).
    """
    with suppress(OSError):
        for folder in (root.path / "ingest").iterdir():
            with suppress(OSError):
                name = (folder / "ref").read_text()
                if name.startswith(f"{namespace}/") and name.partition("/")[2].partition("/")[2] == ref:
                    return folder / "data" if os.access(folder / "data", os.W_OK) else None
    return None


def fill_file(path: Path, chunks: Iterable[bytes], *, size: int) -> None:
    """Write chunks to a file.

    Raises:
        Conflict: The chunks have not `size` bytes.
        StoreError: The file cannot be written.

    """
    descriptor = _opened(path)
    written = 0
    try:
        for chunk in chunks:
            written += len(chunk)
            if written > size:
                break
            _write(descriptor, path, chunk)
    finally:
        os.close(descriptor)
    if written != size:
        raise Conflict(f"the source gave {written} of {size} bytes")


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _failed(path, error) from error


def _write(descriptor: int, path: Path, chunk: bytes) -> None:
    rest = memoryview(chunk)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError as error:
        raise _failed(path, error) from error


def _failed(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot write {path}: {error.strerror or error}", hint="is the file system full, or mounted read-only?"
    )
