"""Everything that can end a run or an action, as one tree; each error is a sentence and a hint.

AuditorError                    the root: what the command line catches, once
├── UsageError                  the user asked for something that cannot be meant (exit 2)
├── OutputError                 a report or an archive could not be written where it was asked for (exit 3)
├── ExportRefused               something that an archive needs is missing or wrong, so none is written (exit 1)
├── NothingExamined             a name or a namespace matched nothing; not the same as sound (exit 3)
├── StateError                  the state file of `scrub` is in use or cannot be used (exit 3)
├── InvalidDigest               a text that is not `algorithm:hex`
├── MalformedDocument           bytes that are not the OCI or Docker document they should be
├── StoreError                  the store as a whole cannot be audited (exit 3)
│   ├── StoreUnreachable        no daemon, not ours to open, or not containerd
│   ├── StoreTimeout            a call did not end in time
│   └── Unsupported             this daemon has no such call
├── ObjectError                 one object of the store; the caller turns it into an outcome
│   ├── NoRecord                the database has no such object in this namespace
│   ├── NoFile                  the database has the blob, the disk has not
│   ├── ReadFailed              the bytes could not be read; says nothing about them
│   ├── AlreadyThere            a write found its target in place; proves nothing about its bytes
│   ├── Conflict                a precondition failed: wrong size or digest at commit
│   └── Busy                    somebody else holds the ingest; worth another try
└── SourceError                 a source of good bytes cannot give them
    ├── NotOffered              it is reachable, and does not have this digest
    ├── AccessDenied            it wants credentials that we do not have
    └── BadBytes                it answered with other bytes than the digest names
"""

from __future__ import annotations


class AuditorError(Exception):
    """What went wrong as one sentence in `message`, what to do about it in `hint` (may be empty).

    `str()` gives the sentence alone.
    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(AuditorError):
    """The command line asks for something that cannot be meant."""


class OutputError(AuditorError):
    """A file that was asked for could not be written; nothing is left half-written."""


class ExportRefused(AuditorError):
    """What an archive needs is missing or not what its digest says; there is no archive."""


class NothingExamined(AuditorError):
    """The selection matched nothing: neither sound nor damaged."""


class StateError(AuditorError):
    """The state file is held by another run or lies where we cannot write."""


class InvalidDigest(AuditorError):
    """A text that does not have the form `algorithm:hex` of a known algorithm."""


class MalformedDocument(AuditorError):
    """Bytes that are no OCI or Docker document, or one beyond the limits."""


class StoreError(AuditorError):
    """The store as a whole cannot be audited."""


class StoreUnreachable(StoreError):
    """Nothing answers at the address, we may not open it, or it is not containerd."""


class StoreTimeout(StoreError):
    """A call to the store did not end within its deadline."""


class Unsupported(StoreError):
    """The store has no such call; older daemons lack some."""


class ObjectError(AuditorError):
    """Something is wrong with one object; the store itself answers."""


class NoRecord(ObjectError):
    """No record of the object in this namespace."""


class NoFile(ObjectError):
    """The blob has a record, and its file is not there."""


class ReadFailed(ObjectError):
    """Reading failed: an outcome of its own, neither sound nor corrupt."""


class AlreadyThere(ObjectError):
    """The target of a write exists already."""


class Conflict(ObjectError):
    """The store refused a commit: the size, the digest or the offset is not what was said."""


class Busy(ObjectError):
    """Another client is writing to the same reference."""


class SourceError(AuditorError):
    """A source of bytes cannot give what was asked for."""


class NotOffered(SourceError):
    """The source is there and does not hold the digest."""


class AccessDenied(SourceError):
    """The source refuses us, with or without credentials."""


class BadBytes(SourceError):
    """The source sent bytes that are not what the digest names."""
