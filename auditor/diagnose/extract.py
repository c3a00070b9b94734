"""What a message or a log speaks of: digests, parts of digests, image names, and the known messages in it; no store."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

import msgspec

from auditor.diagnose.messages import MESSAGES, RANK, Known, recognise
from auditor.model import reference
from auditor.model.digest import Digest

#: Different things of one kind that are kept; a log of a hundred megabytes names more than anybody reads.
KEPT = 5
#: Lines of one kind that are read with care; what comes after is only counted.
READ = 300
#: Characters of a line that are looked at: what matters in a longer one comes first.
_LINE = 16_384
#: Bytes after which a line without an end is cut.
_ENDLESS = 1 << 20

_HEX = r"(?:sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})"
_DIGEST = re.compile(rf"{_HEX}(?![0-9a-f])")
_IN_PATH = re.compile(r"(?:blobs/sha256|sha256)/([0-9a-f]{64})(?![0-9a-f])")
#: What was computed of wrong bytes: no blob has this name, and nobody should look for one.
_COMPUTED = re.compile(
    rf"unexpected (?:commit )?digest ({_HEX})|wrong diff id \W{{0,3}}({_HEX})\W{{0,3}} calculated|"
    rf"calculated on extraction \W{{0,3}}({_HEX})(?!\W{{0,3}}, desc)"
)
_PREFIX = re.compile(r"(?:sha256:([0-9a-f]{4,63})|(?<![0-9a-z/:@._-])([0-9a-f]{8,64}))(?![0-9a-z/:@_-])")
#: A name that begins with a host, wherever it stands, but inside a path.
_NAME = re.compile(
    r"(?<![\w/.:@%-])(?:localhost|\[[0-9a-f:]+\]|[a-zA-Z0-9-]+(?:\.[a-zA-Z0-9-]+)+|[a-zA-Z0-9-]+(?=:[0-9]+/))(?::[0-9]+)?"
    r"(?:/[a-z0-9][a-z0-9._-]*)+(?::[\w][\w.-]*)?(?:@sha256:[0-9a-f]{64})?"
)
#: A name that a program introduces as one; it may be short.
_INTRODUCED = re.compile(
    r"(?:\b(?:image|reference|artifact)[:=]?\s*\\*[\"'])([^\"'\\\s]{1,512})"
    r"|(?:manifest for|No such image:|access denied for|apply layer error for)\s+\\*[\"']?([^\"'\\\s,]{1,512})",
    re.IGNORECASE,
)
#: What a client asked a registry for.
_ADDRESS = re.compile(r"https?://([^/\s\"'@]+)/v2/([a-z0-9][a-z0-9._/-]*?)/manifests/(?!sha\d)([\w][\w.-]*)")
#: Hosts of labels, media types and source code, which no image comes from.
_NO_REGISTRY = frozenset({"containerd.io", "github.com", "golang.org", "go.etcd.io", "k8s.io", "google.golang.org"})
_TRAILING = ".,;:…)"


class Mentions(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, the most telling and most frequent first.

    `line` is the text or the line of a log that is explained, `lines` how many there were. `computed` are digests that
    wrong bytes hash to. `prefixes` is what somebody asked about, `guesses` what may be one in a message. `seen` counts
    the lines of each known message. `asked` says that a person asked about one thing, not about a message.
    """

    line: str = ""
    lines: int = 1
    digests: tuple[Digest, ...] = ()
    computed: tuple[Digest, ...] = ()
    prefixes: tuple[str, ...] = ()
    guesses: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    known: tuple[Known, ...] = ()
    seen: dict[str, int] = {}
    asked: bool = False


def mentions(text: str) -> Mentions:
    """What one message speaks of."""
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
        known=known,
        seen={entry.id: 1 for entry in known},
    )


def asked(text: str) -> Mentions:
    """What a person asks about: one word is a digest, the beginning of one, or an image's name; more is a message."""
    word = text.strip()
    if len(word.splitlines()) > 1:
        return _small(word)
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


