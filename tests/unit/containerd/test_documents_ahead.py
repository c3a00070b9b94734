"""Documents are read ahead by labels, level by level; what is odd is left to who reads documents by itself."""

from __future__ import annotations

import io
import itertools
import os
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from auditor.containerd import documents_ahead, relay
from auditor.containerd.documents_ahead import BATCH, LARGEST, MOST, DocumentsAhead, read_ahead
from auditor.model.digest import Digest

CONTENT = "containerd.io/gc.ref.content."


class Root:
    """A content root, and the labels of its blobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.labels: dict[str, dict[str, str]] = {}
        (folder / "blobs" / "sha256").mkdir(parents=True)

    def add(self, data: bytes, **children: str) -> Digest:
        digest = Digest.of(data)
        self.path(digest).write_bytes(data)
        self.labels[digest] = {f"{CONTENT}{key.replace('_', '.')}": child for key, child in children.items()}
        return digest

    def path(self, digest: Digest) -> Path:
        return self.folder / "blobs" / "sha256" / digest.hex

    def read(self, *targets: str) -> list[list[str]]:
        """The digests that are read ahead, in batches; their content is that of the files."""
        found = list(read_ahead(str(self.folder), targets, self.labels))
        assert all(Digest.of(data) == digest for batch in found for digest, data in batch)
        return [[digest for digest, _ in batch] for batch in found]


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(tmp_path)


def test_documents_come_level_by_level_and_once(root: Root) -> None:
    layer = root.add(b"layer")
    configs = [root.add(b"config 0"), root.add(b"config 1")]
    manifests = [root.add(b"manifest %d" % n, config=configs[n], l_0=layer) for n in range(2)]
    index = root.add(b"index", m_0=manifests[0], m_1=manifests[1])
    assert root.read(index, manifests[1], index) == [[index, manifests[1]], [manifests[0], configs[1]], [configs[0]]]


def test_labels_that_lead_in_a_circle_end(root: Root) -> None:
    one, two = root.add(b"one"), root.add(b"two")
    root.labels[one] = {f"{CONTENT}m.0": two}
    root.labels[two] = {f"{CONTENT}m.0": one, f"{CONTENT}m.1": two}
    assert root.read(one) == [[one], [two]]


def test_what_has_no_record_is_not_followed(root: Root) -> None:
    stranger = root.add(b"stranger")
    del root.labels[stranger]
    assert root.read(root.add(b"index", m_0=stranger)) == [[Digest.of(b"index")]]


@pytest.mark.parametrize("kind", ["absent", "large", "fifo", "folder", "link"])
def test_other_files_than_small_regular_ones_are_left_out(root: Root, kind: str) -> None:
    below = root.add(b"below")
    odd = root.add(b"odd", m_0=below)
    path = root.path(odd)
    path.unlink()
    match kind:
        case "large":
            path.write_bytes(bytes(LARGEST + 1))
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "link":
            path.symlink_to(root.path(below))
        case _:
            pass
    assert root.read(odd) == [[], [below]]


def test_the_largest_document_is_read_whole(root: Root) -> None:
    assert root.read(largest := root.add(bytes(LARGEST))) == [[largest]]


@pytest.mark.parametrize("text", ["", "sha256:zz", "../../etc/passwd", "sha256:../../../x", f"sha512:{'0' * 128}"])
def test_texts_that_are_no_digests_are_no_paths(root: Root, text: str) -> None:
    (root.folder / "x").write_bytes(b"secret")
    assert root.read(text) == [[]]


def test_a_root_out_of_sight_has_no_documents(tmp_path: Path) -> None:
    assert list(read_ahead(str(tmp_path / "away"), [Digest.of(b"")], {})) == []
    (tmp_path / "blobs").mkdir()
    os.mkfifo(tmp_path / "blobs" / "sha256")
    assert list(read_ahead(str(tmp_path), [Digest.of(b"")], {})) == []


def test_no_descriptor_is_left(root: Root) -> None:
    targets = [root.add(b"%d" % number) for number in range(2 * BATCH)]
    before = len(list(Path("/proc/self/fd").iterdir()))
    root.read(*targets)
    next(read_ahead(str(root.folder), targets, root.labels))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    ("each", "batches"), [(0, 3), (documents_ahead._BLOCKING, 3), (documents_ahead._BLOCKING + 1, 1)]
)
def test_only_what_a_batch_waits_for_counts(
    root: Root, monkeypatch: pytest.MonkeyPatch, each: int, batches: int
) -> None:
    targets = [root.add(b"%d" % number) for number in range(3 * BATCH)]
    waits = itertools.count(1000)
    # Read before and after each batch.
    counts = (value for number in waits for value in (number * 1000, number * 1000 + each))
    monkeypatch.setattr(documents_ahead, "times_blocked", lambda: next(counts))
    assert len(root.read(*targets)) == batches


def test_reading_ends_where_it_blocks(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    targets = [root.add(b"%d" % number) for number in range(3 * BATCH)]
    read = documents_ahead._read

    def slow(folder: int, digest: str) -> bytes | None:
        time.sleep(1e-6)
        return read(folder, digest)

    assert root.read(*targets) == [targets[n : n + BATCH] for n in range(0, 3 * BATCH, BATCH)]
    monkeypatch.setattr(documents_ahead, "_read", slow)
    assert root.read(*targets) == [targets[:BATCH]]


# Taking them


def ahead(*batches: Iterable[tuple[str, bytes]]) -> DocumentsAhead:
    file = io.BytesIO()
    relay.send_answer(file, lambda: map(list, batches))
    file.seek(0)
    return DocumentsAhead(relay.Answers(file))


def test_a_document_is_taken_once_in_any_order() -> None:
    documents = ahead([("a", b"1"), ("b", b"2")], [], [("c", b"3")])
    assert [documents.take(name) for name in "cabcad"] == [b"3", b"1", b"2", None, None, None]


def test_documents_that_nobody_takes_do_not_pile_up() -> None:
    batches = [[(f"{batch}/{number}", b"") for number in range(BATCH)] for batch in range(2 * MOST // BATCH)]
    documents = ahead(*batches)
    assert documents.take("none") is None
    assert len(documents._held) <= MOST + BATCH
    assert documents.take(f"{len(batches) - 1}/0") is None
    assert documents.take("0/0") == b""


def test_an_end_too_early_is_raised() -> None:
    file = io.BytesIO()
    relay.send_answer(file, lambda: [[("a", b"1")]])
    documents = DocumentsAhead(relay.Answers(io.BytesIO(file.getvalue()[:-1])))
    assert documents.take("a") == b"1"
    with pytest.raises(relay.Ended):
        documents.take("b")
