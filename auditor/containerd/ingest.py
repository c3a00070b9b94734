"""Writing one blob: a conversation in which every answer says how far the daemon is."""

from __future__ import annotations

import os
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc

from auditor.containerd._proto import content_pb2
from auditor.containerd.channel import Connection, namespaced
from auditor.containerd.content_root import ContentRoot
from auditor.containerd.grpc_errors import translated
from auditor.containerd.stream_timeout import StallWatch
from auditor.errors import Conflict, NoRecord, StoreError
from auditor.model.digest import Digest
from auditor.model.store import Labels
from auditor.model.writable_store import LeaseHandle

#: Bytes of one WRITE. The daemon takes messages of up to 16 MiB; ctr sends 1 MiB.
PIECE = 1 << 20
#: Requests that may be under way before an answer is waited for.
AHEAD = 4
#: Bytes a second that a daemon is given for hashing what was staged, beside the usual timeout.
_SLOWEST = 8 << 20

_Request = content_pb2.WriteContentRequest
_Response = content_pb2.WriteContentResponse


class Conversation:
    """One open `Write` stream: `say` sends a request and gives the daemon's answer."""

    def __init__(self, requests: queue.SimpleQueue[_Request | None], answers: Iterator[_Response]) -> None:
        self._requests = requests
        self._answers = answers

    def say(self, request: _Request) -> _Response:
        """Send, and wait for the answer. Raises grpc.RpcError, StoreTimeout."""
        self.send(request)
        return self.hear()

    def send(self, request: _Request) -> None:
        """Send without waiting; each request has one answer, in the same order."""
        self._requests.put(request)

    def hear(self) -> _Response:
        """The next answer. Raises grpc.RpcError, StoreTimeout."""
        answer = next(self._answers, None)
        if answer is None:
            raise StoreError("containerd ended a write without an answer")
        return answer


@contextmanager
def conversation(
    connection: Connection, lease: LeaseHandle, doing: str, *, watch: StallWatch | None = None
) -> Iterator[Conversation]:
    """Open a `Write` stream under a lease; leaving it without COMMIT leaves an ingest that can be resumed.

    Raises Busy, AlreadyThere, Conflict, StoreError and its kinds, also from the body.
    """
    requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
    with translated(doing):
        call: Any = connection.content.Write(
            iter(requests.get, None), metadata=namespaced(lease.namespace, lease=lease.id)
        )
        answers = (watch or connection.watch).messages(call, doing)
        try:
            yield Conversation(requests, answers)
        finally:
            # Ends the stream from our side, then waits for the daemon's end: only after it the reference is unlocked.
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
    """Write and commit; what an earlier try left under `ref` is dropped, since nobody has proven it."""
    doing = f"write {expected}"
    with conversation(connection, lease, doing) as talk:
        talk.say(_Request(ref=ref, total=size, expected="" if deferred else expected))
        offset = _send(talk, ref, chunks, size=size)
        if offset != size:
            raise Conflict(f"cannot {doing}: the source gave {offset} of {size} bytes")
        if before_commit is not None:
            before_commit()
        _commit(talk, ref, size=size, expected=expected, labels=labels)


def adopt(connection: Connection, lease: LeaseHandle, ref: str, digest: Digest, *, size: int, labels: Labels) -> bool:
    """Commit what another namespace holds; False, with nothing committed, where the daemon offers nothing.

    containerd core/metadata/content.go `Writer`: under the shared policy the first answer already carries the digest.
    """
    with conversation(connection, lease, f"adopt {digest}") as talk:
        answer = talk.say(_Request(ref=ref, total=size, expected=digest))
        if answer.digest != digest:
            return False
        _commit(talk, ref, size=size, expected=digest, labels=labels)
    return True


def fill(connection: Connection, lease: LeaseHandle, ref: str, chunks: Iterable[bytes], *, size: int) -> None:
    """Write and do not commit; what an earlier try left under `ref` is dropped."""
    doing = f"stage {size} bytes"
    with conversation(connection, lease, doing) as talk:
        talk.say(_Request(ref=ref, total=size))
        offset = _send(talk, ref, chunks, size=size)
        if offset != size:
            raise Conflict(f"cannot {doing}: the source gave {offset}")


