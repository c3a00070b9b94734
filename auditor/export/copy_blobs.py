"""Copy blobs out of a store: by the kernel where the store has files, as a verified stream where it has none."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from typing import Final

from auditor.concurrency import read_ahead
from auditor.errors import ExportRefused, NoFile, NoRecord, ObjectError
from auditor.export.model import ExportPlan, PlannedBlob
from auditor.export.sinks import FileSink, Sink
from auditor.model.command_line import command
from auditor.model.digest import Measured, Meter
from auditor.model.store import FileBacked, Store, Verification, VerificationKind

#: The remedy for a blob that cannot be read; a repair leaves it alone.
UNREADABLE: Final = "look at the disk and the daemon; the blob may be intact"


class WrongContent(ExportRefused):
    """A blob is missing, unreadable, or does not match its digest or size; `verification` has the outcome."""

    def __init__(
        self, verification: Verification, why: str, *, plan: ExportPlan, blob: PlannedBlob, namespace: str
    ) -> None:
        where, user = ("-n", namespace) if namespace else (), plan.user(blob)
        shown = command("auditor", "repair", *where, "--verify", "digests", names=[user] if user else ())
        hint = f"`{shown}` puts it back where a good copy can be found"
        if verification.kind is VerificationKind.UNREADABLE:
            hint = UNREADABLE
        super().__init__(f"{plan.uses(blob)}{verification.digest} {why}; no archive was written", hint=hint)
        self.verification = verification


class BlobCopier:
    """Copy blobs of one namespace into sinks.

    Bytes that the kernel copies are hashed once, when the archive is read back: that verifies the copy that counts.
    Where it differs, `reread` finds out whether the store's copy is wrong. Bytes that come as a stream are hashed here.

    Args:
        plan: the export, for messages.
        store: where the blobs are.
        namespace: their namespace.
        on_bytes: progress callback: bytes that were copied since the last call.

    """

    def __init__(
        self, plan: ExportPlan, store: Store, *, namespace: str, on_bytes: Callable[[int], None] | None = None
    ) -> None:
        self._plan = plan
        self._store = store
        self._namespace = namespace
        self._on_bytes = on_bytes

    def copy(self, blob: PlannedBlob, sink: Sink) -> None:
        """Write a blob's bytes, exactly as many as planned.

        Raises:
            WrongContent: the blob is missing, unreadable, of another size, or (as a stream) does not match its digest.
            OSError: the sink cannot be written.

        """
        file = self._open(blob) if isinstance(sink, FileSink) else None
        if isinstance(sink, FileSink) and file is not None:
            try:
                self._copy(blob, file, sink)
            finally:
                os.close(file)
        else:
            for chunk in self._verified(blob):
                sink.write(chunk)
                self._count(len(chunk))

    def reread(self, blob: PlannedBlob) -> None:
        """Read a blob from the store once more, after its copy turned out wrong.

        Raises:
            WrongContent: the store's copy is wrong.

        """
        for _ in self._verified(blob):
            pass

    def _open(self, blob: PlannedBlob) -> int | None:
        if not isinstance(self._store, FileBacked):
            return None
        try:
            return self._store.open_file(self._namespace, blob.digest)
        except ObjectError as error:
            raise self._failed(blob, error) from None

    def _copy(self, blob: PlannedBlob, file: int, sink: FileSink) -> None:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise self._wrong(blob, VerificationKind.CORRUPT, "is not a regular file")
        if status.st_size != blob.size:
            raise self._size(blob, status.st_size)
        copied = sink.copy(file, blob.size, on_bytes=self._count)
        if copied != blob.size:
            raise self._size(blob, copied)

    def _verified(self, blob: PlannedBlob) -> Iterator[bytes]:
        """Yield the bytes; raise WrongContent at the end where they do not match the digest."""
        meter = Meter(blob.digest.algorithm)
        for chunk in self._chunks(blob):
            meter.update(chunk)
            if meter.size > blob.size:
                raise self._size(blob, meter.size)
            yield chunk
        self._check(blob, meter.result())

    def _chunks(self, blob: PlannedBlob) -> Iterator[bytes]:
        """Yield the bytes of the store; map its errors, and no others, to WrongContent."""
        try:
            with self._store.stream(self._namespace, blob.digest) as chunks, read_ahead(chunks) as early:
                yield from early
        except ObjectError as error:
            raise self._failed(blob, error) from None

    def _count(self, size: int) -> None:
        if self._on_bytes is not None:
            self._on_bytes(size)

    def _check(self, blob: PlannedBlob, measured: Measured) -> None:
        if measured.size != blob.size:
            raise self._size(blob, measured.size)
        if measured.digest != blob.digest:
            verification = Verification(
                digest=blob.digest, kind=VerificationKind.CORRUPT, size=measured.size, actual=measured.digest
            )
            raise self._content(blob, verification, f"has other bytes: they hash to {measured.digest}")

    def _size(self, blob: PlannedBlob, found: int) -> WrongContent:
        what = "is empty" if not found else f"has {found} bytes" if found < blob.size else "is longer"
        return self._wrong(blob, VerificationKind.CORRUPT, f"{what} where its descriptor gives {blob.size}")

    def _failed(self, blob: PlannedBlob, error: ObjectError) -> WrongContent:
        if isinstance(error, NoRecord):
            return self._wrong(blob, VerificationKind.MISSING, "is not in the store any more")
        if isinstance(error, NoFile):
            return self._wrong(blob, VerificationKind.MISSING, "has a record and no file on the disk")
        return self._wrong(
            blob, VerificationKind.UNREADABLE, error.message.removeprefix(f"cannot read {blob.digest}: ")
        )

    def _wrong(self, blob: PlannedBlob, kind: VerificationKind, why: str) -> WrongContent:
        said = f"cannot be read: {why}" if kind is VerificationKind.UNREADABLE else why
        return self._content(blob, Verification(digest=blob.digest, kind=kind), said)

    def _content(self, blob: PlannedBlob, verification: Verification, why: str) -> WrongContent:
        return WrongContent(verification, why, plan=self._plan, blob=blob, namespace=self._namespace)
