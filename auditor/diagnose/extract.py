"""Extract digests, digest prefixes, image names and known messages from a text or a log; pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from auditor.diagnose.messages import MESSAGES, RANK, KnownMessage, recognise
from auditor.model import reference
from auditor.model.digest import Digest

#: Maximum of digests, prefixes, names and messages that are kept.
KEPT = 5
#: Lines of one kind that are parsed; later ones are counted.
READ = 300
#: Maximum length of a line in characters; the rest is ignored.
_LINE = 16_384
#: Maximum length of a line in bytes; longer ones are split.
_ENDLESS = 1 << 20

_HEX = r"(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})"
_DIGEST = re.compile(rf"{_HEX}(?![0-9a-f])")
_IN_PATH = re.compile(r"(?:blobs/sha256|sha256)/([0-9a-f]{64})(?![0-9a-f])")
#: Digests that were computed from wrong content; no blob has them.
_COMPUTED = re.compile(
    rf"unexpected (?:commit )?digest ({_HEX})|wrong diff id \W{{0,3}}({_HEX})\W{{0,3}} calculated|"
    rf"calculated on extraction \W{{0,3}}({_HEX})(?!\W{{0,3}}, desc)"
)
_PREFIX = re.compile(r"(?:sha256:([0-9a-f]{4,63})|(?<![0-9a-z/:@._-])([0-9a-f]{8,64}))(?![0-9a-z/:@_-])")
#: An image name that begins with a host; not inside a path.
_NAME = re.compile(
    r"(?<![\w/.:@%-])(?:localhost|\[[0-9a-f:]+\]|[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+|[a-zA-Z0-9-]+(?=:[0-9]+/))(?::[0-9]+)?"
    r"(?:/[a-z0-9][a-z0-9._-]*)+(?::[\w][\w.-]*)?(?:@sha256:[0-9a-f]{64})?"
)
#: An image name after a word such as `image`; it may have no host.
_INTRODUCED = re.compile(
    r"(?:\b(?:image|reference|artifact)[:=]?\s*\\*[\"'])([^\"'\\\s]{1,512})"
    r"|(?:manifest for|No such image:|access denied for|apply layer error for)\s+\\*[\"']?([^\"'\\\s,]{1,512})",
    re.IGNORECASE,
)
#: The URL of a manifest.
_ADDRESS = re.compile(r"https?://([^/\s\"'@]+)/v2/([a-z0-9][a-z0-9._/-]*?)/manifests/(?!sha\d)([\w][\w.-]*)")
#: Hosts in labels, media types and import paths; not registries.
_NO_REGISTRY = frozenset({"containerd.io", "github.com", "golang.org", "go.etcd.io", "k8s.io", "google.golang.org"})
#: The folder of a snapshot.
_FOLDER = re.compile(r"(?<![\w/])(/[^\s\"':,]{1,400}/snapshots/\d{1,20}(?:/fs)?)(?![\w])")
_TRAILING = ".,;:…)"


class Mentions(msgspec.Struct, frozen=True, kw_only=True):
    """What a text mentions, the most specific and most frequent first.

    Attributes:
        line: The text, or the line of a log that is explained.
        lines: Number of lines read.
        digests: Digests in the text.
        computed: Digests that a program computed from wrong content.
        prefixes: Digest prefixes that the user asks about.
        guesses: Hex words in a message that may be digest prefixes.
        names: Image names.
        folders: Folders of snapshots.
        known: Known messages.
        seen: Number of lines of each known message, by id.
        asked: The text is one digest, prefix or name, not a message.

    """

    line: str = ""
    lines: int = 1
    digests: tuple[Digest, ...] = ()
    computed: tuple[Digest, ...] = ()
    prefixes: tuple[str, ...] = ()
    guesses: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()
    known: tuple[KnownMessage, ...] = ()
    seen: dict[str, int] = {}
    asked: bool = False


def mentions(text: str) -> Mentions:
    """Return what one message mentions."""
    computed = dict.fromkeys(Digest(next(filter(None, found))) for found in _COMPUTED.findall(text))
    digests = dict.fromkeys(Digest(found) for found in _DIGEST.findall(text))
    digests.update(dict.fromkeys(Digest(f"sha256:{found}") for found in _IN_PATH.findall(text)))
    rest = _IN_PATH.sub(" ", _DIGEST.sub(" ", text))
    guesses = dict.fromkeys((long or bare) for long, bare in _PREFIX.findall(rest) if _is_prefix(long, bare))
    known = recognise(text)
    return Mentions(
        line=text.strip(),
        digests=tuple(digest for digest in digests if digest not in computed)[:KEPT],
        computed=tuple(computed)[:KEPT],
        guesses=tuple(guesses)[:KEPT],
        names=tuple(dict.fromkeys(_names(text)))[:KEPT],
        folders=tuple(dict.fromkeys(_FOLDER.findall(text)))[:KEPT],
        known=known,
        seen={entry.id: 1 for entry in known},
    )


def asked(text: str) -> Mentions:
    """Return what a question mentions: one word is a digest, a prefix or an image name; several are a message."""
    word = text.strip()
    if len(word.splitlines()) > 1:
        return _several_lines(word)
    found = mentions(text)
    if not word or len(word.split()) > 1 or found.known:
        return found
    digits = word.removeprefix("sha256:").rstrip("….").lower()
    if re.fullmatch(r"[0-9a-f]{4,63}", digits):
        return msgspec.structs.replace(found, prefixes=(digits,), guesses=(), names=(), asked=True)
    if re.fullmatch(r"[0-9a-f]{64}", digits) and not found.digests:
        return msgspec.structs.replace(found, digests=(Digest(f"sha256:{digits}"),), guesses=(), names=(), asked=True)
    if _DIGEST.fullmatch(word):
        return msgspec.structs.replace(found, names=(), asked=True)
    return msgspec.structs.replace(found, names=(word[:4096],), digests=(), guesses=(), asked=True)


def _several_lines(text: str) -> Mentions:
    """Return what several lines mention; lines with a known message first, image names from the others, too."""
    whole = mentions(text)
    known = [found for line in text.splitlines() if (found := mentions(line[:_LINE])).known]
    if not known:
        return msgspec.structs.replace(whole, lines=text.count("\n") + 1)
    best = min(reversed(known), key=lambda found: RANK[found.known[0].id])
    return msgspec.structs.replace(
        best,
        lines=text.count("\n") + 1,
        digests=best.digests or _joined(found.digests for found in known),
        computed=best.computed or _joined(found.computed for found in known),
        names=tuple(dict.fromkeys((*best.names, *whole.names)))[:KEPT],
        known=_ranked(found.known for found in known),
        seen=dict(Counter(entry.id for found in known for entry in found.known[:1])),
    )


def _joined(parts: Iterable[tuple[Digest, ...]]) -> tuple[Digest, ...]:
    return tuple(dict.fromkeys(digest for part in parts for digest in part))[:KEPT]


def _ranked(parts: Iterable[tuple[KnownMessage, ...]]) -> tuple[KnownMessage, ...]:
    found = {entry.id: entry for part in parts for entry in part[:1]}
    return tuple(sorted(found.values(), key=lambda entry: RANK[entry.id]))[:KEPT]


def _is_prefix(long: str, bare: str) -> bool:
    """Whether a hex word may be a digest prefix; without `sha256:` it must have letters and digits, unlike a date."""
    return bool(long) or (bool(re.search(r"[a-f]", bare)) and bool(re.search(r"[0-9]", bare)))


def _names(text: str) -> Iterator[str]:
    """Yield the image names in a text; paths, labels and Go packages are excluded."""
    for found in _INTRODUCED.findall(text):
        name = (found[0] or found[1]).rstrip(_TRAILING)
        if reference.find(name) is not None and not name.startswith("sha256:"):
            yield name
    for name in _NAME.findall(text):
        parsed = reference.find(name.rstrip(_TRAILING))
        if parsed is not None and parsed.host not in _NO_REGISTRY:
            yield name.rstrip(_TRAILING)
    for host, repository, tag in _ADDRESS.findall(text):
        yield f"{host}/{repository}:{tag}".rstrip(_TRAILING)


class _Tally:
    """Counts of the messages in a log, and the last parsed line of each.

    Lines with the same anchor words are of one kind.
    """

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()
        self.kinds: dict[frozenset[bytes], Counter[str]] = {}
        self.digests: dict[str, Counter[Digest]] = {}
        self.names: dict[str, Counter[str]] = {}
        self.last: dict[str, Mentions] = {}

    def add(self, kind: frozenset[bytes], line: bytes) -> None:
        known = self.kinds.setdefault(kind, Counter())
        if known.total() < READ:
            known[self._read(line[:_LINE].decode("utf-8", "replace"))] += 1
            return
        usual = known.most_common(1)[0][0]
        if usual:
            self.seen[usual] += 1

    def _read(self, line: str) -> str:
        """Parse a line and return the id of its message; empty for none."""
        found = mentions(line)
        if not found.known:
            return ""
        name = found.known[0].id
        self.seen[name] += 1
        self.last[name] = found
        self.digests.setdefault(name, Counter()).update(found.digests)
        self.names.setdefault(name, Counter()).update(found.names)
        return name

    def result(self, lines: int) -> Mentions:
        """Return the summary; the most frequent message first, general ones last."""
        order = sorted(self.seen, key=lambda name: (_is_general(name), -self.seen[name], RANK[name]))
        if not order:
            return Mentions(lines=lines)
        first = order[0]
        return Mentions(
            line=self.last[first].line,
            lines=lines,
            digests=tuple(digest for digest, _ in self.digests[first].most_common(KEPT)),
            computed=self.last[first].computed,
            names=tuple(name for name, _ in self.names[first].most_common(KEPT)),
            known=tuple(MESSAGES[RANK[name]] for name in order[:KEPT]),
            seen=dict(self.seen),
        )


def search(chunks: Iterable[bytes]) -> Mentions:
    """Summarise a log in constant memory.

    Args:
        chunks: The bytes of the log.

    """
    tally, lines = _Tally(), 0
    for block, count in _blocks(chunks):
        lines += count
        for kind, line in _candidates(block):
            tally.add(kind, line)
    return tally.result(lines)


def _blocks(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Yield blocks of whole lines and their number; a line longer than _ENDLESS is split."""
    rest = b""
    for chunk in chunks:
        whole, end, tail = (rest + chunk).rpartition(b"\n")
        if end:
            yield whole, whole.count(b"\n") + 1
        if len(tail) > _ENDLESS:
            yield tail, 0
            tail = b""
        rest = tail
    if rest:
        yield rest, 1


