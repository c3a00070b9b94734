"""Comparing an archive that was read back with the plan it was written from."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from auditor.archive.members import Seen, claimed
from auditor.archive.planned import ExportPlan, PlannedBlob
from auditor.archive.read import ArchiveStore
from auditor.digest import Digest
from auditor.errors import ExportRefused, OutputError
from auditor.store import LayerProof, LayerProofKind, Proof, ProofKind


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
