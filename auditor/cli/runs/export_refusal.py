"""Refuse an export: what is missing or damaged, of which image, platform and layer, and the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from auditor.errors import ExportRefused
from auditor.export.copy_blobs import UNREADABLE
from auditor.export.model import ExportPlan, Role
from auditor.export.plan import TWO_DIFF_IDS
from auditor.model.command_line import command
from auditor.model.findings import Finding, Severity

#: Why a layer is missing, by finding code.
_CAUSES = {
    "snapshot-without-blob": "its snapshot is there: the missing-blobs bug",
    "blob-discarded": "this node discards layers once they are unpacked",
    "blob-lazy": "a remote snapshotter serves it without its blob",
    "pull-in-progress": "it is being pulled right now",
    "platform-not-pulled": "that platform was never pulled",
}
#: Findings about absent records do not concern a planned blob, which has one: they are about another namespace, or
#: about a layer that a salvage replaces.
_ABSENCE = frozenset(
    {"snapshot-without-blob", "incomplete-image", "shared-config-layers", "missing-manifest", "missing-config"}
)


def refuse(
    findings: tuple[Finding, ...],
    planned: ExportPlan,
    namespace: str,
    *,
    salvage: bool,
    refetch: bool,
    present: Mapping[str, tuple[str, ...]],
) -> None:
    """Refuse missing or damaged blobs before a byte is written.

    Args:
        findings: those of the audit.
        planned: the plan.
        namespace: the namespace of the images.
        salvage: layers were to be salvaged.
        refetch: missing content was to be repaired first.
        present: by name of an image, the platforms that the namespace has complete.

    Raises:
        ExportRefused: a blob of the plan is missing or damaged.

    """
    if planned.missing:
        raise _lacking(findings, planned, namespace, salvage=salvage, refetch=refetch, present=present)
    inside = {str(blob.digest) for blob in planned.blobs}
    for finding in findings:
        if finding.severity.rank > Severity.ERROR.rank or finding.subject.digest not in inside:
            continue
        if finding.code not in _ABSENCE:
            if finding.code == "blob-unreadable":
                hint = UNREADABLE
            else:
                hint = _repair(planned, namespace, ("--verify", "digests")) if _repairable(finding) else finding.hint
            raise ExportRefused(f"{finding.message}: {finding.subject.digest}; no archive was written", hint=hint)


def _repairable(finding: Finding) -> bool:
    """Whether `auditor repair` ends the fault, and not, for example, the publisher."""
    return finding.hint.startswith("auditor repair ")


def _lacking(
    findings: tuple[Finding, ...],
    planned: ExportPlan,
    namespace: str,
    *,
    salvage: bool,
    refetch: bool,
    present: Mapping[str, tuple[str, ...]],
) -> ExportRefused:
    """Return the refusal: the first missing part, the cause if known, and the remedy."""
    first, more = planned.missing[0], len(planned.missing) - 1
    found = next((f for f in findings if f.subject.digest == first.digest and f.namespace == namespace), None)
    why = f" ({_CAUSES[found.code]})" if found is not None and found.code in _CAUSES else ""
    others = f", and {more} more" if more else ""
    discarded = found is not None and found.code == "blob-discarded"
    option = ("--include-discarded",) if discarded or _documents_only(findings, first.image, namespace) else ()
    unpulled = first.role in (Role.MANIFEST, Role.INDEX) or (found is not None and found.code == "platform-not-pulled")
    here = present.get(first.image, ()) if unpulled else ()
    if here:
        complete = f"{', '.join(here)} {'is' if len(here) == 1 else 'are'} complete here"
        hint = f"{complete}: `{_export(first.image, here[0], namespace)}`"
    elif not first.digest or (first.role == "index" and "platforms asked for" in first.why):
        hint = f"`{command('auditor', 'tree', '-n', namespace, names=[first.image])}` shows which platforms it has"
    elif first.why == TWO_DIFF_IDS:
        check = command("auditor", "check", "-n", namespace, "--verify", "layers", names=[first.image])
        hint = f"`{check}` shows which diffID is right"
    elif found is not None and found.cause == "published-so":
        hint = found.hint
    elif salvage:
        hint = "salvaging takes another blob with the same diffID, and this namespace has none"
    elif refetch:
        hint = "no source had it; name others with --from, or take what is left with --salvage"
    else:
        hint = _repair(planned, namespace, option)
    return ExportRefused(f"{first.sentence}{why}{others}; no archive was written", hint=hint)


def _documents_only(findings: tuple[Finding, ...], image: str, namespace: str) -> bool:
    found = (f for f in findings if f.code == "layers-not-fetched" and f.namespace == namespace)
    return any(image in ref.names for finding in found for ref in finding.images)


def _export(image: str, platform: str, namespace: str) -> str:
    return command("auditor", "export", "-n", namespace, "--platform", platform, "-o", "image.tar", names=[image])


def _repair(planned: ExportPlan, namespace: str, options: Sequence[str]) -> str:
    names = {image.name for image in planned.images} | {one.image for one in planned.missing}
    shown = command("auditor", "repair", "-n", namespace, *options, names=sorted(names))
    return f"`{shown}` brings it back; or export with --refetch"