#: Anchors that occur in most logs; in a log they are found only in lines with another anchor word.
_EVERYWHERE = frozenset({"not found", "already exists", "meta.db", "NotFound: content digest"})
_COMMON = frozenset({b"failed", b"found", b"error", b"context", b"container", b"image", b"expected", b"to"})
_APART = bytes(c if bytes([c]).isalnum() or c == ord("\n") else ord(" ") for c in range(256))


def _word(anchor: str) -> bytes:
    """Return the word of an anchor that selects lines: the longest that is not common."""
    words = anchor.lower().encode().translate(_APART).split()
    return max(words, key=lambda word: (word not in _COMMON, len(word)))


#: A line without any of these words contains no known message.
_WORDS = frozenset(_word(a) for known in MESSAGES for a in known.anchors if a not in _EVERYWHERE)


def _is_general(name: str) -> bool:
    return name in {"unexpected-end", "already-exists", "deadline", "export-failed", "image-not-found"}


def _candidates(block: bytes) -> Iterator[tuple[frozenset[bytes], bytes]]:
    """Yield the lines of a block that may contain a known message, each with its anchor words.

    Splitting a block into words and intersecting sets takes a tenth of the time of a substring search for each anchor.
    """
    lines = block.split(b"\n")
    for line, words in zip(lines, block.lower().translate(_APART).split(b"\n"), strict=True):
        found = words[:_LINE].split()
        if not _WORDS.isdisjoint(found):
            yield _WORDS.intersection(found), line
