"""Run of `auditor diagnose`: read the question, audit the store, read the blobs that matter, explain."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Mapping
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
from auditor.cli.output import print_message
from auditor.cli.progress import Meter
from auditor.cli.runs.diagnose_files import examined
from auditor.diagnose.commands import CommandTarget
from auditor.diagnose.evidence_index import EvidenceIndex
from auditor.diagnose.explain import exit_status, explain
from auditor.diagnose.extract import Mentions, asked, search
from auditor.diagnose.model import Diagnosis
from auditor.diagnose.read_order import Wanted, wanted
from auditor.errors import NothingExamined, StoreError, StoreUnreachable, UsageError
from auditor.formats import redact
from auditor.formats.sanitize import plain
from auditor.model.digest import Digest
from auditor.model.findings import Finding, Verify, order
from auditor.model.platforms import Platform
from auditor.model.store import Lease, Store

_CHUNK = 1 << 20
#: Standard input up to this length in bytes is one message; longer input is a log.
_MESSAGE = 65_536
_HINT = "give a digest, an image, a message, or pipe a log in"


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question.

    Attributes:
        mentions: What the text mentions.
        archive: Archive to examine instead of a daemon.
        message_only: Explain the message without a store.
        budget: Time limit for reading blobs.
        platforms: Platforms that images must have; empty means the node's.

    """

    mentions: Mentions
    archive: Path | None = None
    message_only: bool = False
    budget: timedelta = timedelta(seconds=20)
    platforms: tuple[Platform, ...] = ()


def read(words: list[str]) -> Mentions:
    """Read the question from the arguments, or from standard input for `-` or no argument.

    Args:
        words: The arguments.

    Returns:
        What the text mentions.

    Raises:
        UsageError: The text is empty.

    """
    if words and words != ["-"]:
        text = " ".join(words)
        if not text.strip():
            raise UsageError("the question is empty", hint=_HINT)
        return asked(text)
    if not words and sys.stdin.isatty():
        raise UsageError("there is no question", hint=_HINT)
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
    """Explain a question with a store's evidence; with the message alone where no daemon is found.

    Returns:
        The diagnosis and the exit status.

    Raises:
        StoreError: The archive cannot be opened; or the named daemon or root, and the text has no known message.

    """
    mentions, target = question.mentions, _target(question, options)
    if question.message_only:
        diagnosis = explain(mentions, None, target=target, looked_at="")
        return diagnosis, exit_status(diagnosis, None, alone=True)
    try:
        with connect.opened(options, question.archive) as store:
            target = msgspec.structs.replace(target, kind=store.info().kind)
            index, address = _index(store, question, options), store.info().address
    except NothingExamined as error:
        print_message(f"note: {plain(error.message)}; the text alone is explained")
    except StoreError as error:
        named = options.address is not None or options.root is not None
        lost = isinstance(error, StoreUnreachable) or options.root is not None
        if question.archive is not None or not lost or (named and not mentions.known):
            raise
        print_message(f"note: {plain(error.message)}; the text alone is explained")
    else:
        folders = {} if question.archive is not None else _folders(mentions)
        diagnosis = explain(mentions, index, target=target, looked_at=address, folders=folders)
        return diagnosis, exit_status(diagnosis, index, alone=False)
    diagnosis = explain(mentions, None, target=target, looked_at="", folders=_folders(mentions))
    return diagnosis, exit_status(diagnosis, None, alone=False)


def _folders(mentions: Mentions) -> Mapping[str, bool]:
    """Return whether each snapshot folder in the text exists; without those of a snapshotter that is not here."""
    paths = [Path(folder) for folder in mentions.folders]
    roots = {path: path.parent if path.name.isdigit() else path.parent.parent for path in paths}
    return {str(path): path.is_dir() for path, root in roots.items() if root.is_dir()}


def _target(question: Question, options: Common) -> CommandTarget:
    archive = str(question.archive) if question.archive is not None else ""
    return CommandTarget(
        address=(options.address or "").removeprefix("unix://"),
        archive=archive,
        root=str(options.root) if options.root is not None else "",
        while_running=options.while_running,
        platforms=tuple(map(str, question.platforms)),
    )


def _index(store: Store, question: Question, options: Common) -> EvidenceIndex:
    also, held = _archive_findings(store, question)
    request = Request(namespaces=options.namespaces, verify=Verify.LAYERS, platforms=question.platforms, of_image=held)
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
        return EvidenceIndex(_nothing_in(store, request), order(also))
    leases = {view.name: tuple(_with_resources(store, view.inventory.leases)) for view in outcome.evidence.views}
    return EvidenceIndex(outcome.evidence, outcome.findings, leases=leases, unread=outcome.unread)


def _nothing_in(store: Store, request: Request) -> Evidence:
    """Return empty evidence, for an archive without a readable image."""
    info = store.info()
    matcher = matcher_for(request, info)
    return Evidence(
        info=info, verify=request.verify, matcher=matcher, views=(), documents={}, files={}, now=audit.now()
    )


def _archive_findings(
    store: Store, question: Question
) -> tuple[tuple[Finding, ...], Mapping[Digest, tuple[Platform, ...]]]:
    """Return the findings about an archive as a file, and the platforms that it holds."""
    if not isinstance(store, ArchiveStore):
        return (), {}
    (namespace,) = store.namespaces()
    problems = tuple(p.finding(archive=str(question.archive), namespace=namespace) for p in store.problems)
    return problems, platforms_held(store.inventory(namespace), store.documents)


def _with_resources(store: Store, leases: Iterable[Lease]) -> Iterator[Lease]:
    """Yield the leases with their resources; an audit lists resources only for leases that matter to a finding."""
    for lease in leases:
        if lease.resources is None:
            yield msgspec.structs.replace(lease, resources=store.resources(lease.namespace, lease.id))
        else:
            yield lease


def _read(store: Store, question: Question, meter: Meter, evidence: Evidence) -> Reading:
    """Read the blobs that matter for the question, within the time limit."""
    want: Wanted = wanted(question.mentions, evidence)
    known = store.verifications()
    targets = [t for t in scrub.wanted(evidence) if t.digest in want and t.digest not in known]
    targets.sort(key=lambda target: want.rank(target.digest, target.size))
    end = time.monotonic() + question.budget.total_seconds()

    def over() -> bool:
        return time.monotonic() > end

    files = examined(store, question.mentions, evidence, want, over=over)
    targets = [target for target in targets if target.digest not in files.verifications]
    outcomes = scrub.verify_blobs(
        store,
        targets,
        jobs=prover.default_jobs(),
        layers=True,
        known=frozenset(target.digest for target in targets),
        over=over,
        on_bytes=meter.reading(sum(target.size for target in targets)),
    )
    verifications = {**files.verifications, **{verification.digest: verification for verification in outcomes}}
    late = frozenset(target.digest for target in targets if target.digest not in verifications)
    return Reading(verifications, late, snapshot_files=files.files, incomplete=files.incomplete)


def without_credentials(diagnosis: Diagnosis) -> Diagnosis:
    """Return the diagnosis with passwords and tokens removed from the question."""
    return msgspec.structs.replace(diagnosis, line=redact.without_credentials(diagnosis.line))
