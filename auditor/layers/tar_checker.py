"""Check header by header, in constant memory, whether containerd could unpack a tar stream.

It accepts what Go's archive/tar accepts, with which containerd unpacks: a stream may end after any entry with or
without the two zero blocks, a single zero block ends it too if nothing follows, the last padding may be cut, and bytes
behind the two zero blocks are ignored (they still count for the diffID). Tried on containerd 1.6.20 and 2.1.9. Not
checked: sparse maps, names and link targets.
"""

from __future__ import annotations

from auditor.layers.tar_header import (
    BLOCK,
    GLOBAL,
    IMPOSSIBLE_SIZE,
    IMPOSSIBLE_SPECIAL,
    INT64,
    MALFORMED_HEADER,
    MALFORMED_NUMBER,
    MAX_SPECIAL,
    NO_HEADER,
    NOT_THE_END,
    NUMBERS,
    PAX,
    SPECIAL,
    UNPACKED,
    ZERO,
    Malformed,
    cut_header,
    cut_off,
    header,
    records,
    unreadable,
    unsupported,
    well_formed,
)

#: Entries without data whatever their size field says: links, devices, directories, fifos; `isHeaderOnlyType`.
_HEADER_ONLY = frozenset({b"1", b"2", b"3", b"4", b"5", b"6"})


class TarWalk:
    """Takes the bytes of a tar in pieces of any size; `finish` returns the fault."""

    def __init__(self) -> None:
        #: The fault so far, as a sentence without subject.
        self.fault = ""
        self.entries = 0
        self._ended = False
        self._zeros = 0
        self._offset = 0
        self._start = 0
        self._skip = 0
        self._padding = 0
        self._block = b""
        self._special: bytearray | None = None
        self._local = False
        self._numbers: dict[bytes, bytes] = {}

    def feed(self, data: bytes | memoryview) -> None:
        """Take the next bytes."""
        at = 0
        end = len(data)
        while at < end and not (self._ended or self.fault):
            if self._skip:
                step = min(self._skip, end - at)
                if self._special is not None:
                    self._keep(data[at : at + step])
                self._skip -= step
            else:
                step = min(BLOCK - len(self._block), end - at)
                self._fill(data[at : at + step])
            at += step
            self._offset += step
        # The offset is not counted beyond the end: no message has an offset there.

    def finish(self) -> str:
        """End the stream and return the fault; empty where there is none."""
        if self.fault or self._ended:
            return self.fault
        if self._skip > self._padding:
            self.fault = cut_off(self._skip - self._padding)
        elif self._block:
            self.fault = cut_header(self._offset - len(self._block))
        return self.fault

    def _keep(self, data: bytes | memoryview) -> None:
        assert self._special is not None
        wanted = self._skip - self._padding
        if wanted > 0:
            self._special += data[:wanted]
        if len(data) >= wanted:
            self._read_records(bytes(self._special))
            self._special = None

    def _fill(self, data: bytes | memoryview) -> None:
        block = self._block + data if self._block else bytes(data)
        if len(block) < BLOCK:
            self._block = block
            return
        self._block = b""
        # What came before the last part of a block is counted already; blocks are aligned.
        self._start = self._offset // BLOCK * BLOCK
        if block == ZERO:
            self._zeros += 1
            self._ended = self._zeros > 1
        elif self._zeros:
            self._fail(NOT_THE_END)
        else:
            self._header(block)

    def _fail(self, words: str) -> None:
        self.fault = unreadable(words, self._start)

    def _header(self, block: bytes) -> None:
        found = header(block)
        if found is None:
            self._fail(NO_HEADER)
            return
        kind = block[156:157]
        if kind in SPECIAL:
            self._enter_special(kind, found[1])
        else:
            self._enter_file(kind, found[1])

    def _enter_special(self, kind: bytes, size: int) -> None:
        if not 0 <= size <= MAX_SPECIAL:
            self._fail(IMPOSSIBLE_SPECIAL)
            return
        if kind in (PAX, GLOBAL):
            # A later extended header replaces an earlier one; a global one says nothing about the next entry's size.
            self._numbers = {}
            self._local = kind == PAX
            self._special = bytearray() if size else None
        self._expect(size)

    def _enter_file(self, kind: bytes, size: int) -> None:
        numbers, self._numbers = self._numbers, {}
        if kind not in UNPACKED:
            self._fail(unsupported(kind))
            return
        if not well_formed(numbers):
            self._fail(MALFORMED_NUMBER)
            return
        if kind in _HEADER_ONLY:
            size = 0
        elif stated := numbers.get(b"size"):
            size = int(stated)
        if not 0 <= size < INT64:
            self._fail(IMPOSSIBLE_SIZE)
            return
        self.entries += 1
        self._expect(size)

    def _expect(self, size: int) -> None:
        self._padding = -size % BLOCK
        self._skip = size + self._padding

    def _read_records(self, data: bytes) -> None:
        """Keep the records that have to be numbers; they count only if an entry follows."""
        try:
            for key, value in records(data):
                if self._local and key in NUMBERS:
                    self._numbers[key] = value
        except Malformed:
            self._fail(MALFORMED_HEADER)
