"""Saved reports with changed fields: `report` and `health` end in order, and nothing acts on the terminal."""

from __future__ import annotations

import json
import os
import random
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any, Final

from auditor.formats.json_report import render
from tests.lab.checked import Run, auditor_here
from tests.program import ROOT
from tests.soak import mutate
from tests.soak.record import Failed, Outcome, Recorder, fuzz
from tests.unit import archives, reports

_FORMATS: Final = ("table", "json", "ndjson", "prometheus", "junit", "markdown", "html")
#: Formats that are read on a terminal.
_SHOWN: Final = frozenset({"table", "json", "ndjson", "markdown", "prometheus"})
_KINDS: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})


def run(seconds: float, folder: Path) -> Outcome:
    """Fuzz reports."""
    os.environ["AUDITOR_DEBUG"] = "1"
    sound = folder / "sound.json"
    sound.write_bytes((ROOT / "reports/samples/healthy.json").read_bytes())
    return fuzz(Recorder("reports", seconds), make, lambda data: judge(data, folder, sound), suffix=".json")


def make(chance: random.Random) -> bytes:
    """Return a report with some changes; now and then packed, cut or flipped."""
    value = mutate.json_value(chance.choice(_originals()), chance, changes=chance.choice((0, 1, 1, 2, 8)))
    data = mutate.json_bytes(value, chance)
    if chance.randrange(10) == 0:
        data = archives.packed(data, chance.choice(("gzip", "zstd")))
    return mutate.raw_bytes(data, chance) if chance.randrange(8) == 0 else data


@cache
def _originals() -> list[Any]:
    samples = [json.loads(path.read_bytes()) for path in sorted((ROOT / "reports/samples").glob("*.json"))]
    made = [value for value in samples if "findings" in value]
    return [*made, json.loads(render(reports.hostile())), json.loads(render(reports.large(4)))]


def judge(data: bytes, folder: Path, sound: Path) -> str:
    """Show a report alone, as a fleet, as a comparison, and to monitoring."""
    path = folder / "report.json"
    path.write_bytes(data)
    output_format = _FORMATS[len(data) % len(_FORMATS)]
    done = auditor_here("report", path, "--format", output_format)
    _check_shown(done, output_format)
    fleet = auditor_here("report", path, sound, "--format", output_format)
    _check_shown(fleet, output_format)
    _check_shown(auditor_here("report", sound, "--against", path), "table")
    _check_shown(auditor_here("report", path, "--verbose"), "table")
    for protocol in ("nagios", "npd"):
        _check_shown(auditor_here("health", protocol, path, "--max-age", "9999999h"), "table")
    return f"exit {done.status}"


def _check_shown(done: Run, output_format: str) -> None:
    out = done.out if output_format in _SHOWN else ""
    bad = {char for char in out + done.err if char not in "\n\t" and unicodedata.category(char) in _KINDS}
    if bad:
        raise Failed(f"{output_format} prints {sorted(map(ascii, bad))}")
