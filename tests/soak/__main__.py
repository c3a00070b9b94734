"""`make soak`: run the campaigns one after another, print what they found, fail if one of them failed."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path

from tests.lab.kit.process import scratch, sweep
from tests.program import ROOT
from tests.soak.record import Outcome

#: Seconds in which a campaign must end after its time is over.
_GRACE = 180


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaigns; return 1 if one failed, 2 for an unknown name."""
    given = _parser().parse_args(arguments)
    if given.inside:
        return _inside(given.inside, given.seconds, given.outcome)
    names = campaigns()
    asked = given.only.replace(",", " ").split() or names
    unknown = sorted(set(asked) - set(names))
    if unknown:
        print(f"no campaign {', '.join(unknown)}; there are {', '.join(names)}", file=sys.stderr)
        return 2
    sweep()
    results = {name: _apart(name, given.seconds / len(asked)) for name in asked}
    failures = [f"{name}: {why}" for name, outcome in results.items() for why in outcome.failures]
    print(_total(results.values()))
    for failure in failures:
        print(f"FAILED {failure}")
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="time of all campaigns together (600)")
    parser.add_argument("--only", default="", help="names of campaigns, separated by commas")
    parser.add_argument("--inside", default="", help=argparse.SUPPRESS)
    parser.add_argument("--outcome", type=Path, help=argparse.SUPPRESS)
    return parser


def campaigns() -> list[str]:
    """Names of all campaigns: `soak_NAME.py` in this folder."""
    return sorted(path.stem.removeprefix("soak_") for path in Path(__file__).parent.glob("soak_*.py"))


def _inside(name: str, seconds: float, to: Path) -> int:
    """Run one campaign in this process and write its outcome."""
    with scratch() as folder:
        outcome: Outcome = importlib.import_module(f"tests.soak.soak_{name}").run(seconds, folder)
    to.write_text(json.dumps(asdict(outcome)))
    return 0


def _apart(name: str, seconds: float) -> Outcome:
    """Run one campaign in a process of its own and print its outcome; one that ends badly is a failure."""
    started = time.monotonic()
    with scratch() as folder:
        to = folder / "outcome.json"
        line = [sys.executable, "-m", "tests.soak", "--inside", name, "--seconds", str(seconds), "--outcome", str(to)]
        try:
            status = subprocess.run(line, cwd=ROOT, timeout=seconds + _GRACE, check=False).returncode
            why = f"ended with status {status}"
        except subprocess.TimeoutExpired:
            why = f"did not end within {seconds + _GRACE:.0f} s"
        outcome = _read(to) if to.exists() else Outcome(cases=0, failures=(why,))
    _print(name, outcome, time.monotonic() - started)
    return outcome


def _read(path: Path) -> Outcome:
    found = json.loads(path.read_text())
    return Outcome(**{**found, "failures": tuple(found["failures"])})


def _print(name: str, outcome: Outcome, seconds: float) -> None:
    counts = ", ".join(f"{number} {result}" for result, number in outcome.counts.items())
    print(f"{name}: {outcome.cases} cases in {seconds:.0f} s, peak {outcome.peak_mib:.0f} MiB; {counts}")
    if outcome.slowest:
        print(f"  slowest: {outcome.slowest_seconds:.2f} s, {outcome.slowest}", flush=True)


def _total(outcomes: Collection[Outcome]) -> str:
    cases = sum(each.cases for each in outcomes)
    failed = sum(len(each.failures) for each in outcomes)
    peak = max((each.peak_mib for each in outcomes), default=0.0)
    return f"{cases} cases in {len(outcomes)} campaigns, {failed} failures, peak {peak:.0f} MiB"


if __name__ == "__main__":
    sys.exit(main())
