"""gRPC's status codes and containerd's words in, our errors out: one table, one context manager round each call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import grpc

from auditor.errors import (
    AlreadyThere,
    AuditorError,
    Busy,
    Conflict,
    NoFile,
    NoRecord,
    StoreError,
    StoreTimeout,
    StoreUnreachable,
    Unsupported,
)

_Code = grpc.StatusCode

#: containerd plugins/content/local/store.go, `ReaderAt` and `OpenReader`; the database's own text has neither phrase.
_NO_FILE = re.compile(r"expected at .*: blob not found|blob not found")
#: containerd plugins/content/local/locks.go; 1.6 writes "ref … locked for", older ones "ref … locked".
_LOCKED = re.compile(r"\bref .* locked\b", re.DOTALL)
#: What grpc says, under UNKNOWN, of a connection that went away while a stream was open.
_CUT = re.compile(r"\bstream removed\b", re.IGNORECASE)
#: What grpc says when it cannot connect, before a page of addresses.
_REFUSED = re.compile(r"failed to connect to all addresses")

_SLOW = "the daemon may hang, or its disk be overloaded; a longer --timeout gives it more time"
_GONE = "is containerd running? systemctl status containerd"

_TABLE: dict[grpc.StatusCode, tuple[type[AuditorError], str]] = {
    _Code.NOT_FOUND: (NoRecord, ""),
    _Code.ALREADY_EXISTS: (AlreadyThere, ""),
    _Code.FAILED_PRECONDITION: (Conflict, ""),
    _Code.OUT_OF_RANGE: (Conflict, ""),
    _Code.UNIMPLEMENTED: (Unsupported, "this containerd does not offer the call; its version or its plugins lack it"),
    _Code.UNAVAILABLE: (StoreUnreachable, _GONE),
    _Code.DEADLINE_EXCEEDED: (StoreTimeout, _SLOW),
    _Code.PERMISSION_DENIED: (StoreUnreachable, "run as root, or as a user whom the daemon trusts"),
    _Code.UNAUTHENTICATED: (StoreUnreachable, "run as root, or as a user whom the daemon trusts"),
    _Code.RESOURCE_EXHAUSTED: (
        StoreError,
        "an answer may be larger than containerd sends: raise max_send_message_size in the [grpc] part of its config",
    ),
}


@contextmanager
def translated(doing: str, *, otherwise: type[AuditorError] = StoreError) -> Iterator[None]:
    """Turn each grpc.RpcError of the block into an error of ours; stays open while a stream is read.

    `doing` completes the sentence "cannot …". `otherwise` is for codes that say nothing by themselves (UNKNOWN,
    INTERNAL, DATA_LOSS…): the system's words follow. Raises NoRecord, NoFile, AlreadyThere, Conflict, Busy,
    Unsupported, StoreUnreachable, StoreTimeout, StoreError or `otherwise`.
    """
    try:
        yield
    except grpc.RpcError as error:
        raise translation(_code(error), _words(error), doing, otherwise=otherwise) from error


def translation(
    code: grpc.StatusCode, words: str, doing: str, *, otherwise: type[AuditorError] = StoreError
) -> AuditorError:
    """The error for one status: the table above, and what only the words tell apart."""
    kind, hint = _TABLE.get(code, (otherwise, ""))
    if code is _Code.NOT_FOUND and _NO_FILE.search(words):
        kind, hint = NoFile, "the database has the blob, the disk has not"
    elif code is _Code.UNAVAILABLE and _LOCKED.search(words):
        kind, hint = Busy, "another client is writing to the same reference; try again when it has finished"
    elif code is _Code.UNKNOWN and _CUT.search(words):
        kind, hint = StoreUnreachable, _GONE
    return kind(f"cannot {doing}: {_plain(code, words)}", hint=hint)


def _plain(code: grpc.StatusCode, words: str) -> str:
    """The daemon's words as they are; gRPC's own, which name its machinery, in ours."""
    if code is _Code.DEADLINE_EXCEEDED:
        return "no answer in time"
    if _REFUSED.match(words):
        return "the daemon does not answer any more"
    return words or code.name.lower().replace("_", " ")


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    code = error.code() if isinstance(error, grpc.Call) else None
    return code if isinstance(code, grpc.StatusCode) else _Code.UNKNOWN


def _words(error: grpc.RpcError) -> str:
    details = error.details() if isinstance(error, grpc.Call) else str(error)
    return (details or "").strip()
