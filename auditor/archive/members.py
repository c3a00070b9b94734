"""Take in the members of an archive: hash each file, keep small documents, decompress layers."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from auditor.archive.blob_table import BlobTable
from auditor.archive.layer_pipeline import Inspector, MakeInspector, SharedMeter, ThreadedInspector
from auditor.archive.name_set import NameSet
from auditor.archive.problems import ArchiveProblem, Problems, StopReading, shown
from auditor.archive.seen import Seen, claimed, empty_file
from auditor.archive.tar_reader import Header, Kind
from auditor.checks.archive_faults import DUPLICATE, MALFORMED, UNSAFE
from auditor.checks.rule import Rule
from auditor.concurrency import CHUNK
from auditor.errors import InvalidDigest
from auditor.layers.threaded_meter import ThreadedMeter
from auditor.model import oci
from auditor.model.digest import Digest, Meter
from auditor.model.findings import Severity

#: Bytes of documents kept in memory in all; further ones are read again when they are needed.
KEEP_TOTAL: Final = 64 << 20
#: Members of one archive; an image has some hundreds.
MAX_MEMBERS: Final = 2_000_000
#: Files with content, and links, of one archive.
MAX_FILES: Final = 100_000
#: Files that are kept whole before intact blobs are packed.
MAX_WHOLE: Final = 2_000
#: Empty files that are kept like others; of further ones only the names are.
MAX_EMPTY: Final = 1_000
#: The file that marks a `dir:` folder, and the most bytes of it that are read.
DIR_VERSION: Final = "version"
_MAX_VERSION: Final = 256
#: Bytes of a file's name on Linux; loaders that unpack fail on longer ones.
_LONGEST_NAME: Final = 255
_LINKS: Final = (Kind.SYMLINK, Kind.HARDLINK)
#: Files that are always kept: the archive cannot be read without them.
_DOCUMENTS: Final = frozenset({"index.json", "manifest.json", "oci-layout", "repositories", DIR_VERSION})


def dir_digest(name: str) -> Digest | None:
    """Return the digest in a file name of a `dir:` folder: the hex of a blob, or of a manifest below the root.

    containers/image directory/directory_transport.go `layerPath`, `manifestPath`.
    """
    algorithm, dash, encoded = name.removesuffix(".manifest.json").partition("-")
    try:
        return Digest.parse(f"{algorithm}:{encoded}" if dash else f"sha256:{algorithm}")
    except InvalidDigest:
        return None


def cleaned(name: str) -> str | None:
    """Normalise a member's name as importers do: no `./`, no doubled slashes, no `x/../`.

    Returns:
        The name, empty for the root; None where it is absolute or leads out of the archive.

    """
    if name.startswith("/"):
        return None
    path = posixpath.normpath(name)
    if path == ".." or path.startswith("../"):
        return None
    return "" if path == "." else path


def _relative(name: str, link: str) -> str:
    """Return the target of a hard link, which counts from the root of the archive, as that of a symbolic link."""
    return posixpath.relpath(f"/{cleaned(link)}", f"/{posixpath.dirname(name)}")


class Collector:
    """Take in members and record the files, links and problems.

    Of empty files the first are kept like others, then only their names, in `empty`; `early` are the hard links before
    which the member that they lead to did not come.

    Args:
        inspect: makes an inspector for each file that may be a layer; for other files its result is ignored.
        looks: whether to inspect a blob that is named by its digest.
        on_bytes: progress callback: bytes that were read since the last call.
        on_file: called with each file when all of it has been read.
        pack: whether to keep intact blobs in `packed` where there are many.

    """

    def __init__(
        self,
        *,
        inspect: MakeInspector,
        looks: Callable[[Digest], bool],
        on_bytes: Callable[[int], None] | None = None,
        on_file: Callable[[Seen], None] | None = None,
        pack: bool = False,
    ) -> None:
        self.files: dict[str, Seen] = {}
        self.packed = BlobTable()
        self.links: dict[str, str] = {}
        self.early: list[str] = []
        self.empty = NameSet()
        self.problems = Problems()
        self.bytes = 0
        self._inspect = inspect
        self._looks = looks
        self._on_bytes = on_bytes
        self._on_file = on_file
        self._pack = pack
        self._kept = 0
        self._members = 0
        self._empty = 0

    def take(self, header: Header, body: Iterable[memoryview], *, path: Path | None = None) -> None:
        """Take in one member.

        Args:
            header: its header.
            body: its bytes.
            path: its path in a layout folder.

        Raises:
            StopReading: the body ends early (what was there is recorded), or there are too many members.

        """
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise StopReading(ArchiveProblem(MALFORMED, f"the archive has more than {MAX_MEMBERS} members"))
        name = self._safe(header)
        if name is None or header.kind is Kind.FOLDER:
            return
        twice = self.has(name)
        earlier = self._taken(name)
        self.files.pop(name, None)
        if header.kind is Kind.HARDLINK and not self.has(cleaned(header.link) or ""):
            self.early.append(name)
        if header.kind in _LINKS:
            self.links[name] = header.link if header.kind is Kind.SYMLINK else _relative(name, header.link)
        elif self._only_name(header, name, twice=twice and name not in self.empty):
            self._keep_name(name)
        else:
            self._measure(header, name, body, path)
        if twice:
            self._duplicate(name, equal=earlier == self._taken(name))
        if len(self.files) + len(self.links) > MAX_FILES:
            message = f"the archive has more than {MAX_FILES} links and files with content"
            raise StopReading(ArchiveProblem(MALFORMED, message))

    @property
    def many(self) -> bool:
        """Whether there are so many files that intact blobs are packed."""
        return self._pack and len(self.files) > MAX_WHOLE

    def has(self, name: str) -> bool:
        """Whether a file or link of this name was taken in."""
        return name in self.files or name in self.links or name in self.empty or name in self.packed

    def _only_name(self, header: Header, name: str, *, twice: bool) -> bool:
        """Whether to keep only the name of a file: one of many empty ones, and not the second of its name."""
        if header.size or twice or name in _DOCUMENTS:
            return False
        self._empty += 1
        return self._empty > MAX_EMPTY

    def _keep_name(self, name: str) -> None:
        self.empty.add(name)
        promise = claimed(name)
        if promise is not None and promise != Digest.of(b"", algorithm=promise.algorithm):
            self._problem(MALFORMED, f"the blob {promise} is empty", name)
        if self._on_file is not None:
            self._on_file(empty_file(name))

    def _taken(self, name: str) -> tuple[int, Digest | str, bool] | None:
        """Return what identifies the content of a member that was taken in: equal values, equal content."""
        seen = self.files.get(name) or self.packed.get(name) or (empty_file(name) if name in self.empty else None)
        if seen is not None:
            return seen.size, seen.digest, seen.whole
        link = self.links.get(name)
        return None if link is None else (0, link, True)

    def _duplicate(self, name: str, *, equal: bool) -> None:
        message = f"two members have the name {shown(name)}"
        if equal:
            problem = ArchiveProblem(DUPLICATE, f"{message} and equal bytes", shown(name), level=Severity.WARNING)
            self.problems.append(problem)
        else:
            self._problem(DUPLICATE, message, name)

    def _safe(self, header: Header) -> str | None:
        """Return the normalised name of a member; None and a problem for one that must not be in an image archive."""
        try:
            header.name.encode("utf-8")
        except UnicodeEncodeError:
            self._problem(UNSAFE, f"the name {shown(header.name)} is not UTF-8", header.name)
            return None
        name = cleaned(header.name)
        if name is None:
            self._unreachable(header)
            return None
        if ".." in header.name.split("/"):
            what = f"leads to {shown(name)}, where crane and tar do not look for it"
            self._warn(f"the name {shown(header.name)} {what}", header.name)
        if any(len(part.encode()) > _LONGEST_NAME for part in name.split("/")):
            what = f"has a part of more than {_LONGEST_NAME} bytes, with which no file can be made"
            self._warn(f"the name {shown(name)} {what}", "")
        if header.kind is Kind.HARDLINK and cleaned(header.link) is None:
            self._problem(UNSAFE, f"the hard link {shown(name)} leads out of the archive: {shown(header.link)}", name)
            return None
        if header.kind in (Kind.FILE, Kind.FOLDER, *_LINKS):
            return name
        self._problem(UNSAFE, f"{shown(header.name)} is a {header.kind}", header.name)
        return None

    def _unreachable(self, header: Header) -> None:
        """Report a name that is absolute, other than the root's, or leads out of the archive.

        Measured on containerd 1.6 to 2.1, docker 26 and 28, podman, skopeo, oras and crane: all pass over an absolute
        name or unpack it inside their folder; those that unpack refuse the whole archive for a name that leads out.
        """
        if header.name.startswith("/"):
            if header.name.strip("/") or header.kind is not Kind.FOLDER:
                what = "is absolute: importers pass over it, or unpack it inside their folder"
                self._warn(f"the name {shown(header.name)} {what}", header.name)
        else:
            self._problem(UNSAFE, f"the name {shown(header.name)} leads out of the archive", header.name)

    def _warn(self, message: str, name: str) -> None:
        self.problems.append(ArchiveProblem(UNSAFE, message, member=shown(name), level=Severity.WARNING))

    def _problem(self, fault: Rule, message: str, name: str) -> None:
        self.problems.append(ArchiveProblem(fault, message, member=shown(name)))

    def _measure(self, header: Header, name: str, body: Iterable[memoryview], path: Path | None) -> None:
        promise = claimed(name)
        named = promise or dir_digest(name)
        passing = _Passing(
            promise=named,
            keep=header.size <= (oci.MAX_DOCUMENT if name in _DOCUMENTS else self._room()),
            text=name == DIR_VERSION and header.size <= _MAX_VERSION,
            inspect=self._inspect if promise is None or self._looks(promise) else None,
            large=header.size > CHUNK,
        )
        error = ""
        try:
            for piece in body:
                passing.update(piece)
                self._count(len(piece))
        except PermissionError:
            raise
        except OSError as caught:
            error = caught.strerror or str(caught)
        finally:
            seen = passing.finish(header, name, path, error)
            if not (self.many and self.packed.add(seen)):
                self.files[name] = seen
            self._kept += len(seen.kept or b"")
        if self._on_file is not None:
            self._on_file(seen)

    def _room(self) -> int:
        """Return the most bytes that one further document may have to be kept."""
        return min(oci.MAX_DOCUMENT, KEEP_TOTAL - self._kept)

    def _count(self, size: int) -> None:
        self.bytes += size
        if self._on_bytes is not None:
            self._on_bytes(size)


class _Passing:
    """One file while it is read."""

    def __init__(
        self, *, promise: Digest | None, keep: bool, text: bool, inspect: MakeInspector | None, large: bool
    ) -> None:
        self._promise = promise
        self._algorithm = promise.algorithm if promise else "sha256"
        self._meter = Meter(self._algorithm)
        self._keep = keep
        self._text = text
        self._inspect = inspect
        self._inspector: Inspector | None = None
        self._large = large
        self._head = b""
        self._kept: list[bytes] = []

    def update(self, piece: memoryview) -> None:
        if not self._meter.size:
            self._head = bytes(piece[:512])
            self._keep = self._keep and (self._text or _like_json(self._head))
            self._look()
        self._meter.update(piece)
        if self._keep:
            self._kept.append(bytes(piece))
        if self._inspector is not None:
            self._inspector.update(piece)

    def _look(self) -> None:
        """Start the inspection, in threads where the file is large.

        A layer that is not compressed decompresses to itself: the blob's hash is its diffID.
        """
        if self._inspect is None:
            return
        if self._algorithm == "sha256" and _packing(self._head) == "tar":
            inspector = self._inspect(meter=SharedMeter(self._meter))
        else:
            inspector = self._inspect(meter=ThreadedMeter() if self._large else Meter())
        self._inspector = ThreadedInspector(inspector) if self._large else inspector

    def finish(self, header: Header, name: str, path: Path | None, error: str) -> Seen:
        if not self._head:
            self._look()
        measured = self._meter.result()
        # One object for equal digests: an archive may have many blobs.
        digest = self._promise if self._promise == measured.digest else measured.digest
        return Seen(
            name=name,
            size=header.size,
            read=measured.size,
            digest=digest,
            packing=_packing(self._head),
            layer=self._inspector.finish() if self._inspector is not None else None,
            kept=b"".join(self._kept) if self._keep else None,
            offset=None if path else header.offset,
            path=path,
            error=error,
            extents=header.extents,
        )


def _like_json(head: bytes) -> bool:
    """Whether a file may be a document; statements of attestations, which may be large, begin with their type."""
    start = head.lstrip()[:64]
    return start[:1] in (b"{", b"[") and b'"_type"' not in start and _packing(head) != "tar"


def _packing(head: bytes) -> str:
    """Return the compression of a layer by its first bytes; containerd pkg/archive/compression `DetectCompression`."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    return "tar" if head[257:262] == b"ustar" else ""
