"""Blobs that have a record: their file, their size, their bytes."""

from __future__ import annotations

from collections.abc import Iterator

from auditor.checks.rule import IMAGES, Rule, blob_subject
from auditor.digest import EMPTY, Digest
from auditor.evidence import Evidence, NamespaceView
from auditor.findings import Fact, Finding, ImageRef, Severity, Verify
from auditor.graph import Broken, Flaw
from auditor.store import FileKind, FileState, LayerProofKind, Proof, ProofKind

_RESTORE = "auditor repair puts the right bytes back without touching record, labels or snapshots."
BLOB_FILE_MISSING = Rule(
    code="blob-file-missing",
    severity=Severity.CRITICAL,
    means="The database has the blob, the disk has no regular file for it: typically a power cut between the record "
    "and the rename (containerd#10457), or a file deleted by hand.",
    matters="The image cannot be unpacked, and pulling it again reports success and changes nothing: `blob … expected "
    "at …: blob not found`.",
    do=_RESTORE,
)
SIZE_MISMATCH = Rule(
    code="size-mismatch",
    severity=Severity.CRITICAL,
    means="The descriptor, the record and the file disagree on the blob's size.",
    matters="The bytes cannot be right; the image cannot be unpacked or exported, and pulling it again does not help.",
    do=_RESTORE,
)
DIGEST_MISMATCH = Rule(
    code="digest-mismatch",
    severity=Severity.CRITICAL,
    means="The blob's bytes do not hash to its name; read twice before it is said.",
    matters="Whoever unpacks, exports or serves the blob passes damage on. Pulling the image again does not help.",
    do=_RESTORE,
)
BLOB_UNREADABLE = Rule(
    code="blob-unreadable",
    severity=Severity.ERROR,
    means="Reading the blob failed, so nothing is known of its bytes.",
    matters="The audit is incomplete. An input/output error is the disk's word for trouble.",
    do="Look at the kernel's log for the device; check that the auditor may read the content root.",
)
READ_UNSTEADY = Rule(
    code="read-unsteady",
    severity=Severity.WARNING,
    means="The blob hashed wrong at the first reading and right at the second, past the page cache.",
    matters="The bytes on the disk are right. The memory or the path to the disk is not to be trusted.",
    do="Test the memory, look at the kernel's log, and check again.",
)
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
    means="The layer has the right digest and cannot be decompressed or is no tar.",
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
RULES = (
    BLOB_FILE_MISSING,
    SIZE_MISMATCH,
    DIGEST_MISMATCH,
    BLOB_UNREADABLE,
    READ_UNSTEADY,
    DIFFID_MISMATCH,
    LAYER_UNDECODABLE,
    LAYER_UNVERIFIABLE,
)


def check(evidence: Evidence) -> Iterator[Finding]:
    """Judge each blob that was looked at, once for all namespaces that have a record of it."""
    flaws = _document_flaws(evidence)
    for digest, case in _cases(evidence).items():
        found = tuple(_judge(evidence, case, flaws.get(digest)))
        yield from found
        proof = evidence.proofs.get(digest)
        if not found and proof is not None and evidence.verify is Verify.LAYERS:
            yield from _layer(case, proof)


class _Case:
    """A blob with everybody who knows it."""

    def __init__(self, digest: Digest) -> None:
        self.digest = digest
        self.namespaces: list[str] = []
        self.records: set[int] = set()
        self.descriptors: set[int] = set()
        self.diff_ids: set[Digest] = set()
        self.images: tuple[ImageRef, ...] = ()

    @property
    def role(self) -> str:
        return self.images[0].role if self.images else "blob"

    @property
    def whose(self) -> str:
        return f"{self._what} of {IMAGES}" if self.images else f"the unreferenced blob {self.digest.short}"

    @property
    def _what(self) -> str:
        layer = self.images[0].layer
        return f"the {self.role}" if layer is None else f"layer {layer + 1}"

    def hit(self, rule: Rule, text: str, *, cause: str | None = None, facts: dict[str, Fact] | None = None) -> Finding:
        named = sorted({image.namespace for image in self.images}) or self.namespaces
        shared = {"namespaces": ",".join(self.namespaces) if len(self.namespaces) > 1 else None}
        hint = None
        if self.images and rule in (BLOB_FILE_MISSING, SIZE_MISMATCH, DIGEST_MISMATCH):
            hint = f"auditor repair -n {named[0]} {self.images[0].name}"
        return rule.hit(
            named[0],
            blob_subject(self.role, self.digest),
            text,
            cause=cause,
            images=self.images,
            facts={**(facts or {}), **shared},
            hint=hint,
        )


def _cases(evidence: Evidence) -> dict[Digest, _Case]:
    cases: dict[Digest, _Case] = {}
    for view in evidence.views:
        wanted = view.named if view.selected else view.inventory.blobs.keys()
        for digest in wanted:
            blob = view.blob(digest)
            if blob is None:
                continue
            case = cases.setdefault(digest, _Case(digest))
            case.namespaces.append(view.name)
            case.records.add(blob.size)
        for digest, size, diff_id in _described(view):
            if digest in cases:
                cases[digest].descriptors.add(size)
                cases[digest].diff_ids |= {diff_id} if diff_id is not None else set()
    for digest, case in cases.items():
        case.images = tuple(i for i in evidence.users.get(digest, ()) if i.namespace in case.namespaces)
    return cases


