"""Joining small chunks: a TLS record has 16 KiB, and each chunk costs its consumer a call."""

from __future__ import annotations

from collections.abc import Generator, Iterable

#: Chunk size in bytes; the size of containerd's own messages.
PIECE = 1 << 20


def gathered(pieces: Iterable[bytes], *, size: int = PIECE) -> Generator[bytes]:
    """Join chunks until they have at least `size` bytes; larger ones are passed through, the last may be smaller."""
    held = bytearray()
    for piece in pieces:
        if not held and len(piece) >= size:
            yield piece
            continue
        held += piece
        if len(held) >= size:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)
