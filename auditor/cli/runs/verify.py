"""The run of `auditor verify`: audit each archive like a store, and add the faults of the archive itself."""

from __future__ import annotations

import stat
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec

from auditor.archive.catalog import ABSENT_DOCUMENTS, NAMESPACE
from auditor.archive.image_layers import platforms_held
from auditor.archive.open import PIPE, open_archive
from auditor.archive.parts_missing import parts_missing
from auditor.archive.platform_mismatch import platform_mismatches
from auditor.archive.problems import ArchiveProblem
from auditor.archive.recognise import packing_problems
from auditor.archive.store import ArchiveStore
from auditor.archive.unreferenced import Unreferenced
from auditor.audit import collect
from auditor.checks.archive_faults import INCOMPLETE
from auditor.cli import audit
from auditor.cli.choices import ReportFormat
from auditor.cli.metrics_files import COULD_NOT
from auditor.cli.options import Common
from auditor.cli.output import deliver, print_error
from auditor.cli.progress import progress
from auditor.cli.publish import publish, style
from auditor.cli.render import RenderOptions, many
from auditor.errors import AuditorError, NothingExamined, OutputError, UsageError
from auditor.layers import LayerInspector
from auditor.model.digest import Digest
from auditor.model.findings import FailOn, Report, Verify, exit_status, order
from auditor.model.platforms import Platform
from auditor.model.store import SourceKind, StoreInfo


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Verification level and platforms."""

    depth: Verify
    platforms: tuple[Platform, ...]
    all_platforms: bool
    max_layer: int | None
    blobs: Path | None = None
    sparse: bool = False


_PATHS: Final = "name an archive, a layout folder, or - for standard input"


def distinct(paths: list[str]) -> list[str]:
    """Return the paths, each once.

    Raises:
        UsageError: a path is empty, or standard input is a terminal.

    """
    wanted = list(dict.fromkeys(paths))
    if "" in wanted:
        raise UsageError("there is no file with an empty name", hint=_PATHS)
    if PIPE in wanted and sys.stdin.isatty():
        raise UsageError("an archive is not typed on a terminal", hint="pipe it in, or name a file")
    return wanted


def shared(folder: Path | None) -> Path | None:
    """Return the folder of --blobs; its `blobs` folder where a layout is given.

    Raises:
        UsageError: it is no folder with blobs.

    """
    if folder is None:
        return None
    for each in (folder, folder / "blobs"):
        if any((each / name).is_dir() for name in ("sha256", "sha512")):
            return each
    raise UsageError(f"{folder} has no folder sha256", hint="--blobs takes the folder that holds sha256/")


def verified_all(paths: list[str], wish: Wish, options: Common) -> list[Report]:
    """Audit each archive; of several, one that cannot be read is an incomplete report, and the others go on.

    Raises:
        AuditorError: the only archive cannot be read at all, or holds no image.

    """
    if len(paths) == 1:
        return [verified(paths[0], wish, options)]
    return [_outcome(path, wish, options) for path in paths]


def _outcome(path: str, wish: Wish, options: Common) -> Report:
    try:
        return verified(path, wish, options)
    except AuditorError as error:
        why = error.message if path in error.message else f"{path}: {error.message}"
        print_error(AuditorError(why, hint=error.hint))
        info = StoreInfo(kind=SourceKind.ARCHIVE, address=path)
        return audit.empty(info, _request(wish), findings=(), incomplete=(why,))


def _request(wish: Wish, of_image: Mapping[Digest, tuple[Platform, ...]] = MappingProxyType({})) -> collect.Request:
    return collect.Request(
        verify=wish.depth,
        platforms=wish.platforms,
        all_platforms=wish.all_platforms,
        of_image=of_image,
        sparse=wish.sparse,
    )


def verified(path: str, wish: Wish, options: Common) -> Report:
    """Audit one archive.

    Raises:
        UsageError: it does not exist.
        StoreError: it cannot be read at all.
        NothingExamined: it holds no image.

    """
    if path != PIPE and not Path(path).exists():
        raise UsageError(f"there is no {path}", hint=_PATHS)
    store = _opened(path, wish, options)
    inventory = store.inventory(NAMESPACE)
    asked = wish.platforms or wish.all_platforms
    wanted = _request(wish) if asked else _request(wish, platforms_held(inventory, store.documents))
    problems = (*store.problems, *parts_missing(inventory, store.documents, everything=wish.all_platforms))
    if wish.sparse:
        problems = tuple(problem for problem in problems if not (inventory.images and _on_purpose(problem)))
    notes = (*packing_problems(path, store.packing), *platform_mismatches(inventory, store.documents))
    also = tuple(problem.finding(archive=path, namespace=NAMESPACE) for problem in (*problems, *notes))
    cut = () if store.complete else (f"{path} could not be read to its end",)
    if inventory.images and (inventory.blobs or not wish.sparse):
        made = audit.audited(store, wanted, options, documents=store.documents, also=also, incomplete=cut)[1]
        return _counted(made, store.unreferenced)
    if not problems:
        raise NothingExamined(f"{path} holds no image: nothing was examined", hint="is it an image archive?")
    return audit.empty(store.info(), wanted, findings=order(also), incomplete=cut)


def _counted(report: Report, extra: Unreferenced) -> Report:
    """Return a report that counts intact blobs which the audit did not see."""
    blobs, read = report.summary.blobs, report.summary.bytes
    blobs = msgspec.structs.replace(
        blobs,
        total=blobs.total + extra.blobs,
        present=blobs.present + extra.blobs,
        verified=blobs.verified + extra.blobs,
    )
    read = msgspec.structs.replace(read, present=read.present + extra.bytes, read=read.read + extra.bytes)
    return msgspec.structs.replace(report, summary=msgspec.structs.replace(report.summary, blobs=blobs, bytes=read))


def _on_purpose(problem: ArchiveProblem) -> bool:
    """Whether a problem of a sparse archive comes from what it lacks."""
    return problem.code == INCOMPLETE.code or ABSENT_DOCUMENTS in problem.facts


def _opened(path: str, wish: Wish, options: Common) -> ArchiveStore:
    with progress(wanted=options.progress) as meter:
        return open_archive(
            path,
            stdin=sys.stdin.buffer if path == PIPE else None,
            layers=wish.depth is Verify.LAYERS,
            inspect=partial(LayerInspector, max_size=wish.max_layer),
            blobs=wish.blobs,
            pack=True,
            on_bytes=meter.reading(_size(path), f"reading {Path(path).name[:40]}"),
        )


def _size(path: str) -> int:
    """Return the size of a file in bytes for the progress bar; 0 where it is unknown."""
    try:
        known = Path(path).stat()
    except OSError:
        return 0
    return known.st_size if stat.S_ISREG(known.st_mode) else 0


def publish_all(reports: list[Report], options: Common, output_format: ReportFormat, *, fail_on: FailOn) -> int:
    """Print the reports; return 1 if one of them has exit status 1, else the highest."""
    statuses = [exit_status(report, fail_on) for report in reports]
    status = 1 if 1 in statuses else max(statuses)
    if len(reports) == 1:
        return publish(reports[0], options, output_format, status=status, fail_on=fail_on, command="verify")
    if options.quiet and status == 0 and options.output is None:
        return status
    render_options = RenderOptions(style=style(options), fail_on=fail_on, command="verify", status=status)
    try:
        deliver(many(reports, output_format, render_options), options.output)
    except OutputError as error:
        print_error(error)
        return status or COULD_NOT
    return status
