"""Play a layer's blob and verify it on the way. This imports little, so that other processes start fast."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing

from auditor.layers.threaded_meter import ThreadedMeter
from auditor.model.digest import Digest
from auditor.model.store import LayerVerificationKind, Verification, VerificationKind
from auditor.snapshots.beside import Admit, Beside, at_once
from auditor.snapshots.play import Played, play
from auditor.snapshots.tree import Node


def play_blob(
    chunks: Iterable[bytes],
    digest: Digest,
    *,
    lowest: bool,
    contents: bool = True,
    base: Node | None = None,
    files: Beside | None = None,
    max_size: int | None = None,
    admit: Admit = at_once,
) -> tuple[Played, Verification | None]:
    """Play a layer as `play` does, and verify its blob.

    Args:
        chunks: The blob.
        digest: Its digest.
        lowest: as of `play`, like all further options.
        contents: as of `play`.
        base: as of `play`.
        files: as of `play`.
        max_size: as of `play`.
        admit: Called before bytes of the blob are used.

    Returns:
        What the layer unpacks to, and the blob's verification; None where it does not match its digest.

    """
    with closing(ThreadedMeter(digest.algorithm)) as meter:
        played = play(
            _metered(chunks, meter, admit), lowest=lowest, contents=contents, base=base, files=files, max_size=max_size
        )
        found = meter.result()
    if found.digest != digest:
        return played, None
    kind = VerificationKind.SOUND
    return played, Verification(digest, kind, size=found.size, actual=found.digest, layer=played.verification)


def usable(played: Played, diff_id: Digest | None) -> Node | str:
    """Return the tree of a layer with this diffID, or why it cannot be used."""
    verification = played.verification
    if verification.kind is LayerVerificationKind.UNVERIFIABLE:
        return f"its layer is not decompressed: {verification.detail}"
    if verification.kind is not LayerVerificationKind.SOUND or verification.diff_id != diff_id:
        return "its layer's blob is damaged or does not match the diffID"
    return f"its layer is not covered: {played.refusal}" if played.refusal else played.tree


def _metered(chunks: Iterable[bytes], meter: ThreadedMeter, admit: Admit) -> Iterator[bytes]:
    for chunk in chunks:
        admit(len(chunk))
        meter.update(chunk)
        yield chunk
