"""Decompressed layers, whose compressed content matches its digest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from auditor.checks.blob_case import Case, Use
from auditor.checks.documents import MEDIA_TYPE_MISMATCH
from auditor.checks.rule import Hit, Rule
from auditor.model.digest import Digest
from auditor.model.findings import Fact, Severity
from auditor.model.store import LayerVerification, LayerVerificationKind, Verification, VerificationKind

DIFFID_MISMATCH = Rule(
    code="diffid-mismatch",
    severity=Severity.CRITICAL,
    means="The layer matches its digest, and its decompressed content does not match the config's diffID.",
    impact="The image cannot be unpacked: `unexpected layer digest`. The image was built or published with this fault.",
    remedy="Ask the image's publisher; fetching it again brings the same bytes.",
)
LAYER_UNDECODABLE = Rule(
    code="layer-undecodable",
    severity=Severity.CRITICAL,
    means="The layer matches its digest and cannot be decompressed, or is not a tar, or is compressed although its "
    "media type says it is not, which containerd relies on.",
    impact="The image cannot be unpacked. The image was built or published with this fault.",
    remedy="Ask the image's publisher; fetching it again brings the same bytes.",
)
LAYER_UNVERIFIABLE = Rule(
    code="layer-unverifiable",
    severity=Severity.INFO,
    means="The layer matches its digest; its decompressed content cannot be checked: encrypted, of an unknown type, or "
    "larger than --max-layer-size.",
    impact="No fault is known. The run is incomplete, except for encrypted layers: the check was requested and not "
    "done.",
    remedy="Raise --max-layer-size where the layer is larger; a layer of an unknown type is checked by its digest "
    "alone (--verify digests).",
)
RULES = (DIFFID_MISMATCH, LAYER_UNDECODABLE, LAYER_UNVERIFIABLE)


def judge(case: Case, verification: Verification) -> Iterator[Hit]:
    """Check the decompressed content of a layer whose content matches its digest."""
    layer = verification.layer
    if layer is None or verification.kind not in (VerificationKind.SOUND, VerificationKind.UNSTEADY):
        return
    if layer.kind is LayerVerificationKind.UNVERIFIABLE:
        text = f"decompressed content cannot be checked: {layer.detail}"
        yield case.hit(LAYER_UNVERIFIABLE, text, facts={"detail": layer.detail or None})
    elif layer.kind is LayerVerificationKind.UNDECODABLE:
        text = f"cannot be decompressed to a tar: {layer.detail}"
        yield case.hit(LAYER_UNDECODABLE, text, cause="published-so", facts={"detail": layer.detail or None})
    elif other := [use for use in case.uses if use.diff_id not in (None, layer.diff_id)]:
        yield _other_content(case.limited_to(other), min(filter(None, (use.diff_id for use in other))), layer)
    elif layer.compression:
        yield from _compression(case, layer)


def _other_content(case: Case, wanted: Digest, layer: LayerVerification) -> Hit:
    text = f"decompressed content does not match the config's diffID {wanted.short}"
    facts: dict[str, Fact] = {"diff_id": str(wanted), "actual": str(layer.diff_id) if layer.diff_id else None}
    return case.hit(DIFFID_MISMATCH, text, cause="published-so", facts=facts)


def _compression(case: Case, layer: LayerVerification) -> Iterator[Hit]:
    """Compare a layer's compression with its media types.

    containerd decompresses, by content, only layers whose type says that they are compressed; core/diff/stream.go
    `compressedHandler`.
    """
    from auditor.layers import declared  # noqa: PLC0415 - brings decompressors, which most audits do without

    said = {use: declared(use.media_type) for use in case.uses}
    refused = [use for use, word in said.items() if word == "none" != layer.compression]
    wrong = [use for use, word in said.items() if word not in ("", "none", layer.compression)]
    if refused:
        text = f"{layer.compression} content, but its media type says uncompressed: containerd cannot unpack it"
        yield case.limited_to(refused).hit(LAYER_UNDECODABLE, text, cause="media-type", facts=_types(refused, layer))
    if wrong:
        found = layer.compression if layer.compression != "none" else "uncompressed"
        text = f"{found} content, but its media type says {min(said[use] for use in wrong)}"
        yield case.limited_to(wrong).hit(MEDIA_TYPE_MISMATCH, text, cause="compression", facts=_types(wrong, layer))


def _types(uses: Iterable[Use], layer: LayerVerification) -> dict[str, Fact]:
    return {"media_type": min(use.media_type for use in uses), "compression": layer.compression}
