"""The numbers in a tar header, as Go's archive/tar reads them: strconv.go `parseNumeric`, `parseOctal`, `parsePAXTime`.

Loaders are written in Go. Python's tarfile takes signs, underscores and numbers of more than 64 bits, which Go refuses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

_FIELDS: Final = {
    "mode": slice(100, 108),
    "owner": slice(108, 116),
    "group": slice(116, 124),
    "size": slice(124, 136),
    "time": slice(136, 148),
}
_OCTAL: Final = re.compile(rb"[ \0]*([0-7]*)(?:[ \0]*|\0.*)\Z", re.DOTALL)
_LARGEST: Final = 1 << 63
_RECORD: Final = re.compile(r"([+-]?[0-9]{1,40})(\.[0-9]*)?\Z")
_NUMBERS: Final = ("size", "uid", "gid")
_TIMES: Final = ("mtime", "atime", "ctime")


def number(field: bytes) -> int | None:
    """Return the number in a field of a header, in octal digits or base 256; None where it is none."""
    if field[0] < 0x80:  # noqa: PLR2004 - the high bit marks base 256
        match = _OCTAL.match(field)
        return int(match[1] or b"0", 8) if match is not None else None
    bits = 8 * len(field) - 1
    value = int.from_bytes(field, "big") & ((1 << bits) - 1)
    value -= (value >> (bits - 1)) << bits
    return value if -_LARGEST <= value < _LARGEST else None


def bad_field(block: bytes) -> str:
    """Return the name of the first field of a header that is no number; empty where all are."""
    return next((name for name, where in _FIELDS.items() if number(block[where]) is None), "")


def bad_record(records: Mapping[str, str]) -> str:
    """Return the key of the first record of a PAX header that is no number or time; empty where all are.

    A record without a value is none: the number in the header counts.
    """
    return next((key for key in (*_NUMBERS, *_TIMES) if records.get(key) and not _valid(key, records[key])), "")


def _valid(key: str, value: str) -> bool:
    match = _RECORD.match(value)
    if match is None or not value.isascii() or (match[2] is not None and key in _NUMBERS):
        return False
    return -_LARGEST <= int(match[1]) < _LARGEST and (key != "size" or int(match[1]) >= 0)
