"""Go's variable-length integers, as containerd writes them into its databases (encoding/binary, varint.go)."""

from __future__ import annotations

from typing import Final

#: Bytes of the longest number; encoding/binary `MaxVarintLen64`.
_LONGEST: Final = 10


def unsigned(data: bytes) -> int:
    """Decode a number of `binary.PutUvarint`; 0 where there are no bytes. No more than ten bytes are read."""
    value = shift = 0
    for byte in data[:_LONGEST]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the last byte has no high bit
            break
    return value


def signed(data: bytes) -> int:
    """Decode a number of `binary.PutVarint` (zig-zag); 0 where there are no bytes."""
    value = unsigned(data)
    return (value >> 1) ^ -(value & 1)
