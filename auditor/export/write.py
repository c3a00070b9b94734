"""Writing an archive from a Store: whole and proven, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from auditor.archive.open import open_archive
from auditor.atomic_write import Temporary, output_errors, sync_folder
from auditor.errors import ExportRefused, OutputError
from auditor.export import tar_members as parts_of
from auditor.export.copy_blobs import Pump
from auditor.export.model import ExportPlan
from auditor.export.read_back import Differs, Follower, Growing, as_planned, prove
from auditor.export.sinks import COMPRESSORS, CompressingSink, FileSink, PipeSink, Sink
from auditor.export.tar_members import END, Part
from auditor.model.digest import Digest, Meter
from auditor.model.store import ProofKind, Store

NO_COMPRESSION: Final = "none"
OnBytes = Callable[[int], None]


class Written(msgspec.Struct, frozen=True):
    """An archive that was written: its bytes on the disk, and their digest (none for a folder, or unless asked for).

    `read_back`: it could be read again, and was; a pipe cannot.
    """

    path: str
    size: int
    digest: Digest | None = None
    read_back: bool = True


def write_archive(
    plan: ExportPlan,
    store: Store,
    target: Path,
    *,
    namespace: str,
    tag: str,
    compress: str = NO_COMPRESSION,
    layers: bool = True,
    digest: bool = True,
    on_bytes: OnBytes | None = None,
) -> Written:
    """Write `plan` to `target`, read it back as `verify` would, and only then put it there.

    `tag` names the temporary file and must be unique to the run; `compress` is `none`, `gzip` or `zstd`; with `layers`
    the reading back also proves the diffIDs; with `digest` it hashes the file too, beside the blobs in it, which takes
    about as long as copying. `on_bytes` hears of each blob's bytes twice: written, and read back.
    Raises ExportRefused where the content is not whole, OutputError where it cannot be written; then the target is as
    it was.
    """
    _refuse(plan)
    pump = Pump(plan, store, namespace=namespace, on_bytes=on_bytes)
    with Temporary(target, tag=tag) as temporary:
        meter = Meter() if digest else None
        growing = Growing(meter)
        read = partial(_read_back, plan, temporary.path, layers=layers, on_bytes=on_bytes, tap=growing)
        with _blaming(pump), Follower(growing, read) as reading:
            with output_errors(target), _sink(FileSink(temporary.fd, on_grown=growing.grew), compress) as sink:
                _tar(plan, pump, sink)
            growing.end()
            with output_errors(target):
                os.fsync(temporary.fd)
            reading.result()
        temporary.publish()
        size = os.fstat(temporary.fd).st_size
        return Written(path=str(target), size=size, digest=meter.result().digest if meter is not None else None)


def _read_back(
    plan: ExportPlan, path: Path, *, layers: bool, on_bytes: OnBytes | None, tap: Growing | None = None
) -> None:
    """Read it as `verify` would, and see that it is what was planned. Raises Differs, OutputError, ExportRefused."""
    look = plan.unproven if layers else False
    archive = open_archive(path, layers=look, on_bytes=on_bytes, on_file=as_planned(plan), tap=tap)
    prove(plan, archive, layers=layers)


@contextmanager
def _blaming(pump: Pump) -> Iterator[None]:
    """A blob that was read back wrong: the store's copy, or else the disk's. Raises WrongContent, OutputError."""
    try:
        yield
    except Differs as error:
        pump.blame(error.blob)
        raise OutputError(
            f"read back, the archive is not what was written: {error.blob.digest} is {ProofKind.CORRUPT}",
            hint="look at the disk",
        ) from None


def write_pipe(
    plan: ExportPlan,
    store: Store,
    fd: int,
    *,
    namespace: str,
    compress: str = NO_COMPRESSION,
    on_bytes: OnBytes | None = None,
) -> Written:
    """Write `plan` to an open pipe. What is wrong ends it before the end-of-archive marker, so that nobody can load it.

    Raises ExportRefused, OutputError; as nothing can be taken back, the exit status is all that the reader has.
    """
    _refuse(plan)
    pipe = PipeSink(fd)
    with output_errors("the archive"), _sink(pipe, compress) as sink:
        _tar(plan, Pump(plan, store, namespace=namespace, on_bytes=on_bytes), sink)
    return Written(path="-", size=pipe.measured.size, digest=pipe.measured.digest, read_back=False)


def write_layout(
    plan: ExportPlan,
    store: Store,
    target: Path,
    *,
    namespace: str,
    tag: str,
    layers: bool = True,
    on_bytes: OnBytes | None = None,
) -> Written:
    """Write `plan` as an OCI layout folder; as `write_archive`. The folder must not be there yet, or be empty."""
    _refuse(plan)
    pump = Pump(plan, store, namespace=namespace, on_bytes=on_bytes)
    with Temporary(target, tag=tag, folder=True) as temporary:
        with output_errors(target):
            _folder(plan, pump, temporary.path)
        with _blaming(pump):
            _read_back(plan, temporary.path, layers=layers, on_bytes=on_bytes)
        temporary.publish()
    return Written(path=str(target), size=sum(part.size for part in parts_of.parts(plan)))


def _refuse(plan: ExportPlan) -> None:
    if plan.missing:
        first, more = plan.missing[0], len(plan.missing) - 1
        others = f", and {more} more" if more else ""
        raise ExportRefused(
            f"{first.sentence}{others}; no archive was written",
            hint=f"`auditor repair {first.image}` brings it back; or export with --refetch",
        )
    if not plan.images:
        raise ExportRefused("there is no image to export")


@contextmanager
def _sink(sink: Sink, compress: str) -> Iterator[Sink]:
    """The sink to write to, finished at the end unless something went wrong."""
    whole = sink if compress == NO_COMPRESSION else CompressingSink(sink, COMPRESSORS[compress]())
    try:
        yield whole
        whole.finish()
    except BaseException:
        whole.abandon()
        raise


def _tar(plan: ExportPlan, pump: Pump, sink: Sink) -> None:
    for part in parts_of.parts(plan):
        sink.write(part.header)
        _body(part, sink, pump)
        sink.write(part.padding)
    sink.write(END)


def _body(part: Part, sink: Sink, pump: Pump) -> None:
    if part.raw is not None:
        sink.write(part.raw)
    elif part.blob is not None:
        pump.move(part.blob, sink)


def _folder(plan: ExportPlan, pump: Pump, root: Path) -> None:
    """Files and folders with the modes of an archive's members, each synced."""
    with ThreadPoolExecutor(2, thread_name_prefix="archive-sync") as syncing:
        folders = [root]
        synced = []
        for part in parts_of.parts(plan):
            if part.name.endswith("/"):
                folders.append(root / part.name)
                folders[-1].mkdir(mode=part.mode)
            else:
                synced.append(syncing.submit(_synced, _file(part, root / part.name, pump)))
        for each in synced:
            each.result()
    for folder in reversed(folders):
        sync_folder(folder)


def _file(part: Part, path: Path, pump: Pump) -> int:
    """Write one file; its descriptor is still to be synced and closed."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    sink = FileSink(fd)
    try:
        os.fchmod(fd, part.mode)
        _body(part, sink, pump)
        sink.finish()
    except BaseException:
        sink.abandon()
        os.close(fd)
        raise
    return fd


def _synced(fd: int) -> None:
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
