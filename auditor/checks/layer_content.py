"""What layers decompress to, their bytes being what their digests name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from auditor.checks.blob_case import Case, Use
from auditor.checks.documents import MEDIA_TYPE_MISMATCH
from auditor.checks.rule import Rule
from auditor.model.digest import Digest
from auditor.model.findings import Fact, Finding, Severity
from auditor.model.store import LayerProof, LayerProofKind, Proof, ProofKind

DIFFID_MISMATCH = Rule(
    code="diffid-mismatch",
    severity=Severity.CRITICAL,
    means="The layer has the right digest and decompresses to something else than the config's diffID.",
    matters="The image cannot be unpacked: `unexpected layer digest`. It was built or published wrong.",
    do="Ask the image's publisher; fetching it again brings the same bytes.",
)
LAYER_UNDECODABLE = Rule(
    code="layer-undecodable",
    severity=Severity.CRITICAL,
    means="The layer has the right digest and cannot be decompressed or is no tar, or is compressed under a media type "
    "that says it is not, which containerd takes at its word.",
    matters="The image cannot be unpacked. It was built or published wrong.",
    do="Ask the image's publisher; fetching it again brings the same bytes.",
)
LAYER_UNVERIFIABLE = Rule(
    code="layer-unverifiable",
    severity=Severity.INFO,
    means="The layer's digest is right; what it decompresses to cannot be checked: encrypted, an unknown type, or "
    "larger than the bound that was asked for.",
    matters="Nothing is known to be wrong.",
    do="Nothing.",
)
RULES = (DIFFID_MISMATCH, LAYER_UNDECODABLE, LAYER_UNVERIFIABLE)


def judge(case: Case, proof: Proof) -> Iterator[Finding]:
    """Judge what a layer decompresses to, its bytes being what the digest names."""
    layer = proof.layer
    if layer is None or proof.kind not in (ProofKind.SOUND, ProofKind.UNSTEADY):
        return
    if layer.kind is LayerProofKind.UNVERIFIABLE:
        text = f"what {case.whose} decompresses to cannot be checked: {layer.detail}"
        yield case.hit(LAYER_UNVERIFIABLE, text, facts={"detail": layer.detail or None})
    elif layer.kind is LayerProofKind.UNDECODABLE:
        text = f"{case.whose} cannot be decompressed to a tar: {layer.detail}"
        yield case.hit(LAYER_UNDECODABLE, text, cause="published-so", facts={"detail": layer.detail or None})
    elif other := [use for use in case.uses if use.diff_id not in (None, layer.diff_id)]:
        yield _other_content(case.of(other), min(filter(None, (use.diff_id for use in other))), layer)
    elif layer.compression:
        yield from _compression(case, layer)


def _other_content(case: Case, wanted: Digest, layer: LayerProof) -> Finding:
    text = f"{case.whose} decompresses to something else than the config's diffID {wanted.short}"
    facts: dict[str, Fact] = {"diff_id": str(wanted), "actual": str(layer.diff_id) if layer.diff_id else None}
    return case.hit(DIFFID_MISMATCH, text, cause="published-so", facts=facts)


def _compression(case: Case, layer: LayerProof) -> Iterator[Finding]:
    """Judge a media type that lies.

    containerd decompresses, by content, what a type says is compressed, and nothing else; core/diff/stream.go
    `compressedHandler`.
    """
    from auditor.layers import declared  # noqa: PLC0415 - brings decompressors, which most audits do without

    said = {use: declared(use.media_type) for use in case.uses}
    refused = [use for use, word in said.items() if word == "none" != layer.compression]
    lying = [use for use, word in said.items() if word not in ("", "none", layer.compression)]
    if refused:
        mine = case.of(refused)
        text = f"{mine.whose} is {layer.compression} under a media type of no compression: containerd cannot unpack it"
        yield mine.hit(LAYER_UNDECODABLE, text, cause="media-type", facts=_types(refused, layer))
    if lying:
        mine = case.of(lying)
        found = layer.compression if layer.compression != "none" else "not compressed"
        text = f"{mine.whose} is {found}, and its media type says {min(said[use] for use in lying)}"
        yield mine.hit(MEDIA_TYPE_MISMATCH, text, cause="compression", facts=_types(lying, layer))


def _types(uses: Iterable[Use], layer: LayerProof) -> dict[str, Fact]:
    return {"media_type": min(use.media_type for use in uses), "compression": layer.compression}
