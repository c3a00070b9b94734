"""Rules about an archive as a container: its tar, its compression, its index."""

from __future__ import annotations

import msgspec

from auditor.model.findings import Severity


class Fault(msgspec.Struct, frozen=True):
    """A code with its severity, what it means, why it matters, and what to do; the source of `auditor rules`."""

    code: str
    severity: Severity
    meaning: str
    why: str
    hint: str


TRUNCATED = Fault(
    code="archive-truncated",
    severity=Severity.CRITICAL,
    meaning="the file ends before the end-of-archive marker is whole, or its compressed stream ends early",
    why="the rest of the archive is lost; many importers load what is there and say nothing",
    hint="write the archive again; `ctr images export` of 2.x can cut its own output short, `--local` avoids it",
)


MALFORMED = Fault(
    code="archive-malformed",
    severity=Severity.CRITICAL,
    meaning="the bytes are no tar archive, its compression is damaged, or one of its documents cannot be read",
    why="nothing behind the damage can be trusted to be found",
    hint="write or download the archive again",
)


TRAILING = Fault(
    code="archive-trailing-garbage",
    severity=Severity.ERROR,
    meaning="there are bytes other than zeros behind the end of the archive",
    why="two archives in one file, or an old longer file that was written over: readers disagree on what is inside",
    hint="write the archive again to a new file",
)


UNSAFE = Fault(
    code="archive-unsafe-member",
    severity=Severity.ERROR,
    meaning="a member is no plain file or folder below the archive's root: an absolute or `..` name, a link that leads"
    " nowhere or out, a sparse or special file, a name that is not UTF-8",
    why="importers skip such members, fail on them, or write outside their folder",
    hint="do not unpack it; ask where the archive came from, and write it again",
)


DUPLICATE = Fault(
    code="archive-duplicate-member",
    severity=Severity.ERROR,
    meaning="two members have one name",
    why="some readers take the first and some the last, so what was verified may not be what is loaded",
    hint="write the archive again",
)


INCOMPLETE = Fault(
    code="archive-incomplete",
    severity=Severity.CRITICAL,
    meaning="a part that makes it an image archive is absent: oci-layout, index.json, or what manifest.json names",
    why="importers refuse it, or load an image without its layers",
    hint="write the archive again from a store that has the whole image",
)


DISAGREE = Fault(
    code="archive-manifests-disagree",
    severity=Severity.ERROR,
    meaning="manifest.json and index.json describe different images",
    why="docker load and ctr images import would load different things from the same file",
    hint="write the archive again with one tool",
)


FAULTS: tuple[Fault, ...] = (TRUNCATED, MALFORMED, TRAILING, UNSAFE, DUPLICATE, INCOMPLETE, DISAGREE)
