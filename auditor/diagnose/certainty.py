"""Confidence in the cause of a finding: proof, evidence, doubt; and what the finding leaves unaffected; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from auditor.checks.rule import in_words
from auditor.diagnose.model import ObjectFacts
from auditor.model.findings import Fact, Finding

#: Lines of a fact that are shown.
_LINES: Final = 5
#: Direct observations that prove a cause, by cause.
_PROOF: Final[Mapping[str, str]] = {
    "no-file": "the record was read, and the path of its file was examined",
    "emptied": "the file was measured: it is empty, its record names a size",
    "shortened": "the file was measured: it is shorter than its recorded size",
    "lengthened": "the file was measured: it is longer than its recorded size",
    "bytes-changed": "the content was read, and does not match its digest",
    "published-so": "the content matches its digest, so it is what was published",
    "labels-missing": "the labels were read",
    "record-absent": "the database was asked for the record, and has none",
}
#: Direct observations by code, for rules without a cause.
_PROOF_BY_CODE: Final[Mapping[str, str]] = {
    "no-matching-platform": "the index or the config was read",
    "broken-snapshot-chain": "the snapshots of the chain were listed",
    "incomplete-image": "the database was asked for the record and for the snapshot, and has neither",
    "snapshot-directory-missing": "the directory was looked for twice, and the database has its snapshot",
    **dict.fromkeys(
        ("snapshot-damaged", "snapshot-empty", "snapshot-whiteouts-lost", "snapshot-attributes"),
        "the files were compared with their layer twice, and the layer matches its diffID",
    ),
}
#: Reason why a cause is not certain, by cause, or by code for rules without one.
_DOUBT: Final[Mapping[str, str]] = {
    "missing-blobs-bug": "the same layer with another compression allowed the skip; that it happened is not proven",
    "missing-blobs-bug-likely": "the blob that made the snapshot is gone too, so that nothing proves what happened",
    "record-deleted": "layers are skipped from the bottom up, and this one lies above one that was fetched",
    "layers-not-fetched": "an image of which all layers were deleted before it was used looks the same",
    "shared-config-bug": "another manifest with the same config is whole, as that bug leaves it",
}
_UNAFFECTED: Final[Mapping[str, str]] = {
    "snapshot-without-blob": "Running the image here: its snapshot is there. Images that do not name this blob.",
    "shared-config-layers": "Running the image here, from the other manifest.",
    "incomplete-image": "Other images; running containers.",
    "layers-not-fetched": "The documents of the image; all other images.",
    "missing-manifest": "Other images; running containers.",
    "missing-config": "Other images; running containers.",
    "blob-file-missing": "Containers that run, and new ones from snapshots that exist. Images without this blob.",
    "size-mismatch": "Containers that run, and new ones from snapshots that exist. Images without this blob.",
    "digest-mismatch": "Containers that run, and new ones from snapshots that exist. Images without this blob.",
    "broken-snapshot-chain": "The blobs; running containers; images that share no layer with it.",
    "snapshot-missing": "The blobs.",
    "snapshot-directory-missing": "The blobs; images that share no layer with it; containers that are mounted already.",
    **dict.fromkeys(
        ("snapshot-damaged", "snapshot-empty", "snapshot-whiteouts-lost", "snapshot-attributes"),
        "The blobs, from which the files can be rebuilt; images that do not share this layer.",
    ),
    "malformed-manifest": "All other images.",
    "no-matching-platform": "The platforms that it has, on other nodes.",
    "malformed-descriptor": "Running and exporting the image here; all other images.",
    "layer-count-mismatch": "All other images.",
    "layer-undecodable": "Images without this layer.",
    "diffid-mismatch": "Images without this layer.",
    "gc-unprotected": "Everything, until the next garbage collection.",
    "stale-ingest": "Existing images.",
}


def unaffected(code: str) -> str:
    """Return what a finding of this code leaves unaffected."""
    return _UNAFFECTED.get(code, "")


def headline(finding: Finding) -> str:
    """Return the cause in a sentence for readers new to containerd, then the finding's message."""
    words = in_words(finding)
    return f"{words}: {finding.message}" if words else finding.message


def proven(finding: Finding) -> str:
    """Return the proof of the cause as a clause; empty where the cause is only likely."""
    built = finding.facts.get("built_from")
    if finding.cause in ("missing-blobs-bug", "record-deleted") and built:
        return f"CRI recorded the layer that the snapshot was unpacked from: {str(built)[:19]}…"
    return _PROOF.get(finding.cause or "") or _PROOF_BY_CODE.get(finding.code, "")


def doubt(finding: Finding) -> str:
    """Return the reason why a cause is not certain."""
    return _DOUBT.get(
        finding.cause or finding.code, "the evidence supports it and does not contradict it, but does not prove it"
    )


def evidence(finding: Finding, entry: ObjectFacts | None) -> tuple[str, ...]:
    """Return the evidence for a finding.

    Args:
        finding: The finding.
        entry: The facts about its subject, if they are known.

    Returns:
        One clause each.

    """
    lines = [f"the audit found {finding.code}" + (f", cause {finding.cause}" if finding.cause else "")]
    lines += [f"it is about the {finding.subject.kind} {finding.subject.id}"]
    lines += _of_object(entry) if entry is not None else _of_facts(finding)
    return tuple(lines)


def _of_object(entry: ObjectFacts) -> Iterator[str]:
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
        yield f"the same layer exists with another compression: {', '.join(entry.twins[:3])}"


def _of_facts(finding: Finding) -> Iterator[str]:
    for name, word in (("record_size", "bytes by its record"), ("file_size", "bytes in its file")):
        if finding.facts.get(name) is not None:
            yield f"{finding.facts[name]} {word}"
    for name, word in (
        ("directory", "its directory:"),
        ("paths", "files:"),
        ("containers", "containers on it:"),
        ("actual", "its bytes hash to"),
        ("detail", "detail:"),
        ("twin", "the same layer with another compression:"),
    ):
        if finding.facts.get(name):
            yield f"{word} {_one_line(finding.facts[name])}"


def _one_line(fact: Fact) -> str:
    """Return the first lines of a fact, as one."""
    return ", ".join(str(fact).split("\n")[:_LINES])
