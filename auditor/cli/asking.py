"""The run of a diagnosis: what is asked, which store is looked at, which bytes are read."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from auditor import scrub
from auditor.audit import Request
from auditor.cli import proving, run
from auditor.cli.options import Common
from auditor.cli.output import say
from auditor.diagnose.explain import explain
from auditor.diagnose.extract import Mentions, asked, search
from auditor.diagnose.knowledge import Diagnosis
from auditor.diagnose.lookup import Catalogue
from auditor.digest import Digest
from auditor.errors import NothingExamined, StoreUnreachable, UsageError
from auditor.evidence import Evidence
from auditor.findings import Severity, Verify
from auditor.store import Proof, Store

_CHUNK = 1 << 20
#: Standard input up to this many bytes is one message; more is a log.
_MESSAGE = 16_384


def read(words: list[str]) -> Mentions:
    """Take the text from the arguments, or from standard input for `-` or nothing. Raises UsageError for no text."""
    if words and words != ["-"]:
        return asked(" ".join(words))
    if not words and sys.stdin.isatty():
        raise UsageError("nothing was asked", hint="give a digest, an image, a message, or pipe a log in")
    first = sys.stdin.buffer.read(_MESSAGE)
    rest = sys.stdin.buffer.read(_CHUNK)
    if not first.strip():
        raise UsageError("standard input is empty", hint="give a digest, an image, a message, or pipe a log in")
    if not rest:
        return asked(first.decode("utf-8", "replace"))
    return search(_chunks(first, rest))


def _chunks(*begun: bytes) -> Iterator[bytes]:
    yield from begun
    while chunk := sys.stdin.buffer.read(_CHUNK):
        yield chunk


def answer(said: Mentions, options: Common, *, archive: Path | None, message_only: bool) -> tuple[Diagnosis, int]:
    """Look where that can be done and explain; the exit status is 1 where a fault was found.

    Where no daemon was named and none is found, the message alone is explained.
    """
    if message_only:
        return explain(said, None, looked_at="nothing"), 0
    try:
        with run.opened(options, archive) as store:
            catalogue = _catalogue(store, said, options)
            address = store.info().address
    except NothingExamined as error:
        say(f"note: {error.message}")
        return explain(said, None, looked_at="an empty store"), 0
    except StoreUnreachable as error:
        if options.address is not None:
            raise
        say(f"note: {error.message}; the message alone is explained")
        return explain(said, None, looked_at="nothing"), 0
    found = explain(said, catalogue, looked_at=address)
    faulty = {code for known in found.objects for code in known.findings}
    worst = [f.severity.rank for f in catalogue.findings if f.code in faulty]
    return found, int(min(worst, default=Severity.INFO.rank) <= Severity.ERROR.rank)


def _catalogue(store: Store, said: Mentions, options: Common) -> Catalogue:
    request = Request(namespaces=options.namespaces, verify=Verify.LAYERS)
    outcome, _ = run.audited(store, request, options, proving=lambda _meter: lambda e: _prove(store, said, e))
    return Catalogue(outcome.evidence, outcome.findings)


def _prove(store: Store, said: Mentions, evidence: Evidence) -> Mapping[Digest, Proof]:
    """Read the blobs that the message names, and no others."""
    catalogue = Catalogue(evidence, ())
    wanted = set(said.digests)
    wanted.update(fit[0] for prefix in said.prefixes if len(fit := catalogue.complete(prefix)) == 1)
    known = store.proofs()
    targets = [t for t in scrub.wanted(evidence) if t.digest in wanted and t.digest not in known]
    every = frozenset(target.digest for target in targets)
    outcomes = scrub.prove(store, targets, jobs=proving.default_jobs(), layers=True, known=every)
    return {proof.digest: proof for proof in outcomes}
