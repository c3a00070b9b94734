"""Digests: what passes for one, and measuring a stream."""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditor.errors import InvalidDigest
from auditor.model.digest import EMPTY, HEX_LENGTH, Digest, Meter, measure

HEX = "9f" * 32
ALMOST = st.one_of(
    st.text(),
    st.text(alphabet="0123456789abcdefABCDEF:/.\\\0\n sha512", max_size=200),
    st.from_regex(r"(sha256|sha384|sha512|md5|SHA256):[0-9a-fA-F./]{0,130}\n?"),
    st.builds(lambda a, h: f"{a}:{h}", st.sampled_from(sorted(HEX_LENGTH)), st.text(alphabet="0123456789abcdef")),
)


@given(ALMOST)
@example(f"sha256:{HEX}")
@example(f"sha256:{HEX}\n")
@example("sha256:../../../etc/passwd")
@example(f"sha256:{'٣' * 64}")
@example("sha256:" + "\ud800" * 64)
@example(f"sha256:{HEX}/../../x")
def test_whatever_passes_is_a_name_that_stays_below_blobs(text: str) -> None:
    try:
        digest = Digest.parse(text)
    except InvalidDigest as error:
        message, hint = error.message, error.hint
    else:
        check_path(text, digest)
        return
    assert len(message) < 1500
    assert hint


def check_path(text: str, digest: Digest) -> None:
    assert digest == text
    assert re.fullmatch(r"(sha256|sha384|sha512):[0-9a-f]+", text, re.ASCII)
    assert len(digest.hex) == HEX_LENGTH[digest.algorithm]
    path = PurePosixPath("blobs") / digest.algorithm / digest.hex
    assert path.parts == ("blobs", digest.algorithm, digest.hex)


@pytest.mark.parametrize("algorithm", sorted(HEX_LENGTH))
def test_each_known_algorithm_round_trips(algorithm: str) -> None:
    digest = Digest.of(b"layer", algorithm=algorithm)
    assert Digest.parse(str(digest)) == digest
    assert digest.hex == hashlib.new(algorithm, b"layer").hexdigest()
    assert digest.short == f"{algorithm}:{digest.hex[:12]}"
    assert (digest.is_of(b"layer"), digest.is_of(b"layers")) == (True, False)


@pytest.mark.parametrize(
    "text", ["", ":", "sha256", "sha256:", f"sha256:{HEX}0", f"sha256:{HEX[1:]}", f"sha256:{HEX.upper()}", f"md5:{HEX}"]
)
def test_near_misses_are_refused(text: str) -> None:
    with pytest.raises(InvalidDigest):
        Digest.parse(text)


@given(st.lists(st.binary(max_size=50)), st.sampled_from(sorted(HEX_LENGTH)))
def test_a_stream_measures_as_its_bytes_do_however_it_is_cut(chunks: list[bytes], algorithm: str) -> None:
    heard: list[int] = []
    found = measure(chunks, algorithm=algorithm, on_bytes=heard.append)
    whole = b"".join(chunks)
    assert found.digest == Digest.of(whole, algorithm=algorithm)
    assert found.size == len(whole) == sum(heard)
    assert found.matches(found.digest, found.size)
    assert not found.matches(found.digest, found.size + 1)
    assert not found.matches(Digest.of(whole + b"x", algorithm=algorithm))


def test_a_meter_can_be_asked_in_the_middle() -> None:
    meter = Meter()
    assert meter.result().digest == EMPTY
    meter.update(memoryview(b"ab"))
    assert meter.result().digest == Digest.of(b"ab")
    meter.update(bytearray(b"c"))
    assert (meter.result().digest, meter.result().size) == (Digest.of(b"abc"), 3)
