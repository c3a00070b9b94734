"""Digests, and hashing of streams."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import Protocol, Self

import msgspec

from auditor.errors import InvalidDigest

#: Length of the hex part by algorithm. OCI image-spec, descriptor.md, registers sha256 and sha512; containerd's
#: go-digest also takes sha384.
HEX_LENGTH = {"sha256": 64, "sha384": 96, "sha512": 128}

#: Called directly: `hashlib.new` looks an algorithm up by its name at each call.
_HASHES = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}

#: Digests that `Digest.parse` keeps; beyond them it begins anew.
_MOST = 1 << 15

_PATTERN = re.compile(r"(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})\Z", re.ASCII)


class Digest(str):
    """A well-formed digest such as `sha256:9f86…`; compares, sorts and prints as its text.

    `Digest.parse` checks the text. The constructor does not; it is for text that was checked before.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """Check `text` and return it as a digest; a digest is safe as part of a path.

        Results are kept: records, files and documents have the same digests, so that one object serves all.

        Raises:
            InvalidDigest: `text` is not a known algorithm, a colon, and lower-case hex of the right length.

        """
        known = _known.get(text)
        if known is not None:
            return known
        if not _PATTERN.match(text):
            raise InvalidDigest(f"{_shown(text)} is not a digest", hint="a digest looks like sha256:<64 hex digits>")
        if len(_known) >= _MOST:
            _known.clear()
        made = cls(text)
        _known[made] = made
        return made

    @classmethod
    def match(cls, text: str) -> Self | None:
        """Return `text` as a digest, None where it is none; for millions of texts, of which no result is kept."""
        return cls(text) if _PATTERN.match(text) else None

    @classmethod
    def of(cls, data: bytes, *, algorithm: str = "sha256") -> Self:
        """Return the digest of `data`."""
        return cls(f"{algorithm}:{_HASHES[algorithm](data, usedforsecurity=False).hexdigest()}")

    def is_of(self, data: bytes) -> bool:
        """Whether this is the digest of `data`."""
        algorithm, _, digits = self.partition(":")
        return _HASHES[algorithm](data, usedforsecurity=False).hexdigest() == digits

    @property
    def algorithm(self) -> str:
        """The algorithm: sha256, sha384 or sha512."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The hex digits."""
        return self.partition(":")[2]

    @property
    def short(self) -> str:
        """The algorithm and the first twelve digits, for messages."""
        return f"{self.algorithm}:{self.hex[:12]}"


#: Each digest by its text, which it is itself.
_known: dict[str, Digest] = {}
#: The digest of zero bytes, such as of a file that was truncated to nothing.
EMPTY = Digest("sha256:" + hashlib.sha256(b"", usedforsecurity=False).hexdigest())


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:97] + "...")  # noqa: PLR2004 - the length that fits a line


class Hasher(Protocol):
    """The methods of a hashlib object that are used here."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None:
        """Add bytes; releases the interpreter lock for all but small chunks."""

    def hexdigest(self) -> str:
        """Return the digest of all bytes so far, as lower-case hex."""

    def copy(self) -> Hasher:
        """Return a copy in the same state, for several continuations of one prefix."""


def hasher(algorithm: str) -> Hasher:
    """Return a new hash object; `algorithm` is one of HEX_LENGTH."""
    return hashlib.new(algorithm, usedforsecurity=False)


class Measured(msgspec.Struct, frozen=True):
    """The digest and the size in bytes of a stream."""

    digest: Digest
    size: int

    def matches(self, digest: Digest, size: int | None = None) -> bool:
        """Whether this is the blob `digest`, of `size` bytes where a size is known."""
        return self.digest == digest and size in (None, self.size)


class Meter:
    """Hashes and counts the bytes given to `update`; `result` may be called at any time."""

    def __init__(self, algorithm: str = "sha256") -> None:
        self._algorithm = algorithm
        self._hasher = hasher(algorithm)
        self.size = 0

    def update(self, chunk: bytes | bytearray | memoryview) -> None:
        """Add the next bytes."""
        self._hasher.update(chunk)
        self.size += len(chunk)

    def result(self) -> Measured:
        """Return digest and size of all bytes so far."""
        return Measured(digest=Digest(f"{self._algorithm}:{self._hasher.hexdigest()}"), size=self.size)


def measure(
    chunks: Iterable[bytes | memoryview], *, algorithm: str = "sha256", on_bytes: Callable[[int], None] | None = None
) -> Measured:
    """Hash and count `chunks`; `on_bytes` is called with the length of each, for progress and rate limits."""
    meter = Meter(algorithm)
    for chunk in chunks:
        meter.update(chunk)
        if on_bytes is not None:
            on_bytes(len(chunk))
    return meter.result()
