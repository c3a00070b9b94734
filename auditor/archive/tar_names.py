"""The name in a tar header, by the format of the header; Go archive/tar reader.go `readHeader`, format.go."""

from __future__ import annotations

import re
from typing import Final

_MAGIC: Final = slice(257, 263)
_USTAR: Final = b"ustar\0"
_GNU: Final = b"ustar "
_PREFIX: Final = 345
#: star ends its header with this and has times behind a shorter prefix.
_STAR: Final = b"tar\0"
#: Two times in the place of the prefix, as GNU tar writes them with --incremental: octal digits or base 256.
_TIMES: Final = re.compile(rb"(?:[0-7 \0]{12}|[\x80-\xff].{11}){2}", re.DOTALL)


def name(block: bytes) -> str:
    """Return the name in a header of 512 bytes; bytes that are not UTF-8 become surrogates."""
    last = _string(block[:100])
    prefix = _string(block[_PREFIX : _prefix_end(block)])
    return f"{prefix}/{last}" if prefix else last


def _prefix_end(block: bytes) -> int:
    """Return where the prefix ends; at its start where the format has none.

    Headers with GNU's magic and a prefix were written by programs built with Go before 1.8.
    """
    magic = block[_MAGIC]
    if magic == _USTAR:
        return 476 if block.endswith(_STAR) else 500
    return 500 if magic == _GNU and not _TIMES.match(block, _PREFIX) else _PREFIX


def _string(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "surrogateescape")
