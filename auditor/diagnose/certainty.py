"""What proves a finding, what speaks for it, what it breaks and what it leaves alone; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from auditor.checks.rule import in_words
from auditor.diagnose.model import Known
from auditor.model.findings import Finding

#: What was seen, by cause: where a rule saw the thing itself, it is proven.
_SEEN: Final[Mapping[str, str]] = {
    "no-file": "the record was read, and the place of its file was looked at",
    "emptied": "the file was measured: it has no bytes, and its record says otherwise",
    "shortened": "the file was measured: it is shorter than its record says",
    "lengthened": "the file was measured: it is longer than its record says",
    "bytes-changed": "the bytes were read, and do not hash to their name",
    "published-so": "the bytes hash to their name, so they are what was published",
    "labels-missing": "the labels were read",
    "record-absent": "the database was asked for the record, and has none",
}
#: The same, by code, where the rule names no cause.
_SEEN_CODE: Final[Mapping[str, str]] = {
    "broken-snapshot-chain": "the snapshots of the chain were listed",
    "incomplete-image": "the database was asked for the record and for the snapshot, and has neither",
}
#: Why a cause is not certain.
_DOUBT: Final[Mapping[str, str]] = {
    "missing-blobs-bug": "the same layer packed otherwise shows that the pull could skip this one, not that it did",
    "missing-blobs-bug-likely": "the blob that made the snapshot is gone too, so that nothing proves what happened",
    "record-deleted": "layers are skipped from the bottom up, and this one lies above one that was fetched",
    "shared-config-bug": "another manifest with the same config is whole, as that bug leaves it",
}
_FINE: Final[Mapping[str, str]] = {
    "snapshot-without-blob": "Running the image here: its snapshot is there. Images that do not name this blob.",
    "shared-config-layers": "Running the image here, from the other manifest.",
    "incomplete-image": "Other images; containers that run already.",
    "missing-manifest": "Other images; containers that run already.",
    "missing-config": "Other images; containers that run already.",
    "blob-file-missing": "Containers that run, and new ones from snapshots that exist. Images without this blob.",
    "size-mismatch": "Containers that run, and new ones from snapshots that exist. Images without this blob.",
    "digest-mismatch": "Containers that run, and new ones from snapshots that exist. Images without this blob.",
    "broken-snapshot-chain": "The blobs; containers that run already; images that share nothing with it.",
    "snapshot-missing": "The blobs.",
    "malformed-manifest": "All other images.",
    "layer-count-mismatch": "All other images.",
    "layer-undecodable": "Images without this layer.",
    "diffid-mismatch": "Images without this layer.",
    "gc-unprotected": "Everything, until garbage is collected.",
    "stale-ingest": "All that is here.",
}


def fine(code: str) -> str:
    """What a finding of this code leaves alone."""
    return _FINE.get(code, "")


def headline(finding: Finding) -> str:
    """The cause: first in a newcomer's words, then the finding's own."""
    words = in_words(finding)
    return f"{words}: {finding.message}" if words else finding.message


def proven(finding: Finding) -> str:
    """What proves that this is the cause, as a clause; empty where it is only likely."""
    built = finding.facts.get("built_from")
    if finding.cause in ("missing-blobs-bug", "record-deleted") and built:
        return f"CRI wrote down what the snapshot was made from: {str(built)[:19]}…"
    return _SEEN.get(finding.cause or "") or _SEEN_CODE.get(finding.code, "")


def doubt(finding: Finding) -> str:
    """Why a cause is likely and no more."""
    return _DOUBT.get(finding.cause or "", "the evidence speaks for it and nothing against it, but does not prove it")


def evidence(finding: Finding, entry: Known | None) -> tuple[str, ...]:
    """What speaks for a finding, as sentences; `entry` is all that is known of what it is about."""
    told = [f"the audit found {finding.code}" + (f", cause {finding.cause}" if finding.cause else "")]
    told += [f"it is about the {finding.subject.kind} {finding.subject.id}"]
    told += _of_object(entry) if entry is not None else _of_facts(finding)
    return tuple(told)


def _of_object(entry: Known) -> Iterator[str]:
    recorded = [where.namespace for where in entry.where if where.recorded]
    absent = [where.namespace for where in entry.where if not where.recorded]
    if absent:
        yield f"no record in {', '.join(absent)}" + (f", but one in {', '.join(recorded)}" if recorded else "")
    elif recorded:
        yield f"a record in {', '.join(recorded)}" + (f" of {entry.where[0].size} bytes" if entry.where else "")
    if entry.file:
        yield f"its file: {entry.file}"
    if entry.bytes:
        yield f"its bytes: {entry.bytes}"
    mine = [m for m in entry.snapshots if m.chain_id == entry.chain_id]
    if mine:
        there = [f"{m.snapshotter} in {m.namespace}" for m in mine if m.present]
        yield f"its snapshot is on {', '.join(there)}" if there else "no snapshotter has its snapshot"
    if entry.twins:
        yield f"the same layer is here compressed otherwise: {', '.join(entry.twins[:3])}"


def _of_facts(finding: Finding) -> Iterator[str]:
    for name, word in (("record_size", "bytes by its record"), ("file_size", "bytes in its file")):
        if finding.facts.get(name) is not None:
            yield f"{finding.facts[name]} {word}"
    for name, word in (
        ("actual", "its bytes hash to"),
        ("detail", "how:"),
        ("twin", "the same layer, otherwise packed:"),
    ):
        if finding.facts.get(name):
            yield f"{word} {finding.facts[name]}"
