"""The causes of findings in a newcomer's words, the same wherever a cause is told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from auditor.findings import Finding

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
