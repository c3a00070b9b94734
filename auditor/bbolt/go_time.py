"""Go's times, as containerd writes them into its databases (time/time.go, Time.MarshalBinary)."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta
from typing import Final

#: Where Go's times begin, and the seconds from there to 1970.
_START: Final = datetime(1, 1, 1, tzinfo=UTC)
_YEAR_ONE: Final = 62_135_596_800
#: Version, seconds, nanoseconds.
_PARTS: Final = struct.Struct(">xqi")
#: Length: version, seconds, nanoseconds, zone.
_LENGTH: Final = 15
_VERSIONS: Final = (1, 2)


def nanoseconds(data: bytes) -> int:
    """Decode a time, in ns since 1970; 0 where it is unset or not valid."""
    if len(data) < _LENGTH or data[0] not in _VERSIONS:
        return 0
    seconds, rest = _PARTS.unpack_from(data)
    return (seconds - _YEAR_ONE) * 10**9 + rest if seconds else 0


def moment(data: bytes) -> datetime | None:
    """Decode a time; None where it is unset or not valid."""
    if len(data) < _LENGTH or data[0] not in _VERSIONS:
        return None
    seconds, rest = _PARTS.unpack_from(data)
    try:
        return _START + timedelta(seconds=seconds, microseconds=rest // 1000) if seconds else None
    except OverflowError:
        return None
