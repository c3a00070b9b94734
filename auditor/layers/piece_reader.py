"""Read pieces of bytes as one stream, forwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class PieceReader:
    """A stream of pieces; `piece` is the one that is being read, `at` the number of its bytes that were.

    Args:
        pieces: The stream. The next piece is requested when a byte of it is read.

    """

    __slots__ = ("_pieces", "_start", "at", "piece")

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)
        self._start = 0
        self.piece = b""
        self.at = 0

    def tell(self) -> int:
        """Return the position."""
        return self._start + self.at

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, fewer at the end."""
        at, piece = self.at, self.piece
        end = at + size
        if end <= len(piece):
            self.at = end
            return piece[at:end]
        return self._gathered(size)

    def read_at(self, position: int, size: int) -> bytes:
        """Go forward to a position, and return the `size` bytes from there, fewer at the end."""
        piece, at = self.piece, position - self._start
        end = at + size
        if end <= len(piece):
            self.at = end
            return piece[at:end]
        self.skip(at - self.at)
        return self.read(size)

    def skip(self, size: int) -> int:
        """Pass over the next `size` bytes; return how many are missing at the end."""
        while size > (left := len(self.piece) - self.at):
            size -= left
            if not self._next():
                return size
        self.at += size
        return 0

    def _gathered(self, size: int) -> bytes:
        found = [self.piece[self.at :]]
        self.at = len(self.piece)
        left = size - len(found[0])
        while left and self._next():
            found.append(self.piece[:left])
            self.at = len(found[-1])
            left -= self.at
        return b"".join(found)

    def _next(self) -> bool:
        """Go on to the next piece that has bytes; at the end stay behind the last one."""
        for piece in self._pieces:
            if piece:
                self._start += len(self.piece)
                self.piece, self.at = piece, 0
                return True
        self.at = len(self.piece)
        return False
