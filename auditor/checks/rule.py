"""A rule's code, severity and advice, and the hits of rules becoming findings, one for each cause."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

import msgspec

from auditor.digest import Digest
from auditor.evidence import ref_order
from auditor.findings import Fact, Finding, ImageRef, Severity, Subject, order

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
