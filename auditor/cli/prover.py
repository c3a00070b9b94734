"""How the bytes are read for `check --verify` and `scrub`: threads, rate, progress."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from auditor.checks.evidence import Evidence
from auditor.cli.progress import Meter
from auditor.cli.units import rate
from auditor.model.digest import Digest
from auditor.model.findings import Verify
from auditor.model.store import Proof, Store

if TYPE_CHECKING:
    from auditor.scrub.rate_limit import Pace


def default_jobs() -> int:
    """One thread a core that this process may use: hashing leaves the interpreter's lock alone."""
    return len(os.sched_getaffinity(0))


def pace(text: str | None) -> Pace | None:
    """Read --limit-rate. Raises UsageError."""
    if not text:
        return None
    from auditor.scrub.rate_limit import Pace

    return Pace(rate(text), clock=time.monotonic)


def prover(
    store: Store,
    verify: Verify,
    meter: Meter,
    *,
    jobs: int | None,
    limit: Pace | None,
    max_layer: int | None,
    idle: bool = False,
) -> Callable[[Evidence], Mapping[Digest, Proof]] | None:
    """What `audit` is to call for the bytes; None where presence is enough."""
    if verify is Verify.PRESENCE:
        return None

    from auditor import scrub

    def prove(evidence: Evidence) -> Mapping[Digest, Proof]:
        targets = [t for t in scrub.wanted(evidence) if t.digest not in store.proofs()]
        outcomes = scrub.prove(
            store,
            targets,
            jobs=jobs or default_jobs(),
            layers=verify is Verify.LAYERS,
            max_layer=max_layer,
            known=frozenset(target.digest for target in targets),
            pace=limit,
            idle=idle,
            on_bytes=meter.reading(sum(target.size for target in targets)),
        )
        return {proof.digest: proof for proof in outcomes}

    return prove
