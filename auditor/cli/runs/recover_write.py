"""Write recovered images: into archives, layout folders, or a running containerd."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from auditor import containerd
from auditor.cli.choices import Compress
from auditor.cli.options import Common
from auditor.cli.progress import progress
from auditor.containerd.discover import socket_path
from auditor.containerd.writable_store import WritableContainerdStore
from auditor.errors import Busy, OutputError, StoreError, UsageError
from auditor.export.model import ExportPlan
from auditor.export.plan import plan
from auditor.export.write import write_archive, write_layout
from auditor.formats.recover import WrittenRow
from auditor.model import platforms
from auditor.model.image_graph import Documents, Group
from auditor.model.platforms import Platform
from auditor.offline.store import OfflineStore
from auditor.recover import load
from auditor.recover.blob_documents import BlobDocuments
from auditor.recover.store import RecoveredStore

#: Images of one archive: containerd 2.x refuses archives with more than 10,000 descriptors.
MOST = 1000
#: The compression of an archive, by the end of its name; another name is that of a folder.
_ARCHIVES = {".tar": Compress.NONE, ".tar.gz": Compress.GZIP, ".tgz": Compress.GZIP, ".tar.zst": Compress.ZSTD}


class Written(msgspec.Struct, frozen=True):
    """What was written: archives or daemons, the images by namespace and target, and the names that were taken."""

    rows: tuple[WrittenRow, ...] = ()
    targets: frozenset[tuple[str, str]] = frozenset()
    taken: frozenset[tuple[str, str]] = frozenset()


def planned(groups: Sequence[Group], store: RecoveredStore, documents: Documents) -> ExportPlan:
    """Plan an archive of images: every platform of which the disk has a layer, and no other."""
    nothing = platforms.only([Platform(os="none", architecture="none")])
    return plan(groups, documents=documents, has=store.files().__contains__, required=nothing, names=_names)


def _names(each: Group) -> tuple[str, ...]:
    """Return the names of an image in an archive: an image id is no name, though CRI records it as one."""
    return tuple(name for name in each.names if not name.startswith("sha256:")) or each.names[:1]


def parts(groups: Sequence[Group]) -> Iterator[list[Group]]:
    """Yield the images in parts: of one namespace, and MOST at most."""
    for name in sorted({each.namespace for each in groups}):
        here = [each for each in groups if each.namespace == name]
        yield from (here[at : at + MOST] for at in range(0, len(here), MOST))


def targets(output: Path, count: int) -> list[Path]:
    """Return the paths of the archives: NAME.tar, NAME-2.tar, and so on."""
    suffix = _suffix(output)
    stem = output.name.removesuffix(suffix)
    others = (output.with_name(f"{stem}-{number}{suffix}") for number in range(2, count + 1))
    return [output, *others]


def _suffix(path: Path) -> str:
    return next((end for end in sorted(_ARCHIVES, key=len, reverse=True) if path.name.endswith(end)), "")


def archives(
    paths: Sequence[Path],
    groups: Sequence[Sequence[Group]],
    store: RecoveredStore,
    documents: Documents,
    options: Common,
) -> Written:
    """Write each part to an archive or a layout folder, and read it back.

    Raises:
        ExportRefused: A blob changed since it was verified.
        OutputError: A target cannot be written; those before it are complete.

    """
    rows: list[WrittenRow] = []
    with progress(wanted=options.progress) as meter:
        for path, part in zip(paths, groups, strict=False):
            made = planned(part, store, documents)
            with _partial(rows):
                rows.append(_archive(path, made, part[0].namespace, store, meter.reading(made.size * 2, "writing")))
    return Written(tuple(rows), _keys(groups))


@contextmanager
def _partial(rows: Sequence[WrittenRow]) -> Iterator[None]:
    """Name the archives that are complete in the hint of an error of the next one."""
    try:
        yield
    except OutputError as error:
        done = f"; complete: {', '.join(row.path for row in rows)}" if rows else ""
        raise OutputError(error.message, hint=f"{error.hint}{done}") from None


def _keys(groups: Sequence[Sequence[Group]]) -> frozenset[tuple[str, str]]:
    return frozenset((each.namespace, str(each.target.digest)) for part in groups for each in part)


def _archive(
    path: Path, made: ExportPlan, namespace: str, store: RecoveredStore, on_bytes: Callable[[int], None]
) -> WrittenRow:
    tag = f"{os.getpid()}-{secrets.token_hex(4)}"
    suffix = _suffix(path)
    # The layers were decompressed before; reading back proves that the same bytes were written.
    if suffix:
        compress = _ARCHIVES[suffix]
        done = write_archive(
            made,
            store,
            path,
            namespace=namespace,
            tag=tag,
            compress=compress,
            layers=False,
            new=True,
            on_bytes=on_bytes,
        )
    else:
        done = write_layout(made, store, path, namespace=namespace, tag=tag, layers=False, on_bytes=on_bytes)
    return WrittenRow(
        kind="archive" if suffix else "layout",
        path=done.path,
        namespace=namespace,
        images=len(made.images),
        bytes=done.size,
        digest=str(done.digest) if done.digest is not None else None,
    )


def into(
    address: str,
    groups: Sequence[Sequence[Group]],
    disk: OfflineStore,
    store: RecoveredStore,
    documents: Documents,
    found: BlobDocuments,
    options: Common,
) -> Written:
    """Write the images into a running containerd.

    Raises:
        UsageError: The daemon uses the disk itself.
        StoreError: The daemon failed, or another run writes into it.

    """
    rows: list[WrittenRow] = []
    taken: set[tuple[str, str]] = set()
    with (
        containerd.connect_writable(socket_path(address), timeout=options.timeout) as daemon,
        progress(wanted=options.progress) as meter,
    ):
        if _is_same(daemon.info().content_root, disk.content.path):
            raise UsageError(f"the daemon at {address} uses {disk.root} itself", hint="name another daemon")
        with _alone(daemon, address, dict.fromkeys(part[0].namespace for part in groups)):
            for part in groups:
                made = planned(part, store, documents)
                name = part[0].namespace
                done = load.load(
                    made,
                    part,
                    store,
                    daemon,
                    namespace=name,
                    documents=found,
                    on_bytes=meter.reading(made.size, "writing"),
                )
                taken |= {(name, each) for each in done.taken}
                rows.append(WrittenRow(kind="daemon", path=address, namespace=name, images=len(part), bytes=made.size))
    return Written(tuple(rows), _keys(groups), frozenset(taken))


@contextmanager
def _alone(daemon: WritableContainerdStore, address: str, namespaces: Iterable[str]) -> Iterator[None]:
    try:
        with load.alone(daemon, namespaces):
            yield
    except Busy:
        raise StoreError(
            f"another auditor recover writes into the daemon at {address}", hint="run it again when that one has ended"
        ) from None


def _is_same(first: Path | None, second: Path) -> bool:
    """Whether two paths lead to the same folder."""
    return first is not None and first.exists() and first.samefile(second)
