"""The run of `auditor recover`: find images and names on a disk, verify them, write them elsewhere."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from auditor.archive.image_layers import documents_of, platforms_held
from auditor.atomic_write import write_whole
from auditor.audit.collect import Request
from auditor.cli import audit, prover
from auditor.cli.options import Common
from auditor.cli.output import refuse_below
from auditor.cli.runs import recover_write
from auditor.cli.runs.recover_write import Written, planned
from auditor.cli.saved_reports import content
from auditor.errors import NothingExamined, StoreError, UsageError
from auditor.export.model import ExportPlan
from auditor.formats.recover import CopiedDatabase, Recovered, RecoveredRow
from auditor.model.command_line import command
from auditor.model.digest import Digest
from auditor.model.findings import Report, Status, Verify
from auditor.model.image_graph import Documents, Group, children, group
from auditor.model.platforms import Platform
from auditor.model.plural import plural
from auditor.offline.find_root import METADATA
from auditor.offline.store import OfflineStore
from auditor.recover import blob_documents, match, names_on_disk
from auditor.recover.blob_documents import BlobDocuments
from auditor.recover.database_copy import sound_copy
from auditor.recover.match import RecoveredImage
from auditor.recover.name_sources import CRI, NameHint, read_names
from auditor.recover.store import RecoveredStore
from auditor.regular_file import is_named_pipe

#: A namespace; containerd pkg/identifiers/validate.go.
_NAMESPACE = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*")


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a recovery."""

    root: Path
    names: tuple[Path, ...] = ()
    namespace: str = CRI
    output: Path | None = None
    into: str | None = None
    meta_db: Path | None = None
    dry_run: bool = False


def check(wish: Wish) -> None:
    """Check the options before anything is read.

    Raises:
        UsageError: There is no target or more than one, or it cannot be written.

    """
    targets = [target for target in (wish.output, wish.into, wish.meta_db) if target is not None]
    if len(targets) > 1:
        raise UsageError("-o, --into and --meta-db exclude each other", hint="give one of them")
    if not targets and not wish.dry_run:
        raise UsageError(
            "no target given", hint="-o FILE.tar, -o FOLDER, --into SOCKET or --meta-db FILE; or --dry-run"
        )
    if _NAMESPACE.fullmatch(wish.namespace) is None:
        raise UsageError(f"{wish.namespace!r} is no name of a namespace", hint="for example k8s.io or default")
    if str(wish.output) == "-":
        raise UsageError("recover writes no archive to standard output", hint="-o FILE.tar or -o FOLDER")
    if wish.meta_db is not None and wish.names:
        raise UsageError("--meta-db takes no --names", hint="a copy of the database has its own names")
    for path in (wish.output, wish.meta_db):
        if path is not None:
            _check_path(path, wish.root)


def _check_path(path: Path, root: Path) -> None:
    whole = path.absolute()
    if not whole.parent.is_dir():
        raise UsageError(f"there is no folder {whole.parent}", hint="make it first, or write elsewhere")
    refuse_below(root, path)
    if os.path.lexists(path):
        raise UsageError(f"{path} exists already", hint="name a new file or folder")


def copy_database(wish: Wish) -> CopiedDatabase:
    """Write a sound copy of meta.db.

    Raises:
        StoreError: No tree of the database is whole and agrees with the files.
        OutputError: The file cannot be written.

    """
    disk = _disk(wish.root, spare=False)
    made = sound_copy(disk.root / METADATA / "meta.db", disk.files())
    target = wish.meta_db
    if target is not None and not wish.dry_run:
        write_whole(target, made.data, mode=0o600, new=True)
    return CopiedDatabase(
        root=str(disk.root),
        path="" if target is None or wish.dry_run else str(target),
        newest=made.newest,
        images=made.images,
        blobs=made.blobs,
        snapshots=made.snapshots,
    )


#: Why an image cannot be recovered, by namespace and target; None for an image that is intact.
Verdicts = Mapping[tuple[str, str], str | None]


class _Work(msgspec.Struct, frozen=True):
    """What was found on the disk: the images as a store, their documents, and the verdict on each."""

    disk: OfflineStore
    found: BlobDocuments
    matched: match.Matched
    store: RecoveredStore
    documents: Documents
    report: Report
    groups: tuple[Group, ...]
    verdicts: Verdicts


def recover(wish: Wish, options: Common) -> Recovered:
    """Run the recovery.

    Raises:
        NothingExamined: There is no image among the blobs.
        UsageError: A file with names cannot be read.
        StoreError: The disk cannot be read, or the daemon failed.
        OutputError: The target cannot be written.

    """
    begun = time.monotonic()
    work = _look(wish, options)
    written = Written() if wish.dry_run else _write(wish, work, options)
    return Recovered(
        root=str(work.disk.root),
        dry_run=wish.dry_run,
        verified=work.report.verify is Verify.LAYERS,
        images=tuple(_row(image, work, written) for image in work.matched.images),
        written=written.rows,
        notes=tuple(_notes(work, written)),
        duration_seconds=round(time.monotonic() - begun, 3),
    )


def exit_status(recovered: Recovered | CopiedDatabase) -> int:
    """Return 0 if every image is intact and, unless for a dry run, was written; else 1."""
    if isinstance(recovered, CopiedDatabase):
        return 0
    whole = all(row.status == "intact" and (row.written or recovered.dry_run) for row in recovered.images)
    return 0 if whole else 1


def _disk(root: Path, *, spare: bool = True) -> OfflineStore:
    """Open the disk. Raises StoreError where a daemon uses it, UsageError where it has no root."""
    try:
        return OfflineStore(root, spare=spare)
    except StoreError as error:
        raise StoreError(
            error.message, hint="stop containerd first; from a running one, auditor export takes the images"
        ) from None


