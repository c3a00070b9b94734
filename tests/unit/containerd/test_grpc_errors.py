from __future__ import annotations

import grpc
import pytest

from auditor.containerd.grpc_errors import translated, translation
from auditor.errors import (
    AlreadyThere,
    AuditorError,
    Busy,
    Conflict,
    NoFile,
    NoRecord,
    ReadFailed,
    StoreError,
    StoreTimeout,
    StoreUnreachable,
    Unsupported,
)

DIGEST = "sha256:" + "a" * 64
CODE = grpc.StatusCode

# The words are those of containerd 1.6, 1.7 and 2.1.
TABLE: list[tuple[grpc.StatusCode, str, type[AuditorError]]] = [
    (CODE.NOT_FOUND, f"content digest {DIGEST}: not found", NoRecord),
    (CODE.NOT_FOUND, f"blob {DIGEST} expected at /x/blobs/sha256/aa: blob not found: not found", NoFile),
    (CODE.NOT_FOUND, 'lease "x": not found', NoRecord),
    (CODE.UNAVAILABLE, "ref k8s.io/1/busy locked for 402.557042ms (since 2026-11-23 …): unavailable", Busy),
    (CODE.UNAVAILABLE, "ref k8s.io/1/busy locked: unavailable", Busy),
    (CODE.UNAVAILABLE, "Socket closed", StoreUnreachable),
    (CODE.UNAVAILABLE, "failed to connect to all addresses; last error: …", StoreUnreachable),
    (CODE.UNKNOWN, "Stream removed", StoreUnreachable),
    (CODE.UNIMPLEMENTED, "unknown service containerd.services.transfer.v1.Transfer", Unsupported),
    (CODE.ALREADY_EXISTS, f"content {DIGEST}: already exists", AlreadyThere),
    (CODE.FAILED_PRECONDITION, "unexpected commit digest", Conflict),
    (CODE.OUT_OF_RANGE, "read past object length 3 bytes", Conflict),
    (CODE.DEADLINE_EXCEEDED, "Deadline Exceeded", StoreTimeout),
    (CODE.PERMISSION_DENIED, "", StoreUnreachable),
    (CODE.UNAUTHENTICATED, "", StoreUnreachable),
    (CODE.RESOURCE_EXHAUSTED, "trying to send message larger than max (17 vs. 16)", StoreError),
    (CODE.UNKNOWN, "read /x: input/output error", ReadFailed),
    (CODE.INTERNAL, "", ReadFailed),
    (CODE.DATA_LOSS, "", ReadFailed),
]


@pytest.mark.parametrize(("code", "words", "kind"), TABLE)
def test_each_status_becomes_one_error(code: grpc.StatusCode, words: str, kind: type[AuditorError]) -> None:
    assert type(translation(code, words, "read it", otherwise=ReadFailed)) is kind


def test_the_systems_words_are_kept() -> None:
    error = translation(CODE.UNKNOWN, "read /x: input/output error", "read it", otherwise=ReadFailed)
    assert error.message == "cannot read it: read /x: input/output error"


def test_a_status_without_words_is_named() -> None:
    assert translation(CODE.DATA_LOSS, "", "read it").message == "cannot read it: data loss"


def test_grpcs_own_words_are_not_shown() -> None:
    refused = translation(CODE.UNAVAILABLE, "failed to connect to all addresses; last error: X: unix:/y", "list")
    assert refused.message == "cannot list: the connection to the daemon was refused"
    assert translation(CODE.DEADLINE_EXCEEDED, "Deadline Exceeded", "list").message == "cannot list: no answer in time"


@pytest.mark.parametrize("code", [c for c in CODE if c is not CODE.OK])
def test_every_code_has_an_error_of_ours(code: grpc.StatusCode) -> None:
    assert isinstance(translation(code, "words", "do it"), AuditorError)


def test_what_would_end_a_run_has_advice() -> None:
    ending = [translation(code, words, "do it") for code, words, kind in TABLE if issubclass(kind, StoreError)]
    assert ending
    assert all(error.hint for error in ending)


def test_an_error_without_a_status_is_translated_too() -> None:
    with pytest.raises(ReadFailed, match="cannot read it: odd"), translated("read it", otherwise=ReadFailed):
        raise grpc.RpcError("odd")


def test_other_exceptions_pass() -> None:
    with pytest.raises(KeyError), translated("read it"):
        raise KeyError
