"""Write an archive or a layout folder from a Store: complete and verified, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from auditor.archive.open import open_archive
from auditor.atomic_write import Temporary, output_errors, sync_folder
from auditor.errors import ExportRefused
from auditor.export import tar_members
from auditor.export.copy_blobs import BlobCopier
from auditor.export.model import ExportPlan
from auditor.export.read_back import ReadBack, compare
from auditor.export.sinks import COMPRESSORS, CompressingSink, FileSink, PipeSink, Sink
from auditor.export.tar_members import END, Part
from auditor.model.command_line import command
from auditor.model.digest import Digest, Meter
from auditor.model.store import Store

NO_COMPRESSION: Final = "none"
OnBytes = Callable[[int], None]


class Written(msgspec.Struct, frozen=True):
    """An archive that was written.

    `size` is its size in bytes, for a folder that of all files. `digest` is that of the file; None for a folder, or
    where it was not wanted. `read_back` is False for a pipe, which cannot be read again.
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
    new: bool = False,
    on_bytes: OnBytes | None = None,
) -> Written:
    """Write `plan` to a temporary file, read it back as `verify` would, and rename it to `target`.

    Args:
        plan: what to write.
        store: where the blobs are.
        target: the file to replace.
        namespace: the namespace of the blobs.
        tag: part of the temporary file's name; must be unique to the run.
        compress: `none`, `gzip` or `zstd`.
        layers: also verify diffIDs, of the layers that containerd has not recorded one for.
        digest: also hash the file, which takes about as long as copying it.
        new: replace no file, not even one that was made meanwhile.
        on_bytes: progress callback: bytes since the last call; each byte counts twice, as written and as read back.

    Raises:
        ExportRefused: something is missing from the store or wrong in it; the target is as it was.
        OutputError: the file cannot be written, or is not what was written; the target is as it was.

    """
    _refuse(plan)
    copier = BlobCopier(plan, store, namespace=namespace, on_bytes=on_bytes)
    meter = Meter() if digest else None
    with (
        Temporary(target, tag=tag, new=new) as temporary,
        ReadBack(
            plan, temporary.path, reread=copier.reread, layers=layers, on_bytes=on_bytes, meter=meter
        ) as read_back,
    ):
        with output_errors(target):
            _write_tar(plan, copier, _sink(FileSink(temporary.fd, on_written=read_back.feed), compress))
            os.fsync(temporary.fd)
        read_back.finish()
        temporary.publish()
        size = os.fstat(temporary.fd).st_size
        return Written(path=str(target), size=size, digest=meter.result().digest if meter is not None else None)


def write_pipe(
    plan: ExportPlan,
    store: Store,
    fd: int,
    *,
    namespace: str,
    compress: str = NO_COMPRESSION,
    on_bytes: OnBytes | None = None,
) -> Written:
    """Write `plan` to an open pipe.

    An error ends the stream before its end-of-archive marker, so that importers refuse it. Bytes that were written
    cannot be taken back: the reader must look at the exit status.

    Args:
        plan: what to write.
        store: where the blobs are.
        fd: descriptor of the pipe.
        namespace: the namespace of the blobs.
        compress: `none`, `gzip` or `zstd`.
        on_bytes: progress callback: bytes since the last call.

    Raises:
        ExportRefused: something is missing from the store or wrong in it.
        OutputError: the pipe cannot be written.

    """
    _refuse(plan)
    pipe = PipeSink(fd)
    with output_errors("the archive"):
        copier = BlobCopier(plan, store, namespace=namespace, on_bytes=on_bytes)
        _write_tar(plan, copier, _sink(pipe, compress))
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
    """Write `plan` as an OCI layout folder, read it back, and rename it to `target`.

    Args:
        plan: what to write.
        store: where the blobs are.
        target: the folder; it must be absent or empty.
        namespace: the namespace of the blobs.
        tag: part of the temporary folder's name; must be unique to the run.
        layers: also verify diffIDs, of the layers that containerd has not recorded one for.
        on_bytes: progress callback: bytes since the last call; each byte counts twice, as written and as read back.

    Raises:
        ExportRefused: something is missing from the store or wrong in it.
        OutputError: the folder cannot be written, or is not what was written.

    """
    _refuse(plan)
    copier = BlobCopier(plan, store, namespace=namespace, on_bytes=on_bytes)
    with Temporary(target, tag=tag, folder=True) as temporary:
        with output_errors(target):
            _write_folder(plan, copier, temporary.path)
        archive = open_archive(temporary.path, layers=plan.unproven if layers else False, on_bytes=on_bytes)
        compare(plan, archive, reread=copier.reread, layers=layers)
        temporary.publish()
    return Written(path=str(target), size=sum(part.size for part in tar_members.parts(plan)))


def _refuse(plan: ExportPlan) -> None:
    if plan.missing:
        first, more = plan.missing[0], len(plan.missing) - 1
        others = f", and {more} more" if more else ""
        raise ExportRefused(
            f"{first.sentence}{others}; no archive was written",
            hint=f"`{command('auditor', 'repair', names=[first.image])}` brings it back; or export with --refetch",
        )
    if not plan.images:
        raise ExportRefused("there is no image to export")


def _sink(sink: Sink, compress: str) -> Sink:
    return sink if compress == NO_COMPRESSION else CompressingSink(sink, COMPRESSORS[compress]())


def _write_tar(plan: ExportPlan, copier: BlobCopier, sink: Sink) -> None:
    """Write all members and finish the sink, or abandon it."""
    try:
        for part in tar_members.parts(plan):
            sink.write(part.header)
            _body(part, sink, copier)
            sink.write(part.padding)
        sink.write(END)
        sink.finish()
    except BaseException:
        sink.abandon()
        raise


def _body(part: Part, sink: Sink, copier: BlobCopier) -> None:
    if part.raw is not None:
        sink.write(part.raw)
    elif part.blob is not None:
        copier.copy(part.blob, sink)


def _write_folder(plan: ExportPlan, copier: BlobCopier, root: Path) -> None:
    """Write files and folders with the modes of an archive's members, and sync each."""
    with ThreadPoolExecutor(2, thread_name_prefix="archive-sync") as syncing:
        folders = [root]
        synced = []
        for part in tar_members.parts(plan):
            if part.name.endswith("/"):
                folders.append(root / part.name)
                folders[-1].mkdir(mode=part.mode)
            else:
                synced.append(syncing.submit(_synced, _file(part, root / part.name, copier)))
        for each in synced:
            each.result()
    for folder in reversed(folders):
        sync_folder(folder)


def _file(part: Part, path: Path, copier: BlobCopier) -> int:
    """Write one file; return its descriptor, which the caller must sync and close."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    sink = FileSink(fd)
    try:
        os.fchmod(fd, part.mode)
        _body(part, sink, copier)
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
