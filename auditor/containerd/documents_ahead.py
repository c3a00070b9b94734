"""Read the documents of images ahead, in the process that has listed the records and has nothing else to do.

Labels alone tell which files are documents: containerd sets on an index those of its manifests, and on a manifest that
of its config (core/images/handlers.go `ChildGCLabels`). What is read is not verified; who takes it does that.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from auditor.concurrency import times_blocked

if TYPE_CHECKING:
    from auditor.containerd.relay import Answers

#: Documents in a batch.
BATCH: Final = 64
#: Bytes of the largest document that is read ahead.
LARGEST: Final = 1 << 15
#: Documents that wait to be taken at most; with more, the order in which they are taken is another one.
MOST: Final = 1 << 10
#: Reads of a batch that may block; more are faster in parallel.
_BLOCKING: Final = BATCH // 4
_CHILD: Final = "containerd.io/gc.ref.content."
_LAYER: Final = "containerd.io/gc.ref.content.l."
_DIGEST: Final = re.compile("sha256:([0-9a-f]{64})")
_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

Document = tuple[str, bytes]


def read_ahead(root: str, targets: Iterable[str], labels: Mapping[str, Mapping[str, str]]) -> Iterator[list[Document]]:
    """Read documents, level by level from the images' targets down; yield them in batches, each with its digest.

    Files that are absent, large, or not regular are left out. Reading ends where files are not in the page cache.

    Args:
        root: The content root.
        targets: The digests of the images' targets.
        labels: The labels of all blobs, by digest.

    """
    try:
        folder = os.open(f"{root}/blobs/sha256", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        yield from _levels(folder, targets, labels)
    finally:
        os.close(folder)


def _levels(folder: int, targets: Iterable[str], labels: Mapping[str, Mapping[str, str]]) -> Iterator[list[Document]]:
    level = list(dict.fromkeys(targets))
    seen = set(level)
    while level:
        for start in range(0, len(level), BATCH):
            before = times_blocked()
            batch = level[start : start + BATCH]
            yield [(digest, data) for digest in batch if (data := _read(folder, digest)) is not None]
            if times_blocked() - before > _BLOCKING:
                return
        below = (child for digest in level for child in _children(labels.get(digest, {})) if child in labels)
        level = [child for child in dict.fromkeys(below) if child not in seen]
        seen.update(level)


def _children(labels: Mapping[str, str]) -> Iterator[str]:
    for key, digest in labels.items():
        if key.startswith(_CHILD) and not key.startswith(_LAYER):
            yield digest


def _read(folder: int, digest: str) -> bytes | None:
    well_formed = _DIGEST.fullmatch(digest)
    if well_formed is None:
        return None
    with suppress(OSError):
        descriptor = os.open(well_formed[1], _FLAGS, dir_fd=folder)
        try:
            looked = os.fstat(descriptor)
            if stat.S_ISREG(looked.st_mode) and looked.st_size <= LARGEST:
                return os.read(descriptor, LARGEST)
        finally:
            os.close(descriptor)
    return None


class DocumentsAhead:
    """The documents that another process reads ahead.

    Args:
        answers: What it sends.

    """

    def __init__(self, answers: Answers) -> None:
        self._batches: Iterator[list[Document]] = answers.next()
        self._held: dict[str, bytes] = {}
        self._ended = False

    def take(self, digest: str) -> bytes | None:
        """Return a document, once; None where it is not read ahead. Raises `relay.Ended`."""
        while digest not in self._held and not self._ended:
            batch = next(self._batches, None)
            self._held.update(batch or ())
            self._ended = batch is None or len(self._held) > MOST
        return self._held.pop(digest, None)
