"""Where documents are read: in this thread as long as the files are cached, in parallel where reads block."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from auditor.audit.document_loader import load_documents
from auditor.model.digest import Digest
from auditor.model.image_graph import Group
from auditor.model.oci import OCI_INDEX, Descriptor
from tests.unit.fakes import INFO, MemoryStore

#: Two batches and a part of one.
DOCUMENTS = 150


def at_once() -> None:
    """Read from the page cache."""


def blocking() -> None:
    """Read from a disk: the thread waits in the kernel."""
    time.sleep(1e-6)


class WatchedStore(MemoryStore):
    """Counts the documents that the main thread reads."""

    def __init__(self, wait: Callable[[], None], *, content_root: Path | None) -> None:
        super().__init__(info=msgspec.structs.replace(INFO, content_root=content_root))
        self._wait = wait
        self.by_main_thread = 0

    def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
        self.by_main_thread += threading.current_thread() is threading.main_thread()
        self._wait()
        return super().read(namespace, digest, limit=limit)


@pytest.mark.parametrize(
    ("wait", "content_root", "by_main_thread"),
    [(at_once, Path("/root"), DOCUMENTS), (blocking, Path("/root"), 64), (at_once, None, 0)],
    ids=["cached files", "files on a disk", "no files are visible"],
)
def test_reads_that_block_run_in_the_pool(
    wait: Callable[[], None], content_root: Path | None, by_main_thread: int
) -> None:
    store = WatchedStore(wait, content_root=content_root)
    texts = [f'{{"manifests": [], "annotations": {{"n": "{n}"}}}}'.encode() for n in range(DOCUMENTS)]
    groups = [Group("default", ("i",), Descriptor(OCI_INDEX, store.add(text), len(text))) for text in texts]
    read = load_documents(store, [store.inventory("default")], groups, known={}, jobs=2, on_progress=lambda *_: None)
    assert (read, store.by_main_thread) == (sum(map(len, texts)), by_main_thread)
