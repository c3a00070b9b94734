"""Moving blobs out of a store: every byte hashed and counted on the way, copied by the kernel where there is a file."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from types import TracebackType
from typing import Final, Self

from auditor.archive import outer
from auditor.archive.outer import CHUNK
from auditor.archive.planned import ExportPlan, PlannedBlob, Role
from auditor.archive.sinks import FileSink, Sink
from auditor.digest import Measured, Meter
from auditor.errors import ExportRefused, NoFile, NoRecord, ObjectError
from auditor.store import FileBacked, Proof, ProofKind, Store

#: Files open at once while their hashes are outstanding.
_AHEAD: Final = 16


class WrongContent(ExportRefused):
    """A blob is absent, unreadable or not what its digest says; `proof` tells which and how."""

    def __init__(self, proof: Proof, used: str, why: str) -> None:
        hint = "`auditor repair` puts it back where a good copy can be found"
        if proof.kind is ProofKind.UNREADABLE:
            hint = "look at the disk and the daemon; the blob may be sound"
        super().__init__(f"{used}{proof.digest} {why}; no archive was written", hint=hint)
        self.proof = proof


class Pump:
    """Moves blobs of one namespace into sinks; a context manager. `settle` must have returned before all is proven."""

    def __init__(
        self, plan: ExportPlan, store: Store, *, namespace: str, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        self._plan = plan
        self._store = store
        self._namespace = namespace
        self._on_bytes = on_bytes
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="archive-hash")
        self._due: deque[tuple[PlannedBlob, int, Future[Measured]]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hashing.shutdown(cancel_futures=True)
        for _, file, _ in self._due:
            os.close(file)

    def move(self, blob: PlannedBlob, sink: Sink) -> None:
        """Write a blob's bytes, exactly as many as planned. Raises WrongContent; OSError of the sink."""
        file = self._open(blob) if isinstance(sink, FileSink) else None
        if isinstance(sink, FileSink) and file is not None:
            self._copy(blob, file, sink)
        else:
            self._stream(blob, sink)

    def settle(self, *, left: int = 0) -> None:
        """Wait until at most `left` hashes are outstanding, and judge those that came. Raises WrongContent."""
        while len(self._due) > left:
            blob, file, measured = self._due.popleft()
            try:
                self._judge(blob, measured.result())
            except OSError as error:
                raise self._wrong(blob, ProofKind.UNREADABLE, f"cannot be read: {error.strerror}") from None
            finally:
                os.close(file)

    def _open(self, blob: PlannedBlob) -> int | None:
        if not isinstance(self._store, FileBacked):
            return None
        try:
            return self._store.open_file(self._namespace, blob.digest)
        except ObjectError as error:
            raise self._failed(blob, error) from None

    def _copy(self, blob: PlannedBlob, file: int, sink: FileSink) -> None:
        """Hash in a thread what the kernel copies meanwhile; the descriptor is closed when both are done."""
        self._due.append((blob, file, self._hashing.submit(self._hash, blob, file)))
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise self._wrong(blob, ProofKind.CORRUPT, "is no regular file")
        if status.st_size != blob.size or sink.copy(file, blob.size) != blob.size:
            raise self._size(blob, status.st_size)
        self.settle(left=_AHEAD)

    def _hash(self, blob: PlannedBlob, file: int) -> Measured:
        """Read a file from the start, and no further than it takes to see that it is longer."""
        meter = Meter(blob.digest.algorithm)
        while meter.size <= blob.size and (chunk := os.pread(file, CHUNK, meter.size)):
            meter.update(chunk)
            self._heard(len(chunk))
        return meter.result()

    def _stream(self, blob: PlannedBlob, sink: Sink) -> None:
        meter = Meter(blob.digest.algorithm)
        for chunk in self._chunks(blob):
            meter.update(chunk)
            if meter.size > blob.size:
                raise self._size(blob, meter.size)
            sink.write(chunk)
            self._heard(len(chunk))
        self._judge(blob, meter.result())

    def _chunks(self, blob: PlannedBlob) -> Iterator[bytes]:
        """The bytes from the store; only its own errors become a verdict on the blob."""
        try:
            with self._store.stream(self._namespace, blob.digest) as chunks, closing(outer.Ahead(chunks)) as early:
                yield from early
        except ObjectError as error:
            raise self._failed(blob, error) from None

    def _heard(self, size: int) -> None:
        if self._on_bytes is not None:
            self._on_bytes(size)

    def _judge(self, blob: PlannedBlob, measured: Measured) -> None:
        if measured.size != blob.size:
            raise self._size(blob, measured.size)
        if measured.digest != blob.digest:
            proof = Proof(digest=blob.digest, kind=ProofKind.CORRUPT, size=measured.size, actual=measured.digest)
            raise WrongContent(proof, self._used(blob), f"has other bytes: they hash to {measured.digest}")

    def _size(self, blob: PlannedBlob, found: int) -> WrongContent:
        what = "is empty" if not found else f"has {found} bytes" if found < blob.size else "is longer"
        return self._wrong(blob, ProofKind.CORRUPT, f"{what} where its descriptor gives {blob.size}")

    def _failed(self, blob: PlannedBlob, error: ObjectError) -> WrongContent:
        if isinstance(error, NoRecord | NoFile):
            return self._wrong(blob, ProofKind.MISSING, "is not in the store any more")
        return self._wrong(blob, ProofKind.UNREADABLE, f"cannot be read: {error.message}")

    def _wrong(self, blob: PlannedBlob, kind: ProofKind, why: str) -> WrongContent:
        return WrongContent(Proof(digest=blob.digest, kind=kind), self._used(blob), why)

    def _used(self, blob: PlannedBlob) -> str:
        """Whose blob it is, as the beginning of a sentence: image, platform, layer."""
        for image in self._plan.images:
            name = image.names[0] if image.names else image.target.digest.short
            for one in image.platforms:
                where = f"{name} for {one.platform}" if one.platform else name
                if blob.digest in one.layers:
                    return f"{where}: layer {one.layers.index(blob.digest) + 1} "
                if blob.digest in (one.manifest, one.config):
                    return f"{where}: the {Role.CONFIG if blob.digest == one.config else Role.MANIFEST} "
            if blob.digest == image.target.digest:
                return f"{name}: the {blob.role} "
        return f"the {blob.role} "
