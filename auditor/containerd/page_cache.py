"""Keep the page cache unchanged while reading: drop the pages that reading brought in, keep those cached before.

mincore(2) reports the cached pages; it is called ahead of the kernel's readahead. preadv2(2) with RWF_NOWAIT cannot
tell pages of the reader's own readahead from pages that were cached before.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re

#: Bytes of one mincore call; more than the kernel's readahead, which reaches 16 MiB on some devices.
WINDOW = 64 << 20
#: Upper bound of the kernel's folio size in bytes.
FOLIO = 4 << 20
_LIBRARY = ctypes.CDLL(None)
_ABSENT = re.compile(rb"\0+")
_LOWEST_BIT = bytes(number & 1 for number in range(256))


class CacheKeeper:
    """Drops the pages that a sequential reader of one file brings into the page cache.

    Where the cached pages are unknown, all are dropped. Pages that other processes bring in meanwhile are dropped, too.

    Args:
        descriptor: The open file.
        drop_all: Drop pages that were cached before, too.

    """

    def __init__(self, descriptor: int, *, drop_all: bool = False) -> None:
        self._descriptor = descriptor
        self._drop_all = drop_all
        self._size = os.fstat(descriptor).st_size
        self._looked = 0
        self._start = 0
        self._pages = b""
        self._look(2 * WINDOW)

    def drop(self, offset: int, length: int) -> None:
        """Drop the pages of the bytes just read that were not cached before.

        The range begins FOLIO bytes earlier: the kernel keeps pages in folios of up to 2 MiB, and drops only whole
        folios.
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
        """Query the cached pages up to `until`, one window ahead of the reader."""
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
    """Return one byte for each page, 1 for a cached page; None where that is unknown.

    Without write permission on the file, the kernel reports every page as cached (mincore(2)).

    Args:
        descriptor: The open file.
        offset: Start in bytes, a multiple of the page size.
        length: Length in bytes.

    """
    try:
        # Private and writable, because ctypes needs a writable buffer; no page of it is accessed.
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
