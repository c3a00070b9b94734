"""Map gRPC status codes and containerd's error texts to the errors of auditor/errors.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from auditor.containerd.grpc_import import grpc
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

#: containerd plugins/content/local/store.go, `ReaderAt` and `OpenReader`; the database's error has neither phrase.
_NO_FILE = r"expected at .*: blob not found|blob not found"
#: containerd plugins/content/local/locks.go; 1.6 writes "ref … locked for", older ones "ref … locked".
_LOCKED = r"(?s)\bref .* locked\b"
#: grpc's text, with code UNKNOWN, for a connection lost during a stream.
_CUT = r"(?i)\bstream removed\b"
#: Start of grpc's text for a failed connection; a list of addresses follows.
_REFUSED = "failed to connect to all addresses"

_SLOW = "the daemon may hang, or its disk be overloaded; a longer --timeout gives it more time"
_GONE = "is containerd running? systemctl status containerd"

_TABLE: dict[grpc.StatusCode, tuple[type[AuditorError], str]] = {
    _Code.NOT_FOUND: (NoRecord, ""),
    _Code.ALREADY_EXISTS: (AlreadyThere, ""),
    _Code.FAILED_PRECONDITION: (Conflict, ""),
    _Code.OUT_OF_RANGE: (Conflict, ""),
    _Code.UNIMPLEMENTED: (Unsupported, "this containerd does not implement the call, by its version or its plugins"),
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
    """Translate each grpc.RpcError of a block; keep it open while a stream is read.

    Args:
        doing: Completes the sentence "cannot …".
        otherwise: Error class for codes without a meaning of their own (UNKNOWN, INTERNAL, DATA_LOSS…).

    Raises:
        AuditorError: As `translation` returns.

    """
    try:
        yield
    except grpc.RpcError as error:
        raise translation(_code(error), _words(error), doing, otherwise=otherwise) from error


def translation(
    code: grpc.StatusCode, words: str, doing: str, *, otherwise: type[AuditorError] = StoreError
) -> AuditorError:
    """Return the error for a status.

    Args:
        code: The status code.
        words: The status message.
        doing: Completes the sentence "cannot …".
        otherwise: Error class for codes that are not in the table.

    Returns:
        NoRecord, NoFile, AlreadyThere, Conflict, Busy, Unsupported, StoreUnreachable, StoreTimeout, StoreError or
        `otherwise`.

    """
    kind, hint = _TABLE.get(code, (otherwise, ""))
    if code is _Code.NOT_FOUND and re.search(_NO_FILE, words):
        kind, hint = NoFile, "the database has a record of the blob, the disk has no file"
    elif code is _Code.UNAVAILABLE and re.search(_LOCKED, words):
        kind, hint = Busy, "another client is writing to the same reference; try again when it has finished"
    elif code is _Code.UNKNOWN and re.search(_CUT, words):
        kind, hint = StoreUnreachable, _GONE
    return kind(f"cannot {doing}: {_plain(code, words)}", hint=hint)


def _plain(code: grpc.StatusCode, words: str) -> str:
    """Return the daemon's message; messages of the gRPC library are replaced."""
    if code is _Code.DEADLINE_EXCEEDED:
        return "no answer in time"
    if words.startswith(_REFUSED):
        return "the connection to the daemon was refused"
    return words or code.name.lower().replace("_", " ")


def _code(error: grpc.RpcError) -> grpc.StatusCode:
    code = error.code() if isinstance(error, grpc.Call) else None
    return code if isinstance(code, grpc.StatusCode) else _Code.UNKNOWN


def _words(error: grpc.RpcError) -> str:
    details = error.details() if isinstance(error, grpc.Call) else str(error)
    return (details or "").strip()
