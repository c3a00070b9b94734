"""What one known message is: how to tell it in a log, what it says, what it most likely means, and where we know it."""

from __future__ import annotations

import enum
import re
from functools import cached_property

import msgspec


class Sure(enum.StrEnum):
    """How sure a cause is: proven by what was looked at, likely, one of several that would do, or not named at all."""

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"
    UNKNOWN = "unknown"


class Known(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """One message.

    `anchors` are pieces of it without anything variable in them, so that a log can be searched at the speed of a
    substring: one of them is in every text that `pattern` fits. `cause` is the most likely one where nothing else is
    known, `sure` how sure it is on the message alone; only a text that is its own proof, as the kernel's word for a
    full disk, is certain. `fits` are the findings that make a store print this, none where no state of the store does;
    `by_design` says that a blob absent by design does too. `do` are commands for a shell, the safe one first, and what
    people must do behind a `#`; `{digest}`, `{image}` and `{namespace}` stand for what the message names.
    """

    id: str
    anchors: tuple[str, ...]
    pattern: str = ""
    says: str
    cause: str
    sure: Sure = Sure.LIKELY
    fits: tuple[str, ...] = ()
    by_design: bool = False
    breaks: str
    fine: str = ""
    do: tuple[str, ...]
    source: str

    @cached_property
    def regex(self) -> re.Pattern[str]:
        """The whole pattern; any of the anchors where there is no other."""
        return re.compile(self.pattern or "|".join(map(re.escape, self.anchors)), re.IGNORECASE)


#: What leaves a needed blob without a record.
ABSENT = ("snapshot-without-blob", "incomplete-image", "missing-manifest", "missing-config", "shared-config-layers")
#: What makes bytes come out wrong or short.
BYTES = ("size-mismatch", "digest-mismatch", "blob-unreadable")
#: The same, of documents, or a document that was published unusable.
DOCUMENT = (*BYTES, "malformed-manifest")
#: The same, of layers, or a layer that was published unusable.
LAYER = (*BYTES, "layer-undecodable", "diffid-mismatch")

#: What makes an archive unreadable as one.
ARCHIVE = ("archive-truncated", "archive-malformed", "archive-incomplete")

# Steps that many entries share.
CHECK = "auditor check {image}"
DIGESTS = "auditor check --verify digests {image}"
LAYERS = "auditor check --verify layers {image}"
TREE = "auditor tree {image}"
REPAIR = "auditor repair {image} --dry-run"
VERIFY = "auditor verify FILE"
DISK = "dmesg -T | grep -iE 'i/o error|nvme|ata|ext4|xfs|btrfs'  # does the kernel complain of the disk?"
PAST_PROXY = "curl -sSIL https://HOST/v2/REPOSITORY/blobs/{digest}  # its Content-Length, through the proxy and past it"
HERE = "Images that are here already."
NOTHING_STORED = "The pull. Nothing wrong was stored: containerd refused it."