def _small(text: str) -> Mentions:
    """Several lines: those that hold a known message tell most, and the others may say which image it was about."""
    whole = mentions(text)
    telling = [found for line in text.splitlines() if (found := mentions(line[:_LINE])).known]
    if not telling:
        return msgspec.structs.replace(whole, lines=text.count("\n") + 1)
    best = min(reversed(telling), key=lambda found: RANK[found.known[0].id])
    return msgspec.structs.replace(
        best,
        lines=text.count("\n") + 1,
        digests=best.digests or _joined(found.digests for found in telling),
        computed=best.computed or _joined(found.computed for found in telling),
        names=tuple(dict.fromkeys((*best.names, *whole.names)))[:KEPT],
        known=_ranked(found.known for found in telling),
        seen=dict(Counter(entry.id for found in telling for entry in found.known[:1])),
    )


def _joined(parts: Iterable[tuple[Digest, ...]]) -> tuple[Digest, ...]:
    return tuple(dict.fromkeys(digest for part in parts for digest in part))[:KEPT]


def _ranked(parts: Iterable[tuple[Known, ...]]) -> tuple[Known, ...]:
    found = {entry.id: entry for part in parts for entry in part[:1]}
    return tuple(sorted(found.values(), key=lambda entry: RANK[entry.id]))[:KEPT]


def _is_prefix(long: str, bare: str) -> bool:
    """A bare run of hex is meant as a digest only where it has letters and digits: dates and counters have none."""
    return bool(long) or (bool(re.search(r"[a-f]", bare)) and bool(re.search(r"[0-9]", bare)))


def _names(text: str) -> Iterator[str]:
    """Image names; a file's path, a label and a package of Go are none."""
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
    """What a log came to so far: counts, and the line of each message that was read last.

    Lines of one kind are those that have the same telling words in them.
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
        """Take in a line, and say which message it is; empty for none."""
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
        """The message that is there most often leads; of what says little by itself only where nothing else is."""
        order = sorted(self.seen, key=lambda name: (_says_little(name), -self.seen[name], RANK[name]))
        if not order:
            return Mentions(lines=lines)
        lead = order[0]
        return Mentions(
            line=self.last[lead].line,
            lines=lines,
            digests=tuple(digest for digest, _ in self.digests[lead].most_common(KEPT)),
            computed=self.last[lead].computed,
            names=tuple(name for name, _ in self.names[lead].most_common(KEPT)),
            known=tuple(MESSAGES[RANK[name]] for name in order[:KEPT]),
            seen=dict(self.seen),
        )


def search(chunks: Iterable[bytes]) -> Mentions:
    """Go through a log and sum up what its telling lines speak of, in constant memory."""
    tally, lines = _Tally(), 0
    for block, count in _blocks(chunks):
        lines += count
        for kind, line in _telling(block):
            tally.add(kind, line)
    return tally.result(lines)


def _blocks(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Whole lines, a chunk's worth at a time, and how many; a line without end is cut."""
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


#: What every log is full of; in a log these are found only beside something else.
_EVERYWHERE = frozenset({"not found", "already exists", "meta.db", "NotFound: content digest"})
_COMMON = frozenset({b"failed", b"found", b"error", b"context", b"container", b"image", b"expected", b"to"})
_APART = bytes(c if bytes([c]).isalnum() or c == ord("\n") else ord(" ") for c in range(256))


def _word(anchor: str) -> bytes:
    """The word of an anchor by which lines are told apart: the longest that not every log is full of."""
    words = anchor.lower().encode().translate(_APART).split()
    return max(words, key=lambda word: (word not in _COMMON, len(word)))


#: A line that holds none of these words holds no known message.
_WORDS = frozenset(_word(a) for known in MESSAGES for a in known.anchors if a not in _EVERYWHERE)


def _says_little(name: str) -> bool:
    return name in {"unexpected-end", "already-exists", "deadline", "export-failed", "image-not-found"}


def _telling(block: bytes) -> Iterator[tuple[frozenset[bytes], bytes]]:
    """The lines of a block that may hold a known message, each with the telling words in it.

    Cutting a block into words and asking a set costs a tenth of looking for each anchor in turn.
    """
    lines = block.split(b"\n")
    for line, words in zip(lines, block.lower().translate(_APART).split(b"\n"), strict=True):
        found = words[:_LINE].split()
        if not _WORDS.isdisjoint(found):
            yield _WORDS.intersection(found), line
