"""From what a message says and what the store holds to the most likely cause, and how sure that is; pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from auditor import checks
from auditor.diagnose import messages
from auditor.diagnose.extract import Mentions
from auditor.diagnose.knowledge import Diagnosis, Known, Message, Use, Verdict
from auditor.diagnose.lookup import Catalogue, known
from auditor.diagnose.messages import Sure
from auditor.digest import EMPTY, Digest
from auditor.findings import Finding, Severity

_RULES = {rule.code: rule for rule in checks.RULES}
#: Causes that the evidence proves; others only speak for it.
_PROVEN = frozenset(
    {
        "missing-blobs-bug",
        "no-file",
        "emptied",
        "shortened",
        "lengthened",
        "bytes-changed",
        "published-so",
        "shared-config-bug",
        "labels-missing",
        "record-absent",
    }
)


def explain(said: Mentions, catalogue: Catalogue | None, *, looked_at: str) -> Diagnosis:
    """Explain a message with a store's evidence, or alone where there is none."""
    objects, unknown = _objects(said, catalogue) if catalogue is not None else ((), ())
    return Diagnosis(
        line=said.line,
        looked_at=looked_at,
        verdict=_verdict(said, objects, catalogue),
        messages=tuple(Message(id=m.id, says=m.says, cause=m.cause, source=m.source) for m in said.known),
        objects=objects,
        unknown=(*unknown, *_limits(said, catalogue)),
    )


def _limits(said: Mentions, catalogue: Catalogue | None) -> Iterator[str]:
    if catalogue is None:
        yield "no store was looked at: this is what the message alone tells"
        return
    if said.known and not said.digests and not said.prefixes and not said.names:
        yield "the message names no digest and no image, so it could not be tied to anything in the store"


def _objects(said: Mentions, catalogue: Catalogue) -> tuple[tuple[Known, ...], tuple[str, ...]]:
    """What the message names, what is at fault first, and what could not be found."""
    found: dict[str, Known] = {}
    unknown: list[str] = []
    for digest in said.digests:
        entry = known(catalogue, digest)
        if entry is not None:
            found.setdefault(entry.id, entry)
        elif digest != EMPTY:
            unknown.append(f"{digest}: no namespace has a record of it, and no image leads to it")
    for prefix in said.prefixes:
        entry, why = _completed(catalogue, prefix)
        unknown += why
        if entry is not None:
            found.setdefault(entry.id, entry)
    for name in said.names:
        entries = list(_images(name, catalogue))
        found.update({entry.id: entry for entry in entries if entry.id not in found})
        if not entries:
            unknown.append(f"no namespace looked at has an image {name}")
    return tuple(sorted(found.values(), key=_interest)), tuple(unknown)


def _completed(catalogue: Catalogue, prefix: str) -> tuple[Known | None, list[str]]:
    """The one digest that a prefix means, or why it means none."""
    fitting = catalogue.complete(prefix)
    if len(fitting) == 1:
        return known(catalogue, fitting[0], asked=prefix), []
    if not fitting:
        return None, [f"no digest here begins with {prefix}"]
    return None, [f"{prefix} fits {len(fitting)} digests; give more of it: {', '.join(fitting[:8])}"]


def _interest(entry: Known) -> tuple[int, bool]:
    """What is at fault comes first, the image as a whole behind the blob that the message names."""
    ranks = [_RULES[code].severity.rank for code in entry.findings if code in _RULES]
    return (min(ranks, default=len(Severity)), entry.kind == "image")


def _images(name: str, catalogue: Catalogue) -> Iterator[Known]:
    for view, walked in catalogue.image(name):
        target = walked.group.target.digest
        base = known(catalogue, target, asked=name)
        codes = [f.code for f in _about_image(catalogue, view.name, target)]
        if base is not None:
            yield Known(
                kind="image",
                id=f"{view.name}/{walked.group.name}",
                asked=name,
                where=base.where,
                file=base.file,
                bytes=base.bytes,
                uses=tuple(Use(image=use.image, media_type=use.media_type, size=use.size) for use in base.uses[:1]),
                findings=tuple(dict.fromkeys(codes)),
            )


def _about_image(catalogue: Catalogue, namespace: str, target: Digest) -> list[Finding]:
    return [
        f
        for f in catalogue.findings
        if any(image.namespace == namespace and image.target == target for image in f.images)
    ]


def _verdict(said: Mentions, objects: Sequence[Known], catalogue: Catalogue | None) -> Verdict:
    finding = _finding(objects, catalogue) if catalogue is not None else None
    if finding is not None:
        return _from_finding(finding, said, objects)
    design = next((o for o in objects if o.by_design), None)
    if design is not None:
        return _from_design(design, said)
    if EMPTY in said.digests:
        return _from_message(next(m for m in messages.MESSAGES if m.id == "empty-download"), said, objects)
    if said.known:
        return _from_message(said.known[0], said, objects)
    if objects:
        return _all_well(objects)
    return _nothing(said)


def _finding(objects: Sequence[Known], catalogue: Catalogue) -> Finding | None:
    """The finding that explains most: about the first object itself, else about the image that it stands for."""
    for entry in objects:
        for finding in catalogue.findings:
            about = finding.subject.digest == entry.id
            whole = entry.kind == "image" and any(f"{i.namespace}/{i.name}" == entry.id for i in finding.images)
            if (about or whole) and finding.severity is not Severity.INFO:
                return finding
    return None


