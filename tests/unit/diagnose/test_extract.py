"""What is taken for a digest, a part of one, and an image's name; and what is not."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.diagnose.extract import KEPT, READ, asked, mentions, search

A, B = f"sha256:{'a1' * 32}", f"sha256:{'b2' * 32}"
FILE = f"/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/{'a1' * 32}"


@pytest.mark.parametrize(
    "text",
    [
        f"blob expected at {FILE}: blob not found",
        "label containerd.io/distribution.source.registry.corp=team/app",
        "github.com/containerd/containerd/v2/cmd/containerd/server.New()",
        "stat /run/containerd/io.containerd.runtime.v2.task/k8s.io/x: no such file",
        "failed to copy: application/vnd.oci.image.layer.v1.tar+gzip",
        "dial unix:///run/containerd/containerd.sock: timeout",
        "cri/image_pull.go:123] something",
        f'extract-849194656-B-9G {A}" to overlayfs',
        "https://www.docker.com/increase-rate-limit",
        "elapsed: 0.1 s total: 0.0 B (0.0 B/s)",
    ],
)
def test_paths_labels_and_packages_are_no_images(text: str) -> None:
    assert mentions(text).names == ()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('failed to pull and unpack image "docker.io/library/x:1": failed', "docker.io/library/x:1"),
        (r"err=\"failed to pull image \\\"nginx:1.99\\\": not found\"", "nginx:1.99"),
        ("ctr: failed to resolve image: 10.0.0.1:5000/lab/x:nosuch: not found", "10.0.0.1:5000/lab/x:nosuch"),
        ("Error response from daemon: manifest for nginx:nope not found", "nginx:nope"),
        ("Error: No such image: team/app:2", "team/app:2"),
        ("unexpected status from HEAD request to http://r.corp/v2/team/app/manifests/1: 500", "r.corp/team/app:1"),
        (f"ghcr.io/x/y@{A}: resolved", f"ghcr.io/x/y@{A}"),
        ("localhost/mine:latest is broken.", "localhost/mine:latest"),
        ("see registry:5000/a/b:c.", "registry:5000/a/b:c"),
        ('ctr: apply layer error for "r.corp/x:1": failed to extract', "r.corp/x:1"),
    ],
)  # fmt: skip
def test_names_of_images(text: str, name: str) -> None:
    assert mentions(text).names[0] == name


def test_a_digest_that_was_computed_of_wrong_bytes_is_nobodys() -> None:
    found = mentions(f'failed commit on ref "layer-{A}": unexpected commit digest {B}, expected {A}')
    assert (found.digests, found.computed) == ((A,), (B,))
    assert mentions(f"ctr: unexpected digest {B} copied").computed == (B,)
    assert mentions(f'wrong diff id calculated on extraction "{B}"').computed == (B,)
    newer = mentions(f'wrong diff id "{B}" calculated on extraction "{A}", desc "{A}"')
    assert (newer.digests, newer.computed) == ((A,), (B,))


def test_a_digest_in_a_path() -> None:
    assert mentions(f"{FILE}: no").digests == (A,)
    assert mentions(f'failed to ingest "blobs/sha256/{"b2" * 32}": x').digests == (B,)


@pytest.mark.parametrize(
    ("word", "prefix"),
    [("a1a1a1", "a1a1a1"), ("sha256:a1a1", "a1a1"), ("SHA256:A1".lower(), ""), ("a1a1a1a1a1a1…", "a1a1a1a1a1a1")],
)
def test_a_word_of_hex_is_the_beginning_of_a_digest(word: str, prefix: str) -> None:
    assert asked(word).prefixes == ((prefix,) if prefix else ())


def test_a_whole_digest_without_its_algorithm() -> None:
    assert asked("a1" * 32).digests == (A,)


def test_a_word_is_a_name_and_a_sentence_a_message() -> None:
    assert asked("nginx").names == ("nginx",)
    assert asked("nginx is broken").names == ()
    assert asked(f"docker.io/x/y@{A}").names == (f"docker.io/x/y@{A}",)


def test_an_id_of_a_container_is_a_guess_and_a_counter_none() -> None:
    found = mentions('failed to start sandbox "6a37ff9b916561e21557c3f39e5b7b2c": 20260101 12345678')
    assert found.guesses == ("6a37ff9b916561e21557c3f39e5b7b2c",)
    assert found.prefixes == ()


def test_of_several_lines_the_telling_one_leads() -> None:
    progress = "\n".join(f"layer-{B}:    done |\x1b[32m++++\x1b[0m|" for _ in range(9))
    text = f"$ ctr images export x.tar docker.io/library/x:1\n{progress}\nctr: content digest {A}: not found\n"
    found = asked(text)
    assert found.line == f"ctr: content digest {A}: not found"
    assert (found.digests, found.names) == ((A,), ("docker.io/library/x:1",))
    assert found.lines == 11


def test_a_log_leads_with_what_is_there_most_often() -> None:
    line = b'x kubelet: failed to resolve reference "r.corp/x:1": r.corp/x:1: not found\n'
    found = search(
        [b"noise\n" * 100, line * 3, f"content digest {A}: not found\n".encode() * 2, b"unexpected EOF\n" * 9]
    )
    assert [known.id for known in found.known] == ["not-in-registry", "missing-blob", "unexpected-end"]
    assert found.seen == {"not-in-registry": 3, "missing-blob": 2, "unexpected-end": 9}
    assert found.names[0] == "r.corp/x:1"
    assert found.lines == 114


def test_lines_that_are_cut_between_chunks() -> None:
    data = f"one\nctr: content digest {A}: not found\nthree\n".encode()
    for at in range(len(data)):
        found = search([data[:at], data[at:]])
        assert (found.digests, found.lines) == ((A,), 3), at


LINE = f'2026-01-01T00:00:00Z node kubelet[7]: E0101 err="content digest {A}: not found" pod="default/web"\n'.encode()
QUIET = b"2026-01-01T00:00:00Z node kubelet[7]: I0101 all is well here, nothing to see, move along please\n"


def log(megabytes: int) -> Iterator[bytes]:
    """A log of many quiet lines and some that tell."""
    chunk = (QUIET * 40 + LINE) * ((1 << 20) // (len(QUIET) * 40 + len(LINE)))
    yield from (chunk for _ in range(megabytes))


@pytest.mark.slow
def test_a_log_of_many_megabytes() -> None:
    found = search(log(20))
    assert found.digests == (A,)
    assert found.seen["missing-blob"] == 20 * ((1 << 20) // (len(QUIET) * 40 + len(LINE))) > READ


@pytest.mark.slow
def test_memory_does_not_grow_with_the_log() -> None:
    def peak(megabytes: int) -> int:
        tracemalloc.start()
        try:
            search(log(megabytes))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(4) < peak(1) + (1 << 20)


def test_a_line_without_an_end() -> None:
    chunks = [b"x" * (1 << 20)] * 20
    found = search([*chunks, f" content digest {A}: not found".encode()])
    assert found.lines == 1
    assert len(found.line) <= 16_384


def test_no_more_is_kept_than_anybody_reads() -> None:
    text = " ".join(f"sha256:{number:064x}" for number in range(100))
    assert len(mentions(text).digests) == KEPT


@given(st.text(max_size=400))
def test_any_text_is_taken(text: str) -> None:
    found = asked(text)
    assert len(found.digests) <= KEPT


@given(st.binary(max_size=4000))
def test_any_bytes_are_taken(data: bytes) -> None:
    search([data])


@pytest.mark.parametrize(
    "word", ["failed to extract layer sha256:", "dial unix ", 'meta.db "', "missing parent ", "a.b/"]
)
def test_a_long_text_of_one_word_is_read_in_linear_time(word: str) -> None:
    def seconds(size: int) -> float:
        begun = time.process_time()
        mentions(word * (size // len(word)))
        return time.process_time() - begun

    assert seconds(64_000) < 40 * seconds(8_000) + 0.5
