"""Writing an archive from a Store: whole and proven, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from auditor.archive import parts as parts_of
from auditor.archive.parts import END, Part
from auditor.archive.planned import ExportPlan
from auditor.archive.prove import prove
from auditor.archive.pump import Pump
from auditor.archive.read import open_archive
from auditor.archive.sinks import COMPRESSORS, CompressingSink, FileSink, PipeSink, Sink
from auditor.archive.temporary import Temporary, output_errors, sync_folder
from auditor.digest import Digest, Meter
from auditor.errors import ExportRefused
from auditor.store import Store

NO_COMPRESSION: Final = "none"
OnBytes = Callable[[int], None]


class Written(msgspec.Struct, frozen=True):
    """An archive that was written: its bytes on the disk, and their digest (none for a folder)."""

    path: str
    size: int
    digest: Digest | None = None


def write_archive(
    plan: ExportPlan,
    store: Store,
    target: Path,
    *,
    namespace: str,
    tag: str,
    compress: str = NO_COMPRESSION,
    layers: bool = True,
    on_bytes: OnBytes | None = None,
) -> Written:
    """Write `plan` to `target`, read it back as `verify` would, and only then put it there.

    `tag` names the temporary file and must be unique to the run; `compress` is `none`, `gzip` or `zstd`; with `layers`
    the reading back also proves the diffIDs. `on_bytes` hears of each blob's bytes twice: written, and read back.
    Raises ExportRefused where the content is not whole, OutputError where it cannot be written; then the target is as
    it was.
    """
    _refuse(plan)
    with Temporary(target, tag=tag) as temporary:
        with output_errors(target), _sink(FileSink(temporary.fd), compress) as sink:
            _tar(plan, store, sink, namespace=namespace, on_bytes=on_bytes)
        with _syncing([temporary.fd], target):
            meter = Meter()
            prove(
                plan,
                open_archive(temporary.path, layers=layers, on_bytes=on_bytes, on_chunk=meter.update),
                layers=layers,
            )
        temporary.publish()
        measured = meter.result()
        return Written(path=str(target), size=measured.size, digest=measured.digest)


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
        _tar(plan, store, sink, namespace=namespace, on_bytes=on_bytes)
    return Written(path="-", size=pipe.measured.size, digest=pipe.measured.digest)


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
    with Temporary(target, tag=tag, folder=True) as temporary:
        with output_errors(target):
            _folder(plan, store, temporary.path, namespace=namespace, on_bytes=on_bytes)
        prove(plan, open_archive(temporary.path, layers=layers, on_bytes=on_bytes), layers=layers)
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


def _tar(plan: ExportPlan, store: Store, sink: Sink, *, namespace: str, on_bytes: OnBytes | None) -> None:
    with Pump(plan, store, namespace=namespace, on_bytes=on_bytes) as pump:
        for part in parts_of.parts(plan):
            sink.write(part.header)
            _body(part, sink, pump)
            sink.write(part.padding)
        pump.settle()
    sink.write(END)


def _body(part: Part, sink: Sink, pump: Pump) -> None:
    if part.raw is not None:
        sink.write(part.raw)
    elif part.blob is not None:
        pump.move(part.blob, sink)


def _folder(plan: ExportPlan, store: Store, root: Path, *, namespace: str, on_bytes: OnBytes | None) -> None:
    """Files and folders with the modes of an archive's members, each synced."""
    with (
        Pump(plan, store, namespace=namespace, on_bytes=on_bytes) as pump,
        ThreadPoolExecutor(2, thread_name_prefix="archive-sync") as syncing,
    ):
        folders = [root]
        synced = []
        for part in parts_of.parts(plan):
            if part.name.endswith("/"):
                folders.append(root / part.name)
                folders[-1].mkdir(mode=part.mode)
            else:
                synced.append(syncing.submit(_synced, _file(part, root / part.name, pump)))
        pump.settle()
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


@contextmanager
def _syncing(fds: list[int], target: Path) -> Iterator[None]:
    """Sync beside what is done inside; on leaving, all of it is on the disk."""
    with output_errors(target), ThreadPoolExecutor(1, thread_name_prefix="archive-sync") as syncing:
        synced = [syncing.submit(os.fsync, fd) for fd in fds]
        yield
        for each in synced:
            each.result()
