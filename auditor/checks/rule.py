"""Rules and their hits; hits with the same code and subject become one finding, and its message is written last."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import msgspec

from auditor.checks.evidence import ref_order
from auditor.model.command_line import command
from auditor.model.digest import Digest
from auditor.model.findings import Fact, Finding, ImageRef, Severity, Subject, order
from auditor.model.plural import plural

#: The remedy for every repairable finding about an archive; `auditor repair` writes to daemons only.
ARCHIVE_REMEDY: Final = "Write the archive again from a store in which `auditor check` finds no problems."

#: The remedy for every repairable finding about the disk of a stopped daemon.
OFFLINE_REMEDY: Final = "Export the images that are intact; `auditor repair` works on a running containerd."

#: The codes that only an audit of contents finds.
_FOUND_BY_READING: Final = frozenset({"digest-mismatch"})
#: The codes of findings about unpacked files that a rebuild ends.
UNPACKED: Final = frozenset(
    "snapshot-directory-missing snapshot-empty snapshot-damaged snapshot-whiteouts-lost snapshot-attributes "
    "snapshot-extra-files".split()
)


#: The beginning of a command that takes `--address`: a verb of auditor, or ctr; alone, or in a sentence after "`".
_PROGRAM: Final = r"(?:^|(?<=`))(auditor (check|repair|export|tree|scrub|diagnose)|ctr)(?=[ `])(?! (--address|-a) )"
#: The beginning of a command that takes `--root`.
_OFFLINE: Final = r"(?:^|(?<=`))auditor (check|export|tree|scrub|diagnose)(?=[ `])(?! --root )"


class Rule(msgspec.Struct, frozen=True, kw_only=True, rename={"impact": "matters", "remedy": "do"}):
    """What a finding code means, as `auditor rules` prints it. A code is stable and never reused.

    In JSON, `impact` is called `matters` and `remedy` is called `do`.
    """

    code: str
    severity: Severity
    #: The fault, in full sentences.
    means: str
    #: What fails because of the fault, and what still works.
    impact: str
    #: What to do, with commands where there are any.
    remedy: str

    @property
    def level(self) -> tuple[str, ...]:
        """The options of `auditor repair` that let it find this fault."""
        if self.code in UNPACKED:
            return ("--snapshots",)
        return ("--verify", "digests") if self.code in _FOUND_BY_READING else ()

    def hit(
        self,
        namespace: str,
        subject: Subject,
        text: str,
        *,
        part: str | None = None,
        cause: str | None = None,
        images: tuple[ImageRef, ...] = (),
        facts: Mapping[str, Fact] | None = None,
        hint: str = "",
        repairable: bool = False,
    ) -> Hit:
        """Return a hit of this rule; facts that are None are left out. See `Hit` for the arguments."""
        return Hit(
            rule=self,
            namespace=namespace,
            subject=subject,
            text=text,
            part=part,
            cause=cause,
            images=images,
            facts={name: value for name, value in (facts or {}).items() if value is not None},
            hint=hint,
            repairable=repairable,
        )


class Hit(msgspec.Struct, frozen=True, kw_only=True):
    """One case of a rule, as one image shows it.

    `part` is the part of the image that `text` is about, such as `layer 2`: empty for the image itself, None where
    `text` is the whole message. `hint` replaces the rule's remedy; with `repairable`, `auditor repair IMAGE` does.
    """

    rule: Rule
    namespace: str
    subject: Subject
    text: str
    part: str | None = None
    cause: str | None = None
    images: tuple[ImageRef, ...] = ()
    facts: dict[str, Fact] = {}
    hint: str = ""
    repairable: bool = False


def selector(image: ImageRef) -> str:
    """Return what names an image on a command line; a name that begins with a dash would be taken for an option."""
    return image.target if image.name.startswith("-") else image.name


def at_address(hint: str, address: str) -> str:
    """Return a command of auditor or ctr with the daemon's address in it; in a sentence those between backticks.

    Args:
        hint: A command line or a sentence.
        address: Path of the daemon's socket.

    """
    where = command("--address", address)
    return re.sub(_PROGRAM, lambda found: f"{found[0]} {where}", hint)


def at_root(hint: str, root: str, *, while_running: bool = False) -> str:
    """Return a command of auditor with the root of a stopped daemon in it; a repair, which needs a daemon, is replaced.

    Args:
        hint: A command line or a sentence with commands between backticks.
        root: The folder.
        while_running: A daemon may use it.

    """
    if "auditor repair" in hint:
        return OFFLINE_REMEDY
    where = command("--root", root, *(("--while-running",) if while_running else ()))
    return re.sub(_OFFLINE, lambda found: f"{found[0]} {where}", hint)


def blob_subject(role: str, digest: Digest) -> Subject:
    """Return the subject of a finding about a blob; `role` is the blob's role in its image."""
    return Subject(kind=role, digest=str(digest))