def _described(view: NamespaceView) -> Iterator[tuple[Digest, int, Digest | None]]:
    """What descriptors say of sizes, and configs of diffIDs."""
    for graph in view.graphs:
        yield from ((d.digest, d.size, None) for d in (graph.group.target, *graph.indexes, *graph.others))
    for _, node in view.manifests():
        yield node.digest, node.descriptor.size, None
        inside = view.content(node.digest)
        if inside is None:
            continue
        yield inside.manifest.config.digest, inside.manifest.config.size, None
        for layer in inside.layers:
            yield layer.descriptor.digest, layer.descriptor.size, layer.diff_id


def _document_flaws(evidence: Evidence) -> dict[Digest, Broken]:
    return {digest: loaded for (digest, _), loaded in evidence.documents.items() if isinstance(loaded, Broken)}


def _judge(evidence: Evidence, case: _Case, flaw: Broken | None) -> Iterator[Finding]:
    """The first thing that is wrong; the rest would only follow from it."""
    state = evidence.files.get(case.digest)
    proof = evidence.proofs.get(case.digest)
    if state is not None and state.kind is FileKind.UNREADABLE:
        yield _unreadable(case, state.error)
    elif state is not None and state.kind is not FileKind.REGULAR:
        yield _no_file(case, state)
    elif (wrong := _sizes(case, state, proof)) is not None:
        yield wrong
    elif proof is not None and proof.kind is not ProofKind.SOUND:
        yield from _proof(case, proof)
    elif flaw is not None:
        yield from _flaw(case, flaw)


def _unreadable(case: _Case, words: str) -> Finding:
    return case.hit(BLOB_UNREADABLE, f"{case.whose} could not be read: {words}", facts={"error": words})


def _no_file(case: _Case, state: FileState) -> Finding:
    if state.kind is FileKind.MISSING:
        text = f"{case.whose} has a record and no file on the disk"
    else:
        text = f"{case.whose} has a record, and where its file should be lies a {state.kind}"
    return case.hit(BLOB_FILE_MISSING, text, cause="no-file", facts={"found": str(state.kind)})


def _sizes(case: _Case, state: FileState | None, proof: Proof | None) -> Finding | None:
    size = state.size if state is not None else None
    if proof is not None and proof.kind is ProofKind.CORRUPT and (size is None or (state and state.at_least)):
        size = proof.size
        state = None
    said = case.records | case.descriptors
    fits = size is None or (state is not None and state.at_least and size >= max(case.records))
    if len(said) == 1 and (fits or size in said):
        return None
    facts: dict[str, Fact] = {
        "record_size": min(case.records),
        "descriptor_size": min(case.descriptors) if case.descriptors else None,
        "file_size": size,
    }
    return case.hit(SIZE_MISMATCH, _size_text(case, size, fits=fits), cause=_size_cause(case, size), facts=facts)


def _size_text(case: _Case, size: int | None, *, fits: bool) -> str:
    if size == 0 and 0 not in case.records:
        return f"{case.whose} is zero-length on the disk; its record says {min(case.records)} bytes"
    if not fits and size not in case.records:
        return f"{case.whose} has {size} bytes on the disk; its record says {min(case.records)}"
    if case.descriptors - case.records:
        wrong = min(case.descriptors - case.records)
        return f"{case.whose} is recorded with {min(case.records)} bytes; its descriptor says {wrong}"
    return f"{case.whose} is recorded with different sizes: {', '.join(map(str, sorted(case.records)))} bytes"


def _size_cause(case: _Case, size: int | None) -> str:
    if size == 0 and 0 not in case.records:
        return "emptied"
    if size is None or size in case.records:
        return "records-disagree"
    return "shortened" if size < min(case.records) else "lengthened"


def _proof(case: _Case, proof: Proof) -> Iterator[Finding]:
    match proof.kind:
        case ProofKind.CORRUPT:
            yield _corrupt(case, proof.actual, proof.detail)
        case ProofKind.UNREADABLE:
            yield _unreadable(case, proof.detail)
        case ProofKind.MISSING:
            yield _no_file(case, FileState(FileKind.MISSING))
        case ProofKind.UNSTEADY:
            text = f"{case.whose} hashed wrong at the first reading and right at the second"
            yield case.hit(READ_UNSTEADY, text, facts={"first": proof.detail or None})
        case _:
            return


def _flaw(case: _Case, flaw: Broken) -> Iterator[Finding]:
    if flaw.flaw is Flaw.CORRUPT:
        yield _corrupt(case, flaw.actual, flaw.detail)
    elif flaw.flaw is Flaw.UNREADABLE:
        yield _unreadable(case, flaw.detail)
    elif flaw.flaw is Flaw.NO_FILE:
        yield _no_file(case, FileState(FileKind.MISSING))


def _corrupt(case: _Case, actual: Digest | None, detail: str) -> Finding:
    how = f": {detail}" if detail else ""
    text = f"the bytes of {case.whose} do not hash to {case.digest.short}{how}"
    facts: dict[str, Fact] = {"actual": str(actual) if actual else None, "detail": detail or None}
    return case.hit(DIGEST_MISMATCH, text, cause="emptied" if actual == EMPTY else "bytes-changed", facts=facts)


def _layer(case: _Case, proof: Proof) -> Iterator[Finding]:
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
    elif case.diff_ids - {layer.diff_id}:
        wanted = min(case.diff_ids - {layer.diff_id})
        text = f"{case.whose} decompresses to something else than the config's diffID {wanted.short}"
        facts: dict[str, Fact] = {"diff_id": str(wanted), "actual": str(layer.diff_id) if layer.diff_id else None}
        yield case.hit(DIFFID_MISMATCH, text, cause="published-so", facts=facts)
