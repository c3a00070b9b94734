"""The run of a diagnosis: what is asked, which store is looked at, which bytes are read."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path

import msgspec

from auditor import scrub
from auditor.archive.image_layers import platforms_held
from auditor.archive.store import ArchiveStore
from auditor.audit.audit import Reading
from auditor.audit.collect import Request, matcher_for
from auditor.checks.evidence import Evidence
from auditor.cli import audit, connect, prover
from auditor.cli.options import Common
from auditor.cli.output import say
from auditor.cli.progress import Meter
from auditor.diagnose.commands import Place
from auditor.diagnose.evidence_index import Catalogue
from auditor.diagnose.explain import exit_status, explain
from auditor.diagnose.extract import Mentions, asked, search
from auditor.diagnose.model import Diagnosis
from auditor.diagnose.read_order import Wanted, wanted
from auditor.errors import NothingExamined, StoreUnreachable, UsageError
from auditor.formats import redact
from auditor.formats.sanitize import plain
from auditor.model.digest import Digest
from auditor.model.findings import Finding, Verify, order
from auditor.model.platforms import Platform
from auditor.model.store import Lease, Store

_CHUNK = 1 << 20
#: Standard input up to this many bytes is one message; more is a log.
_MESSAGE = 65_536
_HINT = "give a digest, an image, a message, or pipe a log in"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked, and where and how long to look."""

    said: Mentions
    archive: Path | None = None
    message_only: bool = False
    budget: timedelta = timedelta(seconds=20)


def read(words: list[str]) -> Mentions:
    """Take the text from the arguments, or from standard input for `-` or nothing. Raises UsageError for no text."""
    if words and words != ["-"]:
        text = " ".join(words)
        if not text.strip():
            raise UsageError("nothing was asked", hint=_HINT)
        return asked(text)
    if not words and sys.stdin.isatty():
        raise UsageError("nothing was asked", hint=_HINT)
    first = sys.stdin.buffer.read(_MESSAGE)
    if not first.strip():
        raise UsageError("standard input is empty", hint=_HINT)
    rest = sys.stdin.buffer.read(_CHUNK)
    if not rest:
        return asked(first.decode("utf-8", "replace"))
    return search(_chunks(first + rest))


def _chunks(begun: bytes) -> Iterator[bytes]:
    yield begun
    while chunk := sys.stdin.buffer.read(_CHUNK):
        yield chunk


def answer(question: Question, options: Common) -> tuple[Diagnosis, int]:
    """Look where that can be done and explain, and say with which status to exit.

    Where no daemon was named and none is found, the message alone is explained. Raises StoreUnreachable for one that
    was named.
    """
    said, place = question.said, _place(question, options)
    if question.message_only:
        told = explain(said, None, place=place, looked_at="")
        return told, exit_status(told, None, alone=True)
    try:
        with connect.opened(options, question.archive) as store:
            place = msgspec.structs.replace(place, kind=store.info().kind)
            catalogue, address = _catalogue(store, question, options), store.info().address
    except NothingExamined as error:
        say(f"note: {plain(error.message)}; the text alone is explained")
    except StoreUnreachable as error:
        if options.address is not None or question.archive is not None:
            raise
        say(f"note: {plain(error.message)}; the text alone is explained")
    else:
        told = explain(said, catalogue, place=place, looked_at=address)
        return told, exit_status(told, catalogue, alone=False)
    told = explain(said, None, place=place, looked_at="")
    return told, exit_status(told, None, alone=False)


def _place(question: Question, options: Common) -> Place:
    archive = str(question.archive) if question.archive is not None else ""
    return Place(address=(options.address or "").removeprefix("unix://"), archive=archive)


def _catalogue(store: Store, question: Question, options: Common) -> Catalogue:
    also, held = _of_archive(store, question)
    request = Request(namespaces=options.namespaces, verify=Verify.LAYERS, of_image=held)
    try:
        outcome, _ = audit.audited(
            store,
            request,
            options,
            reader=partial(_read, store, question),
            also=also,
        )
    except NothingExamined:
        if not also:
            raise
        return Catalogue(_nothing_in(store, request), order(also))
    leases = {view.name: tuple(_held(store, view.inventory.leases)) for view in outcome.evidence.views}
    return Catalogue(outcome.evidence, outcome.findings, leases=leases, unread=outcome.unread)


def _nothing_in(store: Store, request: Request) -> Evidence:
    """The evidence of an archive that is too broken to hold anything."""
    info = store.info()
    matcher = matcher_for(request, info)
    return Evidence(
        info=info, verify=request.verify, matcher=matcher, views=(), documents={}, files={}, now=audit.now()
    )


def _of_archive(store: Store, question: Question) -> tuple[tuple[Finding, ...], Mapping[Digest, tuple[Platform, ...]]]:
    """What is wrong with an archive itself, and the platforms that it was made for."""
    if not isinstance(store, ArchiveStore):
        return (), {}
    (namespace,) = store.namespaces()
    problems = tuple(p.finding(archive=str(question.archive), namespace=namespace) for p in store.problems)
    return problems, platforms_held(store.inventory(namespace), store.documents)


def _held(store: Store, leases: tuple[Lease, ...]) -> Iterator[Lease]:
    """The leases with what they hold, the expired ones too; an audit lists that only where it matters to a finding."""
    for lease in leases:
        if lease.resources is None:
            yield msgspec.structs.replace(lease, resources=store.resources(lease.namespace, lease.id))
        else:
            yield lease


def _read(store: Store, question: Question, meter: Meter, evidence: Evidence) -> Reading:
    """Read only the blobs that matter for the question, until the time budget ends."""
    want: Wanted = wanted(question.said, evidence)
    known = store.proofs()
    targets = [t for t in scrub.wanted(evidence) if t.digest in want and t.digest not in known]
    targets.sort(key=lambda target: want.rank(target.digest, target.size))
    end = time.monotonic() + question.budget.total_seconds()
    outcomes = scrub.prove(
        store,
        targets,
        jobs=prover.default_jobs(),
        layers=True,
        known=frozenset(target.digest for target in targets),
        over=lambda: time.monotonic() > end,
        on_bytes=meter.reading(sum(target.size for target in targets)),
    )
    proofs = {proof.digest: proof for proof in outcomes}
    return Reading(proofs, frozenset(target.digest for target in targets if target.digest not in proofs))


def without_credentials(told: Diagnosis) -> Diagnosis:
    """The diagnosis with what was asked told back without passwords and tokens, whatever the format."""
    return msgspec.structs.replace(told, line=redact.without_credentials(told.line))
