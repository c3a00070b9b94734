"""Read an archive back while it is written, and compare it with its plan."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from auditor.archive.open import collector, read_archive, read_errors
from auditor.archive.seen import Seen, claimed
from auditor.archive.store import ArchiveStore
from auditor.concurrency import CHUNK
from auditor.errors import ExportRefused, OutputError
from auditor.export.model import ExportPlan, PlannedBlob
from auditor.model.digest import Digest, Meter
from auditor.model.store import LayerVerification, LayerVerificationKind, VerificationKind

#: Reads a blob once more from the store; raises ExportRefused where the store's copy is wrong.
Reread = Callable[[PlannedBlob], None]


class ReadBack:
    """Verify a file in a thread while it is written, as `verify` would; use as a context manager.

    The reader follows the writer at the distance of a few chunks, so that the bytes come out of the page cache. It
    stops at the first wrong blob; the next `feed` then raises, so that a wrong blob early in a large archive ends the
    export early.

    Args:
        plan: what the archive must hold.
        path: the file; it may be empty yet.
        reread: finds out whether the store's copy of a wrong blob is wrong too.
        layers: also verify diffIDs, of the layers that containerd has not recorded one for.
        on_bytes: progress callback: bytes that were read since the last call.
        meter: hashes the file as it is read.

    """

    def __init__(
        self,
        plan: ExportPlan,
        path: Path,
        *,
        reread: Reread,
        layers: bool,
        on_bytes: Callable[[int], None] | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._plan = plan
        self._path = path
        self._reread = reread
        self._layers = layers
        self._meter = meter
        self._blobs = {blob.digest: blob for blob in plan.blobs}
        self._wrong: PlannedBlob | None = None
        self._written = 0
        self._ended = False
        self._stopped = False
        self._changed = threading.Condition()
        look = plan.unproven if layers else False
        self._members = collector(layers=look, on_bytes=on_bytes, on_file=self._check)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="archive-read-back")
        self._reading = self._pool.submit(self._read)

    def feed(self, size: int) -> None:
        """Let the reader have `size` more bytes of the file.

        Raises:
            ExportRefused: a blob that was read back is wrong, and so is the store's copy.
            OutputError: a blob that was read back is wrong, and the store's copy is right.
            StoreUnreachable: the file could not be read.

        """
        with self._changed:
            self._written += size
            self._changed.notify_all()
        if self._reading.done():
            self._judge()

    def finish(self) -> None:
        """Wait until the whole file has been read, and compare it with the plan.

        Raises:
            ExportRefused: a blob is wrong in the store too, or a layer does not decompress to its diffID.
            OutputError: the file does not hold what was written.
            StoreUnreachable: the file could not be read.

        """
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._judge()

    def abort(self) -> None:
        """Stop the reader and wait for it; without effect after `finish`."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._pool.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.abort()

    def _judge(self) -> None:
        archive = self._reading.result()
        if self._wrong is not None:
            self._reread(self._wrong)
            raise _not_as_written(f"{self._wrong.digest} is {VerificationKind.CORRUPT}")
        compare(self._plan, archive, reread=self._reread, layers=self._layers)

    def _read(self) -> ArchiveStore:
        return read_archive(self._chunks(), self._members, address=str(self._path), seekable=True)

    def _chunks(self) -> Iterator[bytes]:
        """The bytes of the file as they are written; runs in the thread that reads ahead."""
        position = 0
        with read_errors(self._path), self._path.open("rb", buffering=0) as file:
            while self._wait(position) and (chunk := file.read(CHUNK)):
                position += len(chunk)
                if self._meter is not None:
                    self._meter.update(chunk)
                yield chunk

    def _wait(self, position: int) -> bool:
        """Wait until there are bytes behind `position` or all has been written; False where reading is to stop."""
        with self._changed:
            self._changed.wait_for(lambda: self._written > position or self._ended or self._stopped)
            return not self._stopped

    def _check(self, seen: Seen) -> None:
        blob = self._blobs.get(claimed(seen.name) or Digest(""))
        if blob is not None and (seen.digest, seen.size, seen.error) != (blob.digest, blob.size, ""):
            self._wrong = self._wrong or blob
            self._stopped = True


def compare(plan: ExportPlan, archive: ArchiveStore, *, reread: Reread, layers: bool) -> None:
    """Check that `archive` holds exactly what `plan` says, intact.

    A layer whose diffID containerd has recorded needs no decompression: the digest proves that it is the same bytes.

    Args:
        plan: what was written.
        archive: what was read back.
        reread: finds out whether the store's copy of a wrong blob is wrong too.
        layers: also compare what layers decompress to with their diffIDs.

    Raises:
        ExportRefused: a blob is wrong in the store too, or a layer has the right digest and does not decompress to its
            diffID: the image itself is bad.
        OutputError: what is on the disk is not what was written.

    """
    for problem in archive.problems:
        raise _not_as_written(problem.message)
    verifications = archive.verifications()
    for blob in plan.blobs:
        verification = verifications.get(blob.digest)
        if verification is None:
            raise _not_as_written(f"{blob.digest} is absent")
        if verification.kind is not VerificationKind.SOUND or verification.size != blob.size:
            reread(blob)
            raise _not_as_written(f"{blob.digest} is {verification.kind}")
        if layers and blob.digest in plan.unproven:
            _compare_layer(plan, blob, verification.layer)
    if len(verifications) != len(plan.blobs):
        raise _not_as_written("it has other blobs too")
    if sorted((image.name, image.target.digest) for image in archive.inventory("").images) != sorted(_names(plan)):
        raise _not_as_written("its index names other images")


def _not_as_written(fault: str) -> OutputError:
    return OutputError(f"read back, the archive is not what was written: {fault}", hint="look at the disk")


def _names(plan: ExportPlan) -> Iterator[tuple[str, Digest]]:
    for image in plan.images:
        for name in image.names or (str(image.target.digest),):
            yield name, image.target.digest


def _compare_layer(plan: ExportPlan, blob: PlannedBlob, layer: LayerVerification | None) -> None:
    if layer is None or layer.kind is not LayerVerificationKind.SOUND:
        detail = f": {layer.detail}" if layer is not None and layer.detail else ""
        fault = f"cannot be decompressed{detail}"
    elif layer.diff_id != blob.diff_id:
        fault = f"decompresses to {layer.diff_id}, not to the {blob.diff_id} of its config"
    else:
        return
    raise ExportRefused(
        f"{plan.uses(blob)}{blob.digest} {fault}; no archive was written",
        hint="the image is broken as it was built; build it again",
    )