def _look(wish: Wish, options: Common) -> _Work:
    stated = [hint for path in wish.names for hint in _read(path)]
    disk = _disk(wish.root)
    found = blob_documents.scan(disk.content, disk.files())
    hints = [*names_on_disk.records(disk), *stated, *names_on_disk.others(disk, found)]
    matched = match.match(hints, found, namespace=wish.namespace)
    if not matched.images:
        raise NothingExamined(
            f"there is no image among the {plural(len(disk.files()), 'blob')} of {disk.root}",
            hint="is this the right disk?",
        )
    store = RecoveredStore(disk, matched.images)
    documents, held = _documents(store)
    request = Request(verify=Verify.PRESENCE if wish.dry_run else Verify.LAYERS, of_image=held)
    reader = prover.reader(store, request.verify)
    _, report = audit.audited(store, request, options, documents=documents, reader=reader, trees=False)
    groups = tuple(_groups(store))
    verdicts = _verdicts(groups, store, documents, report)
    return _Work(disk, found, matched, store, documents, report, groups, verdicts)


def _write(wish: Wish, work: _Work, options: Common) -> Written:
    """Write the intact images."""
    intact = [each for each in work.groups if work.verdicts[each.namespace, str(each.target.digest)] is None]
    parts = list(recover_write.parts(intact))
    if wish.into is not None:
        return recover_write.into(wish.into, parts, work.disk, work.store, work.documents, work.found, options)
    targets = recover_write.targets(wish.output or Path(), len(parts))
    for target in targets[1:]:
        _check_path(target, wish.root)
    return recover_write.archives(targets, parts, work.store, work.documents, options)


def _read(path: Path) -> Sequence[NameHint]:
    """Read the names in a file, packed with gzip or zstd or not. Raises UsageError where it has none."""
    shown = "standard input" if str(path) == "-" else str(path)
    if is_named_pipe(path):
        raise UsageError(f"{shown} cannot be read: it is a named pipe", hint=f"--names - < {command(shown)}")
    try:
        if str(path) == "-":
            data = content(sys.stdin.buffer, name=shown)
        else:
            with path.open("rb") as file:
                data = content(file, name=shown)
    except OSError as error:
        raise UsageError(f"{shown} cannot be read: {error.strerror or error}", hint="--names takes a file") from None
    hints = read_names(data, shown if shown == "standard input" else path.name)
    if not hints:
        raise UsageError(
            f"{shown} has no names of images",
            hint="--names takes a copy of meta.db, a JSON report, kubectl get pods -o yaml|json, a containerd log, or "
            "lines NAME DIGEST",
        )
    return hints


def _documents(store: RecoveredStore) -> tuple[Documents, Mapping[Digest, tuple[Platform, ...]]]:
    """Return the documents of all images, and the platforms of each that are not only manifests."""
    documents: Documents = {}
    held: dict[Digest, tuple[Platform, ...]] = {}
    for name in store.namespaces():
        inventory = store.inventory(name)
        documents = documents_of(store, inventory, group(inventory.images), known=documents)
        held |= platforms_held(inventory, documents)
    return documents, held


def _groups(store: RecoveredStore) -> list[Group]:
    return [each for name in store.namespaces() for each in group(store.inventory(name).images)]


def _verdicts(groups: Sequence[Group], store: RecoveredStore, documents: Documents, report: Report) -> Verdicts:
    """Return why each image cannot be recovered; None for one that is intact."""
    intact = {(state.namespace, state.target) for state in report.images if state.status is Status.SOUND}
    faults: dict[tuple[str, str], str] = {}
    for finding in report.findings:
        for image in finding.images:
            faults.setdefault((image.namespace, image.target), finding.message)
    found = {}
    for each in groups:
        key = (each.namespace, str(each.target.digest))
        fault = None if key in intact else faults.get(key, "it was not verified")
        found[key] = _lacking(planned([each], store, documents)) or fault
    return found


def _lacking(plan: ExportPlan) -> str | None:
    """Return the first part of an image that is missing, in a sentence; None where all are there."""
    if not plan.missing:
        return None
    more = f", and {len(plan.missing) - 1} more" if len(plan.missing) > 1 else ""
    return f"{plan.missing[0].sentence}{more}"


def _row(image: RecoveredImage, work: _Work, written: Written) -> RecoveredRow:
    key = (image.namespace, str(image.target.digest))
    why = work.verdicts[key]
    return RecoveredRow(
        namespace=image.namespace,
        name=image.name,
        digest=str(image.target.digest),
        certainty=image.certainty.value,
        source=image.source,
        status="intact" if why is None else "damaged",
        why=why or "",
        written=key in written.targets and (image.namespace, image.name) not in written.taken,
        note=image.note,
    )


def _named(documents: Documents) -> Iterator[Digest]:
    """Yield the documents and what they list."""
    for (digest, _), loaded in documents.items():
        yield digest
        yield from (child.digest for child in children(loaded))


def _notes(work: _Work, written: Written) -> Iterator[str]:
    yield from work.disk.info().gaps
    yield from filter(None, [work.disk.spare_note(_named(work.documents))])
    if work.found.damaged:
        documents = plural(len(work.found.damaged), "document")
        yield f"{documents} that could be an index or a manifest, damaged: {work.found.damaged[0]}"
    for source in dict.fromkeys(hint.source for hint in work.matched.elsewhere):
        here = [hint for hint in work.matched.elsewhere if hint.source == source]
        names = plural(len(here), "name")
        yield f"{names} of {source} without an image on this disk, or with several that fit: {here[0].name}"
    if written.taken:
        name = min(written.taken)[1]
        names = plural(len(written.taken), "name")
        yield f"{names} of other images in the daemon, left as they are: {name}"
