"""Known messages of containerd and its clients; the data is in messages.toml.

Rank is the order of the file: messages of the machine (a full disk) come first, because they explain every other
failure; messages with many possible causes come last.
"""

from __future__ import annotations

import enum
import re
from functools import cached_property
from pathlib import Path

import msgspec


class Confidence(enum.StrEnum):
    """How well a cause is supported: proven by the evidence, likely, one of several possible causes, or not named."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"
    UNKNOWN = "unknown"


#: `.`, a class or `\S`, repeated without a limit.
_GAP = re.compile(r"(\.|\]|\\S|\\w)([*+])")
#: Maximum length of what a gap of a pattern matches.
_GAP_LENGTH = 600


def _bounded(gap: re.Match[str]) -> str:
    return f"{gap[1]}{{{int(gap[2] == '+')},{_GAP_LENGTH}}}"


class KnownMessage(msgspec.Struct, frozen=True, kw_only=True, dict=True, forbid_unknown_fields=True):
    """One message.

    Attributes:
        anchors: Constant parts of the message. Every text that `pattern` matches contains one of them, so that a log
            is searched by substring first.
        pattern: Regular expression; without it, any anchor matches. A repetition such as `.*` matches at most 600
            characters.
        meaning: What the message states, one sentence.
        cause: The most likely cause where no store is available.
        confidence: Confidence in `cause` from the message alone. Certain only for a message that proves itself, such
            as the kernel's error for a full disk.
        findings: Codes of the findings that lead to this message.
        by_design: A blob that is absent by design leads to it, too.
        impact: What fails.
        unaffected: What works.
        steps: Shell commands, the safest first; manual steps begin with `#`. `{digest}`, `{image}` and `{namespace}`
            are replaced by what the message names.
        source: Where containerd prints it, and public threads about it.

    """

    id: str
    anchors: tuple[str, ...]
    pattern: str = ""
    meaning: str
    cause: str
    confidence: Confidence = Confidence.LIKELY
    findings: tuple[str, ...] = ()
    by_design: bool = False
    impact: str
    unaffected: str = ""
    steps: tuple[str, ...]
    source: str

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The compiled pattern; its gaps are bounded, so that a text full of anchors is searched in linear time."""
        return re.compile(_GAP.sub(_bounded, self.pattern) or "|".join(map(re.escape, self.anchors)), re.IGNORECASE)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    steps: dict[str, str]
    message: tuple[KnownMessage, ...]


def _load() -> tuple[KnownMessage, ...]:
    """Read messages.toml; a step that is a key of its table `steps` is replaced by that entry."""
    file = msgspec.toml.decode(Path(__file__).with_suffix(".toml").read_bytes(), type=_File)
    return tuple(
        msgspec.structs.replace(known, steps=tuple(file.steps.get(step, step) for step in known.steps))
        for known in file.message
    )


MESSAGES = _load()
#: Rank of each message by id; lower is more specific.
RANK = {known.id: rank for rank, known in enumerate(MESSAGES)}


def recognise(text: str) -> tuple[KnownMessage, ...]:
    """Return the known messages in a text, the most specific first."""
    lower = text.lower()
    return tuple(
        known for known in MESSAGES if any(a.lower() in lower for a in known.anchors) and known.regex.search(text)
    )
