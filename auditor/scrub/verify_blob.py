"""Verify one blob: read and hash it; confirm a fault by a second read."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass

from auditor.errors import NoFile, NoRecord, ObjectError
from auditor.layers import LayerInspector
from auditor.model.digest import Digest, Measured, Meter
from auditor.model.store import LayerVerification, LayerVerificationKind, Store, Verification, VerificationKind
from auditor.scrub.damage import Damage
from auditor.scrub.targets import Target

#: Bytes that are reserved before they are read; stores yield pieces of at most 1 MiB.
PIECE = 1 << 20

#: Waits until so many bytes may be read; False ends the run. A negative number returns bytes.
Admit = Callable[[int], bool]


@dataclass(frozen=True, slots=True)
class _Reading:
    """One read: digest and size of all bytes, or why it failed."""

    found: Measured | None = None
    words: str = ""
    layer: LayerVerification | None = None


class BlobVerifier:
    """Verifies blobs of one store; threads may share it.

    Args:
        store: where to read them.
        layers: also decompress layers.
        max_layer: bytes of output after which the decompression of a layer stops.
        known: digests to compare damaged bytes with, to detect a swap.
        admit: asked before each piece.
        on_bytes: progress callback: bytes that were read since the last call.

    """

    def __init__(
        self,
        store: Store,
        *,
        layers: bool,
        max_layer: int | None,
        known: Container[Digest],
        admit: Admit,
        on_bytes: Callable[[int], None],
    ) -> None:
        self._store = store
        self._layers = layers
        self._max_layer = max_layer
        self._known = known
        self._admit = admit
        self._on_bytes = on_bytes

    def verify(self, target: Target) -> Verification | None:
        """Read a blob.

        A wrong hash or a failed read counts only when it happens twice, the second time past the page cache.

        Returns:
            The verification; None where the run ended meanwhile.

        Raises:
            StoreError: the store failed as a whole.

        """
        failed: list[_Reading] = []
        while True:
            reading = self._attempt(target, again=bool(failed))
            if reading is None:
                return None
            if isinstance(reading, VerificationKind):
                return Verification(target.digest, reading, detail=_earlier(failed))
            if reading.found and reading.found.digest == target.digest:
                return _right(target, reading.found, reading, failed)
            failed.append(reading)
            if verdict := _twice(target, failed):
                return verdict

    def _attempt(self, target: Target, *, again: bool) -> _Reading | VerificationKind | None:
        """Read through the first namespace that still has the record: a collected one may remain in others."""
        for namespace in target.namespaces:
            try:
                return self._read(namespace, target, again=again)
            except NoRecord:
                continue
            except NoFile:
                return VerificationKind.MISSING
            except ObjectError as error:
                return _Reading(words=error.message.removeprefix(f"cannot read {target.digest}: "))
        return VerificationKind.GONE

    def _read(self, namespace: str, target: Target, *, again: bool) -> _Reading | None:
        meter = Meter(target.digest.algorithm)
        inspector = LayerInspector(max_size=self._max_layer) if self._decodes(target) else None
        damage = Damage(target.digest, target.size, known=self._known, max_layer=self._max_layer) if again else None
        with self._store.stream(namespace, target.digest, fresh=again) as pieces:
            for piece in self._admitted(pieces, target.size):
                if piece is None:
                    return None
                meter.update(piece)
                if inspector is not None:
                    inspector.update(piece)
                if damage is not None:
                    damage.update(piece)
                self._on_bytes(len(piece))
        found = meter.result()
        wrong = damage is not None and found.digest != target.digest
        return _Reading(
            found=found,
            words=damage.words(found) if damage is not None and wrong else "",
            layer=inspector.finish() if inspector is not None else self._unverified_layer(target),
        )

    def _admitted(self, pieces: Iterator[bytes], size: int) -> Iterator[bytes | None]:
        """Yield the pieces within the rate limit; None at the end of the run."""
        left = size
        while True:
            guess = min(max(left, 1), PIECE)
            if not self._admit(guess):
                yield None
                return
            piece = next(pieces, b"")
            self._admit(len(piece) - guess)
            if not piece:
                return
            left -= len(piece)
            yield piece

    def _decodes(self, target: Target) -> bool:
        return self._layers and target.layer and not target.unverifiable

    def _unverified_layer(self, target: Target) -> LayerVerification | None:
        if not (self._layers and target.layer):
            return None
        return LayerVerification(LayerVerificationKind.UNVERIFIABLE, detail=target.unverifiable)


def _right(target: Target, found: Measured, reading: _Reading, failed: list[_Reading]) -> Verification:
    kind = VerificationKind.UNSTEADY if failed else VerificationKind.SOUND
    return Verification(
        target.digest, kind, size=found.size, actual=found.digest, detail=_earlier(failed), layer=reading.layer
    )


def _twice(target: Target, failed: list[_Reading]) -> Verification | None:
    """Return the verification once two reads failed in the same manner."""
    wrong = [reading for reading in failed if reading.found is not None]
    if len(wrong) > 1:
        return _corrupt(target, wrong)
    if len(failed) - len(wrong) > 1:
        return Verification(target.digest, VerificationKind.UNREADABLE, detail=failed[-1].words)
    return None


def _corrupt(target: Target, wrong: list[_Reading]) -> Verification:
    first, last = wrong[0].found, wrong[-1].found
    assert first is not None
    assert last is not None
    detail = wrong[-1].words
    if first.digest != last.digest:
        detail = f"two readings differ from each other as well; the second: {detail}"
    return Verification(target.digest, VerificationKind.CORRUPT, size=last.size, actual=last.digest, detail=detail)


def _earlier(failed: list[_Reading]) -> str:
    """Describe the first read where the last one had another result."""
    if not failed:
        return ""
    first = failed[0]
    if first.found is None:
        return f"the first reading failed: {first.words}"
    return f"the first reading gave {first.found.size} bytes that hash to {first.found.digest}"
