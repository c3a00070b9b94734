"""Leaving the page cache as it was found: a reader drops behind itself what it brought in, and nothing else.

mincore(2) tells what is there, looked at ahead of the kernel's own readahead. preadv2(2) with RWF_NOWAIT would tell it
too, but takes the readahead of our own reads for pages that were there before.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re

#: Bytes looked at in one call. Kernels read ahead by what the device asks for, twice that for us: some 16 MiB at times.
WINDOW = 64 << 20
#: Largest piece in which a kernel keeps a file, and to spare.
FOLIO = 4 << 20
_LIBRARY = ctypes.CDLL(None)
_ABSENT = re.compile(rb"\0+")
_LOWEST_BIT = bytes(number & 1 for number in range(256))


class Guest:
    """A reader of one file from its start; `leave` is told what has been read, in order.

    Where nobody can tell what is in the cache, everything is dropped: blobs are rarely read twice, and what they push
    out is. Pages that others bring in while we read count as ours.
    """

    def __init__(self, descriptor: int, *, drop_all: bool = False) -> None:
        self._descriptor = descriptor
        self._drop_all = drop_all
        self._size = os.fstat(descriptor).st_size
        self._looked = 0
        self._start = 0
        self._pages = b""
        self._look(2 * WINDOW)

    def leave(self, offset: int, length: int) -> None:
        """Drop what of these bytes was not in the cache before, and of those just before them.

        The kernel keeps pages in folios of up to 2 MiB, and drops none that lies in the range in part only.
        """
        end = offset + length
        self._look(end + WINDOW)
        first = max(0, offset - FOLIO - self._start) // mmap.PAGESIZE
        last = -(-(end - self._start) // mmap.PAGESIZE)
        for run in _ABSENT.finditer(self._pages, first, last):
            start = self._start + run.start() * mmap.PAGESIZE
            os.posix_fadvise(self._descriptor, start, len(run[0]) * mmap.PAGESIZE, os.POSIX_FADV_DONTNEED)
        self._forget(end)

    def _look(self, until: int) -> None:
        """Know the pages up to `until` at least: always a window further than anything was read."""
        while self._looked < min(until, self._size):
            length = min(WINDOW, self._size - self._looked)
            found = None if self._drop_all else resident(self._descriptor, self._looked, length)
            self._pages += bytes(-(-length // mmap.PAGESIZE)) if found is None else found
            self._looked += length

    def _forget(self, end: int) -> None:
        if end - FOLIO - self._start >= WINDOW:
            self._pages = self._pages[WINDOW // mmap.PAGESIZE :]
            self._start += WINDOW


def resident(descriptor: int, offset: int, length: int) -> bytes | None:
    """One byte a page, 1 where it is in the page cache; None where nobody can tell. `offset` is a page's.

    The kernel tells it to those who may write to the file; others hear that everything is there.
    """
    try:
        # Private and writable, so that ctypes takes its address; nothing is ever touched in it.
        with mmap.mmap(descriptor, length, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset) as view:
            return _mincore(view, length)
    except (OSError, ValueError):
        return None


def _mincore(view: mmap.mmap, length: int) -> bytes | None:
    pages = bytearray(-(-length // mmap.PAGESIZE))
    start, found = _address(view), _address(pages)
    failed = _LIBRARY.mincore(ctypes.c_void_p(start), ctypes.c_size_t(length), ctypes.c_void_p(found))
    return None if failed else bytes(pages.translate(_LOWEST_BIT))


def _address(of: mmap.mmap | bytearray) -> int:
    return ctypes.addressof(ctypes.c_char.from_buffer(of))
