"""A rule's code, severity and advice, and the hits of rules becoming findings, one for each cause."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from auditor.checks.evidence import ref_order
from auditor.model.digest import Digest
from auditor.model.findings import Fact, Finding, ImageRef, Severity, Subject, order

#: Stands in a hit's message for the images hurt, which are known only when all hits of one cause are together.
IMAGES = "\0images\0"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What `auditor rules` prints; the code is stable and never reused."""

    code: str
    severity: Severity
    #: What is the case when this is found, in a sentence.
    means: str
    #: What goes wrong for whom, and what does not.
    matters: str
    #: What to do, with commands where they exist.
    do: str

    def hit(
        self,
        namespace: str,
        subject: Subject,
        message: str,
        *,
        cause: str | None = None,
        images: Iterable[ImageRef] = (),
        facts: dict[str, Fact] | None = None,
        hint: str | None = None,
    ) -> Finding:
        """Report one case of the rule; `message` may hold IMAGES once."""
        return Finding(
            code=self.code,
            severity=self.severity,
            namespace=namespace,
            subject=subject,
            message=message,
            cause=cause,
            images=tuple(images),
            facts={name: value for name, value in (facts or {}).items() if value is not None},
            hint=self.do if hint is None else hint,
        )


def command(*words: str) -> str:
    """A command for the reader's shell; names come from strangers, and quoted they are only names."""
    return shlex.join(words)


def blob_subject(role: str, digest: Digest) -> Subject:
    """A blob as the subject of a finding; `role` is what it is to its image."""
    return Subject(kind=role, digest=str(digest))


def merge(hits: Iterable[Finding]) -> tuple[Finding, ...]:
    """Make one finding of all hits of the same cause, with the images of all of them, and finish the sentences."""
    by: dict[tuple[str, str, Subject], list[Finding]] = {}
    for hit in hits:
        by.setdefault(hit.key, []).append(hit)
    return order(_merged(same) for same in by.values())


def _merged(hits: list[Finding]) -> Finding:
    images = tuple(sorted({image for hit in hits for image in hit.images}, key=ref_order))
    first = hits[0]
    return msgspec.structs.replace(first, images=images, message=first.message.replace(IMAGES, _named(images), 1))


def _named(images: tuple[ImageRef, ...]) -> str:
    if not images:
        return "no image"
    first = images[0]
    others = len({(image.namespace, image.target) for image in images}) - 1
    shown = f"{first.name} ({first.platform})" if first.platform else first.name
    return shown if not others else f"{shown} and {others} more image{'s' if others > 1 else ''}"


#: By the finding's cause.
_BY_CAUSE: Final[Mapping[str, str]] = {
    "missing-blobs-bug": "containerd skipped a download, its missing-blobs bug",
    "missing-blobs-bug-likely": "containerd skipped a download, its missing-blobs bug",
    "shared-config-bug": "containerd skipped a download, since two manifests share a config",
    "record-deleted": "the record of a blob was deleted",
    "record-absent": "a document of the image is not here",
    "no-file": "a file of the store is gone",
    "emptied": "a file of the store was emptied",
    "shortened": "a file of the store was cut short",
    "lengthened": "a file of the store has grown",
    "bytes-changed": "the bytes of a file of the store were changed",
    "published-so": "the image was published like this",
    "labels-missing": "labels that keep content from garbage collection are gone",
}
#: By the finding's code, where the rule names no cause.
_BY_CODE: Final[Mapping[str, str]] = {
    "incomplete-image": "a layer of the image is not here at all",
    "broken-snapshot-chain": "the unpacked image is broken",
    "snapshot-missing": "the image was unpacked, and is not any more",
    "blob-unreadable": "a file of the store cannot be read",
    "suspect-storage": "the disk or the memory is not to be trusted",
}


def in_words(finding: Finding) -> str:
    """What happened, as a clause; empty where the finding's own message says it best."""
    return _BY_CAUSE.get(finding.cause or "") or _BY_CODE.get(finding.code, "")
