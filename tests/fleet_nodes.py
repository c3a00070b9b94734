"""Reports of a fleet with planted causes: for the tests of `auditor fleet` and for its benchmark."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from auditor.model.findings import (
    Finding,
    ImageCounts,
    ImageRef,
    ImageState,
    Node,
    PlatformState,
    Report,
    Severity,
    Source,
    Status,
    Subject,
    Summary,
    Tool,
    Verify,
    count,
)

DAY = datetime(2026, 11, 28, 1, tzinfo=UTC)
RELEASES = ("1.6.20", "1.7.24", "1.7.27", "2.0.4", "2.1.2")
DISKS = ("ALPHA 960", "BETA 1920", "GAMMA 3840", "DELTA 480")
BAD_DISK, MIRROR_ZONE = "OMEGA 512", "zone-c"


def sha(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


BASES = tuple(sha(f"base-{n}") for n in range(2))
#: The layer that a mirror delivered with other bytes.
MIRRORED = sha("layer-7-0")


@dataclass(frozen=True)
class Planted:
    """What was planted: names of nodes by cause."""

    nodes: list[str]
    bad_disk: set[str] = field(default_factory=set)
    mirror: set[str] = field(default_factory=set)
    bug: set[str] = field(default_factory=set)
    single: set[str] = field(default_factory=set)

    @property
    def damaged(self) -> set[str]:
        return self.bad_disk | self.mirror | self.bug | self.single


def image(label: str, *, state: Callable[[str], str] = lambda _digest: "verified") -> ImageState:
    """An image of two shared base layers and one to five of its own, with its tree."""
    own = 1 + int(hashlib.sha256(label.encode()).hexdigest()[:4], 16) % 5
    layers = [*BASES, *(sha(f"layer-{label}-{n}") for n in range(own))]
    children = [Node(kind="config", digest=sha(f"config-{label}"), size=4_000, state=state(sha(f"config-{label}")))]
    children += [Node(kind="layer", digest=digest, size=30_000_000, state=state(digest)) for digest in layers]
    manifest = Node(
        kind="manifest",
        digest=sha(f"manifest-{label}"),
        size=1_500,
        state="verified",
        platform="linux/amd64",
        children=tuple(children),
    )
    tree = Node(kind="index", digest=sha(f"index-{label}"), size=900, state="verified", children=(manifest,))
    whole = all(node.state == "verified" for node in children)
    status = Status.SOUND if whole else Status.DAMAGED
    name = f"registry.example.com/team-{label}/service-{label}:1.{own}"
    return ImageState(
        namespace="k8s.io",
        names=(name, f"registry.example.com/team-{label}/service-{label}@{tree.digest}"),
        target=tree.digest,
        status=status,
        platforms=(PlatformState("linux/amd64", manifest.digest, status, {"overlayfs": True}),),
        tree=tree,
    )


def finding(code: str, digest: str, of: ImageState, *, cause: str | None, severity: Severity) -> Finding:
    return Finding(
        code=code,
        severity=severity,
        namespace="k8s.io",
        subject=Subject(kind="layer", digest=digest),
        message=f"layer of {of.names[0]}",
        cause=cause,
        images=(ImageRef(namespace="k8s.io", name=of.names[0], target=of.target, role="layer", layer=2),),
    )


def report(
    host: str, images: tuple[ImageState, ...], findings: tuple[Finding, ...], facts: dict[str, str], *, at: datetime
) -> Report:
    damaged = sum(each.status is Status.DAMAGED for each in images)
    return Report(
        tool=Tool("auditor", "0.2.0"),
        host=host,
        source=Source("containerd", "/run/containerd/containerd.sock", facts.get("containerd", "2.1.2")),
        started_at=at,
        finished_at=at + timedelta(seconds=3),
        duration_seconds=3.0,
        verify=Verify.LAYERS,
        complete=True,
        summary=Summary(
            images=ImageCounts(total=len(images), sound=len(images) - damaged, damaged=damaged),
            findings=count(findings),
        ),
        findings=findings,
        images=images,
        facts={name: value for name, value in facts.items() if name != "containerd"},
    )


def facts_of(number: int, dice: random.Random) -> dict[str, str]:
    return {
        "containerd": dice.choice(RELEASES),
        "kernel": dice.choice(("6.1.0-18", "6.8.0-45", "6.12.3")),
        "filesystem": dice.choice(("ext4", "xfs")),
        "disk_model": BAD_DISK if number % 160 == 0 else dice.choice(DISKS),
        "zone": f"zone-{'abc'[number % 3]}",
    }


def fleet(
    nodes: int, *, images: int = 12, catalogue: int = 48, own: bool = False, seed: int = 1, planted: bool = True
) -> Iterator[tuple[str, bytes]]:
    """Yield each node's name and its report as JSON on one line.

    Each node has `images` of a catalogue; `own` gives every node images of its own.
    """
    dice = random.Random(seed)
    known = [] if own else [image(str(n)) for n in range(catalogue)]
    encoded = [msgspec.json.encode(each) for each in known]
    for number in range(nodes):
        host, facts = f"node-{number:05}", facts_of(number, dice)
        numbers = [] if own else sorted(dice.sample(range(catalogue), images))
        held = [image(f"{number}-{n}") for n in range(images)] if own else [known[n] for n in numbers]
        made = _damaged(held, facts, dice) if planted else None
        at = DAY + timedelta(seconds=number)
        if made is not None:
            yield host, msgspec.json.encode(report(host, *made, facts, at=at))
            continue
        raw = msgspec.json.encode(report(host, (), (), facts, at=at))
        counts = msgspec.json.encode(ImageCounts(total=len(held), sound=len(held)))
        whole = b",".join(map(msgspec.json.encode, held) if own else (encoded[n] for n in numbers))
        raw = raw.replace(b'"images":[]', b'"images":[' + whole + b"]", 1)
        yield host, raw.replace(msgspec.json.encode(ImageCounts()), counts, 1)


def cause_of(facts: dict[str, str], dice: random.Random) -> str:
    """The cause that is planted on a node; empty for most."""
    roll = dice.random()
    if facts["disk_model"] == BAD_DISK and roll < 0.7:
        return "disk"
    if facts["zone"] == MIRROR_ZONE and roll < 0.035:
        return "mirror"
    if facts["containerd"] in RELEASES[:2] and roll < 0.08:
        return "bug"
    return "single" if roll > 0.997 else ""


def _damaged(
    held: list[ImageState], facts: dict[str, str], dice: random.Random
) -> tuple[tuple[ImageState, ...], tuple[Finding, ...]] | None:
    cause = cause_of(facts, dice)
    if not cause:
        return None
    bad: dict[str, tuple[str, str | None, Severity, str]] = {}
    victims = dice.sample(held, 3 if cause == "disk" else 1)
    for victim in victims:
        digest = _layers(victim)[-1]
        if cause == "bug":
            bad[digest] = ("blob-missing", "missing-blobs-bug", Severity.ERROR, "missing")
        else:
            bad[digest] = ("digest-mismatch", "bytes-changed", Severity.CRITICAL, "corrupt")
    if cause == "mirror":
        bad = {MIRRORED: ("digest-mismatch", "bytes-changed", Severity.CRITICAL, "corrupt")}
        if not any(MIRRORED in _layers(each) for each in held):
            held = [*held, image("7")]
    images = tuple(_with(each, bad) for each in held)
    findings = tuple(
        finding(code, digest, next(each for each in images if digest in _layers(each)), cause=why, severity=severity)
        for digest, (code, why, severity, _) in bad.items()
    )
    return images, findings


def _layers(each: ImageState) -> list[str]:
    assert each.tree is not None
    return [node.digest for node in each.tree.children[0].children if node.kind == "layer"]


def _with(each: ImageState, bad: dict[str, tuple[str, str | None, Severity, str]]) -> ImageState:
    if not bad.keys() & set(_layers(each)):
        return each
    label = each.names[0].rpartition("service-")[2].partition(":")[0]
    return image(label, state=lambda digest: bad[digest][3] if digest in bad else "verified")


def planted_in(reports: Iterable[tuple[str, bytes]]) -> Planted:
    """Return what `fleet` planted, from the reports themselves."""
    found = Planted([])
    for host, raw in reports:
        found.nodes.append(host)
        if b'"findings":[]' in raw:
            continue
        made = msgspec.json.decode(raw, type=Report)
        codes = {each.code for each in made.findings}
        digests = {each.subject.digest for each in made.findings}
        if "blob-missing" in codes:
            found.bug.add(host)
        elif digests == {MIRRORED}:
            found.mirror.add(host)
        elif len(digests) > 1:
            found.bad_disk.add(host)
        else:
            found.single.add(host)
    return found


def write(folder: Path, reports: Iterable[tuple[str, bytes]]) -> list[str]:
    """Write a file for each node; return the names of the nodes."""
    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for host, raw in reports:
        (folder / f"{host}.json").write_bytes(raw)
        names.append(host)
    return names
