"""Pieces of a size that is worth passing on: a TLS record has 16 KiB, and each piece costs its consumer a call."""

from __future__ import annotations

from collections.abc import Generator, Iterable

#: What containerd's own messages carry, in bytes.
PIECE = 1 << 20


def gathered(pieces: Iterable[bytes], *, size: int = PIECE) -> Generator[bytes]:
    """Join pieces until they have `size` bytes or the end has come; larger ones pass as they are."""
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