def merge(
    hits: Iterable[Hit], *, remedy: str = "", words: Mapping[str, Rule] = MappingProxyType({})
) -> tuple[Finding, ...]:
    """Make one finding of all hits with the same code, namespace and subject.

    Args:
        hits: The hits of all rules.
        remedy: The hint of repairable findings about a store that no command repairs.
        words: By code, the rule in the words of the kind of store.

    Returns:
        The findings, sorted by `order`; each names the images of all its hits.

    """
    by: dict[tuple[str, str, Subject], list[Hit]] = {}
    for hit in hits:
        by.setdefault((hit.rule.code, hit.namespace, hit.subject), []).append(hit)
    return order(_finding(same, remedy=remedy, words=words) for same in by.values())


def _finding(hits: list[Hit], *, remedy: str, words: Mapping[str, Rule]) -> Finding:
    first = hits[0]
    images = tuple(sorted({image for hit in hits for image in hit.images}, key=ref_order))
    return Finding(
        code=first.rule.code,
        severity=first.rule.severity,
        namespace=first.namespace,
        subject=first.subject,
        message=_message(first, images),
        cause=first.cause,
        images=images,
        facts=first.facts,
        hint=_hint(first, words.get(first.rule.code, first.rule), remedy=remedy),
    )


def _message(hit: Hit, images: tuple[ImageRef, ...]) -> str:
    if hit.part is None:
        return hit.text
    return f"{hit.part} of {_names(images)}: {hit.text}" if hit.part else f"{_names(images)}: {hit.text}"


def _hint(hit: Hit, rule: Rule, *, remedy: str) -> str:
    if hit.repairable and remedy:
        return remedy
    if hit.repairable and hit.images:
        return command("auditor", "repair", "-n", hit.namespace, *hit.rule.level, selector(hit.images[0]))
    if hit.repairable and hit.subject.digest and not hit.hint:
        return command("auditor", "repair", "-n", hit.namespace, *hit.rule.level, hit.subject.digest)
    return hit.hint or rule.remedy


def _names(images: tuple[ImageRef, ...]) -> str:
    first = images[0]
    others = len({(image.namespace, image.target) for image in images}) - 1
    shown = f"{first.name} ({first.platform})" if first.platform else first.name
    return shown if not others else f"{shown} and {plural(others, 'more image')}"


#: By the finding's cause.
_BY_CAUSE: Final[Mapping[str, str]] = {
    "missing-blobs-bug": "containerd skipped the download of a layer (missing-blobs bug)",
    "missing-blobs-bug-likely": "the download of a layer was skipped (missing-blobs bug), or its record was deleted",
    "shared-config-bug": "containerd skipped the download of a layer, because two manifests share a config",
    "record-deleted": "the record of a blob was deleted",
    "record-absent": "a document of the image is missing",
    "no-file": "a blob's file is missing",
    "emptied": "a blob's file was truncated to zero bytes",
    "shortened": "a blob's file was truncated",
    "lengthened": "a blob's file is longer than recorded",
    "bytes-changed": "the content of a blob's file was changed",
    "published-so": "the image was published with this fault",
    "labels-missing": "labels that protect content from garbage collection are missing",
}
#: By the finding's code, where the rule names no cause.
_BY_CODE: Final[Mapping[str, str]] = {
    "incomplete-image": "a layer of the image has neither a blob nor a snapshot",
    "broken-snapshot-chain": "the unpacked image is broken",
    "layers-not-fetched": "only the documents of the image were fetched, not its layers",
    "snapshot-missing": "the image was unpacked, and its snapshot was removed",
    "blob-unreadable": "a blob's file cannot be read",
    "suspect-storage": "the disk or the memory is failing",
}


def in_words(finding: Finding) -> str:
    """Return the cause of a finding as a clause; empty where the finding's own message says it."""
    return _BY_CAUSE.get(finding.cause or "") or _BY_CODE.get(finding.code, "")
