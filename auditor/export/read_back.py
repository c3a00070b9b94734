"""Reading a file back while it is still being written: the reader waits at its end until there is more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

from auditor.archive.members import Seen, claimed
from auditor.archive.store import ArchiveStore
from auditor.errors import ExportRefused, OutputError
from auditor.export.model import ExportPlan, PlannedBlob
from auditor.model.digest import Digest, Meter
from auditor.model.store import LayerProof, LayerProofKind, Proof, ProofKind


class Abandoned(Exception):
    """The other side has given up, and says why itself."""


class Growing:
    """How far a file has been written, and whether its reader still follows; `meter`, if any, hashes the file.

    It is a `Tap` of the reader. Either side hears that the other has given up by an Abandoned.
    """

    def __init__(self, meter: Meter | None = None) -> None:
        self._meter = meter
        self._written = 0
        self._ended = False
        self._abandoned = False
        self._change = threading.Condition()

    def grew(self, size: int) -> None:
        """More has been written. Raises Abandoned where nobody reads on."""
        with self._change:
            if self._abandoned:
                raise Abandoned
            self._written += size
            self._change.notify_all()

    def end(self) -> None:
        """All has been written."""
        with self._change:
            self._ended = True
            self._change.notify_all()

    def abandon(self) -> None:
        """Give up, on either side."""
        with self._change:
            self._abandoned = True
            self._change.notify_all()

    def wait(self, position: int) -> None:
        """Return when something is behind `position`, or all has been written. Raises Abandoned."""
        with self._change:
            self._change.wait_for(lambda: self._written > position or self._ended or self._abandoned)
            if self._abandoned:
                raise Abandoned

    def update(self, chunk: bytes) -> None:
        """Take what was read."""
        if self._meter is not None:
            self._meter.update(chunk)


class Follower:
    """Runs `read` in a thread beside the writing inside the block.

    Leaving the block by an error ends the reader; where it was the reader that gave up, its own error is raised.
    """

    def __init__(self, growing: Growing, read: Callable[[], None]) -> None:
        self._growing = growing
        self._read = read
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="archive-read-back")

    def __enter__(self) -> Future[None]:
        self._reading = self._pool.submit(self._follow)
        return self._reading

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._growing.abandon()
        self._pool.shutdown()
        if isinstance(error, Abandoned):
            self._reading.result()

    def _follow(self) -> None:
        try:
            self._read()
        except BaseException:
            self._growing.abandon()
            raise


class Differs(Exception):
    """A blob of the archive is not what its name says; the store's copy may be to blame, or the disk."""

    def __init__(self, blob: PlannedBlob) -> None:
        super().__init__(str(blob.digest))
        self.blob = blob


def as_planned(plan: ExportPlan) -> Callable[[Seen], None]:
    """What hears of each file that is read back and raises Differs at the first blob that is not right.

    So that nobody goes on for an hour to write what is wrong from its first minute.
    """
    blobs = {blob.digest: blob for blob in plan.blobs}

    def look(seen: Seen) -> None:
        blob = blobs.get(claimed(seen.name) or Digest(""))
        if blob is not None and (seen.digest, seen.size, seen.error) != (blob.digest, blob.size, ""):
            raise Differs(blob)

    return look


def prove(plan: ExportPlan, archive: ArchiveStore, *, layers: bool) -> None:
    """See that `archive` holds exactly what `plan` says, sound; with `layers`, that layers are what configs say.

    What containerd has recorded of a layer needs no second look: the digest says that these are the same bytes.
    Raises OutputError where what is on the disk is not what was written; ExportRefused where a layer's bytes are what
    its digest says, and do not decompress to its diffID: the image itself is bad.
    """
    for fault in _written_wrong(plan, archive):
        raise OutputError(f"read back, the archive is not what was written: {fault}", hint="look at the disk")
    for fault in _layers_wrong(plan, archive) if layers else ():
        raise ExportRefused(
            f"{fault}; no archive was written", hint="the image is broken as it was built; build it again"
        )


def _written_wrong(plan: ExportPlan, archive: ArchiveStore) -> Iterator[str]:
    yield from (problem.message for problem in archive.problems)
    proofs = archive.proofs()
    for blob in plan.blobs:
        proof = proofs.get(blob.digest)
        if proof is None or proof.kind is not ProofKind.SOUND or proof.size != blob.size:
            yield f"{blob.digest} is {'absent' if proof is None else proof.kind}"
    if len(proofs) != len(plan.blobs):
        yield "it has other blobs too"
    found = sorted((image.name, image.target.digest) for image in archive.inventory("").images)
    if found != sorted(_names(plan)):
        yield "its index names other images"


def _names(plan: ExportPlan) -> Iterator[tuple[str, Digest]]:
    for image in plan.images:
        for name in image.names or (str(image.target.digest),):
            yield name, image.target.digest


def _layers_wrong(plan: ExportPlan, archive: ArchiveStore) -> Iterator[str]:
    proofs = archive.proofs()
    for blob in plan.blobs:
        wrong = blob.digest in plan.unproven and _wrong(blob, proofs[blob.digest])
        if wrong:
            yield f"{plan.uses(blob)}{blob.digest} {wrong}"


def _wrong(blob: PlannedBlob, proof: Proof) -> str:
    layer = proof.layer or LayerProof(kind=LayerProofKind.UNVERIFIABLE)
    if layer.kind is not LayerProofKind.SOUND:
        return f"cannot be decompressed: {layer.detail}" if layer.detail else "cannot be decompressed"
    if layer.diff_id != blob.diff_id:
        return f"decompresses to {layer.diff_id}, not to the {blob.diff_id} of its config"
    return ""
