"""Go's variable-length integers, as containerd writes them into its databases (encoding/binary, varint.go)."""

from __future__ import annotations


def unsigned(data: bytes) -> int:
    """Decode a number of `binary.PutUvarint`; 0 where there are no bytes."""
    value = shift = 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004 - the last byte has no high bit
            break
    return value


def signed(data: bytes) -> int:
    """Decode a number of `binary.PutVarint` (zig-zag); 0 where there are no bytes."""
    value = unsigned(data)
    return (value >> 1) ^ -(value & 1)
