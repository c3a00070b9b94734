"""Changed, repeated and joined messages: `auditor diagnose` ends in order and in linear time."""

from __future__ import annotations

import os
import random
from functools import cache
from pathlib import Path

from auditor.diagnose.extract import search
from tests.lab.checked import auditor_here
from tests.program import ROOT
from tests.soak import mutate
from tests.soak.record import Outcome, Recorder, fuzz

#: Longest text that is given as one argument.
_ARGUMENT = 64_000


def run(seconds: float, folder: Path) -> Outcome:  # noqa: ARG001 - campaigns have one signature
    """Fuzz messages and logs."""
    os.environ["AUDITOR_DEBUG"] = "1"
    return fuzz(Recorder("messages", seconds), make, judge, suffix=".log")


def make(chance: random.Random) -> bytes:
    """Return a message, or a log, with some changes."""
    lines = [_line(chance) for _ in range(chance.choice((1, 1, 2, 30)))]
    text = chance.choice(("\n", " ", ": ", "")).join(lines)
    if chance.randrange(8) == 0:
        start = chance.randrange(len(text) + 1)
        text += text[start : start + chance.choice((3, 30, 300))] * chance.choice((100, 1_000))
    return mutate.raw_bytes(text.encode(errors="replace")[:300_000], chance)


def _line(chance: random.Random) -> str:
    line = chance.choice(_messages())
    return mutate.text(line, chance) if chance.random() < 0.5 else line


@cache
def _messages() -> tuple[str, ...]:
    lines = (ROOT / "tests/unit/diagnose/test_messages.txt").read_text().splitlines()
    texts = [line.partition("\t")[2] for line in lines if "\t" in line]
    filled = {"{A}": f"sha256:{'a1' * 32}", "{B}": f"sha256:{'b2' * 32}", "{HEX}": "c3" * 32}
    for name, value in filled.items():
        texts = [text.replace(name, value) for text in texts]
    return tuple(texts)


def judge(data: bytes) -> str:
    """Diagnose a short text by the command, a long one as a log."""
    text = data.decode(errors="replace").replace("\0", "?")
    if len(text) > _ARGUMENT or not text.strip() or text.startswith("-"):
        return f"log, {len(search([data]).known)} known" if data else "empty"
    output_format = ("text", "json", "markdown")[len(data) % 3]
    return f"exit {auditor_here('diagnose', '--message-only', '--format', output_format, text).status}"