def _from_finding(finding: Finding, said: Mentions, objects: Sequence[Known]) -> Verdict:
    rule = _RULES[finding.code]
    sure = Sure.CERTAIN if finding.cause in _PROVEN else Sure.LIKELY
    return Verdict(
        cause=f"{finding.code}: {finding.message}",
        sure=sure,
        evidence=tuple(_evidence(finding, objects)),
        breaks=rule.matters,
        fine=said.known[0].fine if said.known else "",
        commands=tuple(_commands(finding)),
        source=said.known[0].source if said.known else "",
    )


def _evidence(finding: Finding, objects: Sequence[Known]) -> Iterator[str]:
    entry = next((o for o in objects if o.id == finding.subject.digest), None)
    if finding.cause:
        yield f"the audit's cause is {finding.cause}"
    if entry is None:
        return
    recorded = [where.namespace for where in entry.where if where.recorded]
    absent = [where.namespace for where in entry.where if not where.recorded]
    if absent:
        yield f"no record in {', '.join(absent)}" + (f", but one in {', '.join(recorded)}" if recorded else "")
    elif recorded:
        yield f"recorded in {', '.join(recorded)}"
    if entry.file:
        yield f"its file: {entry.file}"
    if entry.bytes:
        yield f"its bytes: {entry.bytes}"
    there = [f"{m.snapshotter} in {m.namespace}" for m in entry.snapshots if m.present]
    if entry.snapshots:
        yield f"its snapshot is on {', '.join(there)}" if there else "no snapshotter has its snapshot"
    if entry.twins:
        yield f"the same layer is here compressed otherwise: {', '.join(entry.twins[:3])}"


def _commands(finding: Finding) -> Iterator[str]:
    """First what only looks, then what heals, then what containerd's own tools can do."""
    image = finding.images[0] if finding.images else None
    name, namespace = (image.name, image.namespace) if image is not None else ("", finding.namespace)
    target = f"-n {namespace} {name}".rstrip()
    yield f"auditor tree {target}" if image is not None else f"auditor check -n {namespace}"
    if finding.hint.startswith("auditor repair"):
        yield f"auditor repair {target} --dry-run"
        yield f"auditor repair {target}"
    elif finding.hint:
        yield finding.hint
    if finding.code in ("snapshot-without-blob", "shared-config-layers") and image is not None:
        yield f"ctr -n {namespace} content fetch {name}   (from the registry; adds what is absent)"
    if finding.code in ("incomplete-image", "missing-manifest", "missing-config") and image is not None:
        yield f"crictl rmi {name} && crictl pull {name}   (when no container needs it)"


def _from_design(entry: Known, said: Mentions) -> Verdict:
    image = entry.uses[0].image if entry.uses else None
    commands = [f"auditor tree -n {image.namespace} {image.name}"] if image is not None else []
    if image is not None and "discards" in entry.by_design:
        commands.append(f"auditor repair -n {image.namespace} {image.name} --include-discarded --dry-run")
    if image is not None and "platform" in entry.by_design:
        commands.append(f"ctr -n {image.namespace} images export --platform OS/ARCH FILE {image.name}")
        commands.append(f"ctr -n {image.namespace} content fetch --all-platforms {image.name}")
    return Verdict(
        cause=f"absent by design: {entry.by_design}",
        sure=Sure.LIKELY if "discards" in entry.by_design else Sure.CERTAIN,
        evidence=(f"the {entry.kind} {entry.id} is absent, and {entry.by_design}",),
        breaks="Exporting, pushing or serving this blob from this node.",
        fine="Running the image here. Nothing is damaged.",
        commands=tuple(commands),
        source=said.known[0].source if said.known else "",
    )


def _from_message(message: messages.Known, said: Mentions, objects: Sequence[Known]) -> Verdict:
    """What the message alone tells; the store has nothing against the objects it names, or was not looked at."""
    evidence = [f"the message is known: {message.says}"]
    if objects:
        evidence.append("the store was looked at: what the message names is there now, and nothing is wrong with it")
    name = said.names[0] if said.names else "IMAGE"
    digest = said.digests[0] if said.digests else "DIGEST"
    return Verdict(
        cause=message.cause,
        sure=message.sure if not objects else Sure.POSSIBLE,
        evidence=tuple(evidence),
        breaks=message.breaks,
        fine=message.fine,
        commands=tuple(_filled(step, name=name, digest=digest) for step in message.do),
        source=message.source,
    )


def _filled(step: str, *, name: str, digest: str) -> str:
    return step.replace("{image}", name).replace("{digest}", digest).replace("{namespace}", "k8s.io")


def _all_well(objects: Sequence[Known]) -> Verdict:
    entry = objects[0]
    evidence = [f"the {entry.kind} {entry.id} is here"]
    if entry.bytes:
        evidence.append(f"its bytes: {entry.bytes}")
    return Verdict(
        cause="nothing is wrong with it in this store",
        sure=Sure.CERTAIN if entry.bytes.startswith("right") else Sure.LIKELY,
        evidence=tuple(evidence),
        commands=("auditor check --verify layers",),
    )


def _nothing(said: Mentions) -> Verdict:
    what = "what was asked about is not known here" if said.digests or said.prefixes or said.names else "unknown text"
    return Verdict(
        cause=f"no cause can be named: {what}",
        sure=Sure.POSSIBLE,
        commands=(
            "auditor check",
            "auditor diagnose with the whole message, as containerd, ctr, crictl, kubelet or docker printed it",
            "journalctl -u containerd --since -1h | auditor diagnose -",
        ),
    )
