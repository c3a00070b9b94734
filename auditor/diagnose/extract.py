"""What a message or a log speaks of: digests, parts of digests, image names, and the known messages in it; no store."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from auditor import reference
from auditor.diagnose.messages import MESSAGES, Known, recognise
from auditor.digest import Digest

#: Different things of one kind that are kept; a log of a hundred megabytes names more than anybody reads.
KEPT = 5
#: Characters of a line that are looked at: what matters in a longer one comes first.
_LINE = 16_384
_DIGEST = re.compile(r"(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})(?![0-9a-f])")
_PREFIX = re.compile(r"(?:sha256:([0-9a-f]{4,63})|(?<![0-9a-z/:@._-])([0-9a-f]{8,64}))(?![0-9a-z/:@_-])")
_NAME = re.compile(
    r"[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?(?::[0-9]+)?(?:/[a-z0-9._-]+)+(?::[\w][\w.-]*)?(?:@sha256:[0-9a-f]{64})?"
)
_TRAILING = ".,;:…)"


class Mentions(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, the most frequent first; `line` is the line that tells most, `lines` how many were looked at."""

    line: str = ""
    lines: int = 0
    digests: tuple[Digest, ...] = ()
    prefixes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    known: tuple[Known, ...] = ()


def mentions(text: str) -> Mentions:
    """What one message speaks of."""
    digests = dict.fromkeys(Digest(found) for found in _DIGEST.findall(text))
    rest = _DIGEST.sub(" ", text)
    prefixes = dict.fromkeys((long or bare) for long, bare in _PREFIX.findall(rest) if _is_prefix(long, bare))
    return Mentions(
        line=text.strip(),
        lines=1,
        digests=tuple(digests)[:KEPT],
        prefixes=tuple(prefixes)[:KEPT],
        names=tuple(dict.fromkeys(_names(text)))[:KEPT],
        known=recognise(text),
    )


def asked(text: str) -> Mentions:
    """What a person asks about: one word is a digest, the beginning of one, or an image's name; more is a message."""
    word = text.strip()
    found = mentions(text)
    if not word or len(word.split()) > 1 or found.digests:
        return found
    digits = word.removeprefix("sha256:").rstrip("….")
    if re.fullmatch(r"[0-9a-f]{4,64}", digits):
        return msgspec.structs.replace(found, prefixes=(digits,), names=())
    return msgspec.structs.replace(found, names=found.names or (word[:512],), prefixes=())


def _is_prefix(long: str, bare: str) -> bool:
    """A bare run of hex is meant as a digest only where it has letters and digits: dates and counters have none."""
    return bool(long) or (bool(re.search(r"[a-f]", bare)) and bool(re.search(r"[0-9]", bare)))


def _names(text: str) -> Iterator[str]:
    for found in _NAME.findall(text):
        name = found.rstrip(_TRAILING)
        parsed = reference.find(name)
        if parsed is not None and ("." in parsed.host or ":" in parsed.host or parsed.host == "localhost"):
            yield name


def search(chunks: Iterable[bytes]) -> Mentions:
    """Go through a log and sum up what its telling lines speak of, in constant memory."""
    digests: Counter[Digest] = Counter()
    names: Counter[str] = Counter()
    known: Counter[str] = Counter()
    lines, best, rank = 0, "", len(MESSAGES) + 1
    for block, count in _blocks(chunks):
        lines += count
        for line in _telling(block):
            found = mentions(line)
            digests.update(found.digests)
            names.update(found.names)
            known.update(k.id for k in found.known[:1])
            place = MESSAGES.index(found.known[0]) if found.known else len(MESSAGES)
            if place < rank:
                best, rank = line, place
    by_id = {k.id: k for k in MESSAGES}
    order = sorted(known, key=lambda name: (-known[name], MESSAGES.index(by_id[name])))
    return Mentions(
        line=best,
        lines=lines,
        digests=tuple(digest for digest, _ in digests.most_common(KEPT)),
        names=tuple(name for name, _ in names.most_common(KEPT)),
        known=tuple(by_id[name] for name in order[:KEPT]),
    )


def _blocks(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Whole lines, a chunk's worth at a time, and how many; a line without end is cut."""
    rest = b""
    for chunk in chunks:
        whole, end, tail = (rest + chunk).rpartition(b"\n")
        if end:
            yield whole, whole.count(b"\n") + 1
        rest = tail[-_LINE:] if len(tail) > 1 << 20 else tail
    if rest:
        yield rest, 1


_ANCHORS = tuple(
    known.anchor.lower().encode() for known in MESSAGES if known.id not in ("image-not-found", "already-exists-image")
)


def _telling(block: bytes) -> Iterator[str]:
    """The lines of a block that hold a known message; looked for as substrings, which is as fast as memory."""
    lower = block.lower()
    starts: set[int] = set()
    for anchor in _ANCHORS:
        at = lower.find(anchor)
        while at >= 0:
            starts.add(lower.rfind(b"\n", 0, at) + 1)
            end = lower.find(b"\n", at)
            at = lower.find(anchor, end) if end >= 0 else -1
    for start in sorted(starts):
        end = block.find(b"\n", start)
        yield block[start : end if end >= 0 else None][:_LINE].decode("utf-8", "replace")