def begin(connection: Connection, lease: LeaseHandle, ref: str, *, size: int) -> None:
    """Make an unfinished write without a byte in it."""
    with conversation(connection, lease, f"begin a write of {size} bytes") as talk:
        talk.say(_Request(ref=ref, total=size))


def commit(
    connection: Connection, lease: LeaseHandle, ref: str, *, size: int, expected: Digest, labels: Labels
) -> None:
    """Commit what `fill` left; the daemon reads and hashes it when it opens it again. Raises NoRecord for nothing."""
    doing = f"commit {expected}"
    patience = connection.timeout + size / _SLOWEST
    with closing(StallWatch(patience)) as watch, conversation(connection, lease, doing, watch=watch) as talk:
        found = talk.say(_Request(ref=ref, total=size)).offset
        if found != size:
            kind = NoRecord if found == 0 else Conflict
            raise kind(f"cannot {doing}: {found} of {size} bytes were staged")
        _commit(talk, ref, size=size, expected=expected, labels=labels)


@contextmanager
def claimed(connection: Connection, namespace: str, ref: str) -> Iterator[None]:
    """Keep a write open that writes nothing: the daemon lets nobody else open it, and frees it when we die.

    containerd plugins/content/local/locks.go. Raises Busy where another client has it open.
    """
    with conversation(connection, LeaseHandle(namespace, ""), f"claim {ref!r} in {namespace}") as talk:
        talk.say(_Request(ref=ref))
        yield


def _send(talk: Conversation, ref: str, chunks: Iterable[bytes], *, size: int) -> int:
    """Send all chunks from offset 0, which makes the daemon drop what it has; gives the bytes sent.

    A few requests are under way at a time, so that the next bytes are read while the daemon writes the last ones.
    """
    offset = 0
    awaited: deque[int] = deque()
    for piece in regroup(chunks):
        if offset + len(piece) > size:
            raise Conflict(f"the source gives more than the {size} bytes of the blob")
        talk.send(_Request(action=content_pb2.WRITE, ref=ref, offset=offset, data=bytes(piece)))
        offset += len(piece)
        awaited.append(offset)
        if len(awaited) > AHEAD:
            _heard(talk, awaited.popleft())
    for wanted in awaited:
        _heard(talk, wanted)
    return offset


def _heard(talk: Conversation, offset: int) -> None:
    answer = talk.hear()
    if answer.offset != offset:
        raise Conflict(f"containerd is at byte {answer.offset} of a write of which we sent {offset}")


def _commit(talk: Conversation, ref: str, *, size: int, expected: Digest, labels: Mapping[str, str]) -> None:
    talk.say(
        _Request(action=content_pb2.COMMIT, ref=ref, offset=size, total=size, expected=expected, labels=dict(labels))
    )


def regroup(chunks: Iterable[bytes], *, piece: int = PIECE) -> Iterator[bytes | memoryview]:
    """The same bytes in pieces of `piece` bytes, the last one shorter; nothing empty.

    A chunk between half and four times that is passed on as it is, for each copy costs as much as a send.
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
    """The file of an unfinished write; None where none is found, or it is not ours to write.

    core/metadata/content.go names it `<namespace>/<number>/<ref>`, and the content store keeps that beside the data.
    """
    with suppress(OSError):
        for folder in (root.path / "ingest").iterdir():
            with suppress(OSError):
                name = (folder / "ref").read_text()
                if name.startswith(f"{namespace}/") and name.partition("/")[2].partition("/")[2] == ref:
                    return folder / "data" if os.access(folder / "data", os.W_OK) else None
    return None


def fill_file(path: Path, chunks: Iterable[bytes], *, size: int) -> None:
    """Write all bytes. Raises Conflict where they are not `size` bytes, StoreError where they cannot be written."""
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
