"""The exceptions of the program. Each has a message of one sentence, and a hint.

AuditorError                    the root; caught once, in cli.app
├── UsageError                  the command line is not valid (exit 2)
├── OutputError                 a report or an archive could not be written (exit 3)
├── ExportRefused               content of an export is missing or damaged; nothing was written (exit 1)
├── NothingExamined             no image or blob matched the selection (exit 3)
├── StateError                  the state file of `scrub` is in use or cannot be used (exit 3)
├── InvalidDigest               a text that is not `algorithm:hex`
├── MalformedDocument           bytes that are not the OCI or Docker document they should be
│   └── DocumentTooLarge
├── StoreError                  the store as a whole cannot be audited (exit 3)
│   ├── StoreUnreachable        no daemon, no permission, or not containerd
│   ├── StoreTimeout            a call did not end in time
│   └── Unsupported             the daemon lacks the call
├── ObjectError                 a call about one object failed; callers record it as an outcome
│   ├── NoRecord                the database has no record of the object in this namespace
│   ├── NoFile                  the blob has a record and no file
│   ├── ReadFailed              the content could not be read; it may be intact or damaged
│   ├── AlreadyThere            the target of a write exists; its content is not verified by that
│   ├── Conflict                a precondition failed: wrong size or digest at commit
│   └── Busy                    another client holds the ingest; can be retried
└── SourceError                 a source cannot provide content
    ├── NotOffered              the source does not have the digest
    ├── AccessDenied            the source requires other credentials
    └── BadBytes                the content from the source does not match the digest
"""

from __future__ import annotations


class AuditorError(Exception):
    """Base of all exceptions of the program.

    Attributes:
        message: What failed, in one sentence; also `str()` of the exception.
        hint: A remedy; may be empty.

    """

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(AuditorError):
    """The command line is not valid."""


class OutputError(AuditorError):
    """An output file could not be written; no partial file remains."""


class ExportRefused(AuditorError):
    """Content of an export is missing or does not match its digest; no archive was written."""


class NothingExamined(AuditorError):
    """The selection matched no image or blob, so there is no verdict."""


class StateError(AuditorError):
    """The state file is locked by another run, or cannot be written."""


class InvalidDigest(AuditorError):
    """Text that is not `algorithm:hex` with a known algorithm."""


class MalformedDocument(AuditorError):
    """Content that is not a valid OCI or Docker document, or exceeds a limit."""


class DocumentTooLarge(MalformedDocument):
    """Content that is larger than the documents that are read; containerd has no such limit."""


class StoreError(AuditorError):
    """The store as a whole cannot be audited."""


class StoreUnreachable(StoreError):
    """Nothing responds at the address, opening it is not permitted, or it is not containerd."""


class StoreTimeout(StoreError):
    """A call to the store did not end within its deadline."""


class Unsupported(StoreError):
    """The daemon lacks the call; older releases lack some."""


class EventsLost(AuditorError):
    """Events of the store were dropped; the store has to be listed."""


class ObjectError(AuditorError):
    """A call about one object failed; the store itself works."""


class NoRecord(ObjectError):
    """No record of the object in this namespace."""


class NoFile(ObjectError):
    """The blob has a record and no file."""


class ReadFailed(ObjectError):
    """Reading failed, so the content is neither verified nor known to be damaged."""


class AlreadyThere(ObjectError):
    """The target of a write exists already."""


class Conflict(ObjectError):
    """The store refused a commit: size, digest or offset do not match."""


class Busy(ObjectError):
    """Another client is writing to the same reference."""


class SourceError(AuditorError):
    """A source cannot provide content."""


class NotOffered(SourceError):
    """The source is reachable and does not have the digest."""


class AccessDenied(SourceError):
    """The source denies access, with or without credentials."""


class BadBytes(SourceError):
    """The content from the source does not match the digest."""
