"""The proof as a standing job: what came out is written down at once, so a kill costs what was being read."""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable
from contextlib import closing
from datetime import datetime

from auditor.digest import Digest
from auditor.pace import Pace
from auditor.scrub.run import never, prove, silent
from auditor.scrub.targets import Target
from auditor.state import State
from auditor.store import Proof, Store


def scrub(
    store: Store,
    state: State,
    targets: Iterable[Target],
    *,
    now: Callable[[], datetime],
    jobs: int,
    layers: bool = False,
    max_layer: int | None = None,
    known: Container[Digest] = (),
    pace: Pace | None = None,
    idle: bool = True,
    over: Callable[[], bool] = never,
    on_bytes: Callable[[int], None] = silent,
) -> Generator[Proof, None, None]:
    """Prove `targets`, which `plan` ordered, and remember each outcome before it is given.

    The options are those of `prove`; `now` dates the outcomes. Raises StoreError, and StateError where an outcome
    cannot be written down.
    """
    outcomes = prove(
        store,
        targets,
        jobs=jobs,
        layers=layers,
        max_layer=max_layer,
        known=known,
        pace=pace,
        idle=idle,
        over=over,
        on_start=lambda target: state.begin(target.digest, at=now()),
        on_bytes=on_bytes,
    )
    with closing(outcomes):
        for proof in outcomes:
            state.record(proof, at=now())
            yield proof
