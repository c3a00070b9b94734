"""Go's times, as containerd writes them into its databases (time/time.go, Time.MarshalBinary)."""

from __future__ import annotations

from typing import Final

#: Seconds from the year 1, where Go's times begin, to 1970.
_YEAR_ONE: Final = 62_135_596_800
#: Length: version, seconds, nanoseconds, zone.
_LENGTH: Final = 15


def nanoseconds(data: bytes) -> int:
    """Decode a time, in ns since 1970; 0 where it is unset or not valid."""
    if len(data) < _LENGTH or data[0] not in {1, 2}:
        return 0
    seconds = int.from_bytes(data[1:9], "big", signed=True)
    if not seconds:
        return 0
    return (seconds - _YEAR_ONE) * 10**9 + int.from_bytes(data[9:13], "big", signed=True)
