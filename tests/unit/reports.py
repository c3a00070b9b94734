"""Reports as an audit makes them: a small node, one with a little of everything, thousands of images, hostile names."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from auditor.model.findings import (
    BlobCounts,
    ByteCounts,
    Finding,
    ImageCounts,
    ImageRef,
    ImageState,
    Node,
    PlatformState,
    Report,
    Severity,
    SnapshotCounts,
    Source,
    Status,
    Subject,
    Summary,
    Tool,
    Verify,
    count,
    order,
)

AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
MIB = 1 << 20


def digest(text: str) -> str:
    """A digest that looks like one."""
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def layer(index: int, text: str, *, size: int = 12 * MIB, state: str = "verified") -> Node:
    """A layer; the same text is the same layer wherever it is used."""
    return Node(kind=f"layer {index + 1}", digest=digest(text), size=size, state=state)


def image(
    name: str, layers: Sequence[Node], *, status: Status = Status.SOUND, namespace: str = "k8s.io", index: bool = False
) -> ImageState:
    """An image of one platform, with the index that a registry has above it where `index` says so."""
    config = Node(kind="config", digest=digest(f"config {name}"), size=7_000, state="verified")
    root = Node(
        kind="manifest",
        digest=digest(f"manifest {name}"),
        size=1_500,
        state="verified",
        platform="linux/amd64",
        children=(config, *layers),
    )
    platform = PlatformState(platform="linux/amd64", manifest=root.digest, status=status, unpacked={"overlayfs": True})
    if index:
        others = tuple(
            Node(kind="manifest", digest=digest(f"{name} {p}"), size=1_500, state="not pulled", platform=p)
            for p in ("linux/arm64", "linux/s390x", "linux/ppc64le")
        )
        root = Node(
            kind="index", digest=digest(f"index {name}"), size=2_000, state="verified", children=(root, *others)
        )
    names = (name, f"{name.rpartition(':')[0] or name}@{root.digest}", config.digest)
    return ImageState(
        namespace=namespace, names=names, target=root.digest, status=status, platforms=(platform,), tree=root
    )


def ref(state: ImageState, *, role: str = "layer", index: int | None = None) -> ImageRef:
    """The image as a finding names it."""
    return ImageRef(
        namespace=state.namespace,
        name=state.names[0],
        names=state.names,
        target=state.target,
        platform="linux/amd64",
        manifest=state.platforms[0].manifest,
        role=role,
        layer=index,
        layer_number=None if index is None else index + 1,
    )


def finding(
    code: str, severity: Severity, node: Node, images: Sequence[ImageRef], message: str, *, cause: str | None = None
) -> Finding:
    """A finding about a blob."""
    name = images[0].name if images else ""
    return Finding(
        code=code,
        severity=severity,
        namespace="k8s.io",
        subject=Subject(kind="layer", digest=node.digest),
        message=message,
        cause=cause,
        images=tuple(images),
        facts={"size": node.size},
        hint=f"auditor repair -n k8s.io {name}" if name else "",
    )


def report(
    images: Sequence[ImageState],
    findings: Sequence[Finding] = (),
    *,
    host: str = "node-a",
    address: str = "/run/containerd/containerd.sock",
    verify: Verify = Verify.DIGESTS,
    incomplete: tuple[str, ...] = (),
    at: datetime = AT,
) -> Report:
    """A report with the counts that follow from its parts."""
    nodes: dict[str, Node] = {}
    for state in images:
        waiting = [state.tree] if state.tree else []
        while waiting:
            node = waiting.pop()
            nodes[node.digest] = node
            waiting.extend(node.children)
    here = [n for n in nodes.values() if n.state in ("verified", "present", "corrupt", "no file", "unreadable")]
    return Report(
        tool=Tool(name="auditor", version="0.1.0"),
        host=host,
        source=Source(kind="containerd", address=address, version="2.1.9"),
        started_at=at - timedelta(seconds=12.5),
        finished_at=at,
        duration_seconds=12.5,
        verify=verify,
        complete=not incomplete,
        incomplete=incomplete,
        summary=Summary(
            images=ImageCounts(
                total=len(images),
                sound=sum(i.status is Status.SOUND for i in images),
                damaged=sum(i.status is Status.DAMAGED for i in images),
            ),
            blobs=BlobCounts(
                total=len(nodes),
                present=len(here),
                absent=len(nodes) - len(here),
                verified=sum(n.state == "verified" for n in here),
                corrupt=sum(n.state == "corrupt" for n in here),
                unreadable=sum(n.state == "unreadable" for n in here),
            ),
            bytes=ByteCounts(present=sum(n.size for n in here), read=sum(n.size for n in here)),
            snapshots=SnapshotCounts(total=3 * len(images)),
            findings=count(findings),
        ),
        findings=order(findings),
        images=tuple(sorted(images, key=lambda i: (i.namespace, i.names))),
    )


def sound() -> Report:
    """A node with two images that share their lower layers and nothing wrong."""
    base = [layer(0, "debian", size=48 * MIB), layer(1, "tls", size=3 * MIB)]
    return report(
        [
            image("registry.example/shop/api:1.4", [*base, layer(2, "api")]),
            image("registry.example/shop/web:1.4", [*base, layer(2, "web")]),
        ]
    )


def damaged() -> Report:
    """A node with the missing-blobs bug, a flipped bit, a layer discarded by design, and the rest sound."""
    debian, tls, go = layer(0, "debian", size=48 * MIB), layer(1, "tls", size=3 * MIB), layer(1, "go", size=210 * MIB)
    skipped = [layer(i, f"skipped {i}", size=31 * MIB, state="skipped by the unpacker") for i in range(2)]
    flipped = layer(2, "flipped", size=22 * MIB, state="corrupt")
    discarded = [layer(i, f"discarded {i}", size=16 * MIB, state="discarded") for i in range(3)]
    unread = layer(2, "unread", size=64 * MIB, state="present")
    bug = image(
        "registry.example/shop/checkout:2.0.1", [*skipped, layer(2, "checkout")], status=Status.DAMAGED, index=True
    )
    bad = image("registry.example/shop/payments:7", [debian, tls, flipped], status=Status.DAMAGED)
    worse = image("registry.example/shop/refunds:7", [debian, tls, flipped, layer(3, "refunds")], status=Status.DAMAGED)
    names = ("api:1.4", "web:1.4", "search:0.9", "mail:3.2", "cart:2.2", "ads:11", "login:5.0", "feed:1.1")
    fine = [image(f"registry.example/shop/{n}", [debian, tls, layer(2, n, size=9 * MIB)], index=True) for n in names]
    built = [image(f"ghcr.io/acme/builder:{n}", [debian, go, layer(2, f"b{n}")]) for n in ("1.22", "1.23")]
    lean = image("docker.io/library/redis:7.2-alpine", discarded)
    lazy = image("docker.io/library/postgres:16", [debian, unread])
    found = [
        finding(
            "snapshot-without-blob",
            Severity.ERROR,
            node,
            [ref(bug, index=i)],
            f"layer {i + 1} of {bug.names[0]} (linux/amd64): blob missing: containerd skipped its download because an "
            "identical layer (other compression, sha256:361a4347c2e9) was already unpacked",
            cause="missing-blobs-bug",
        )
        for i, node in enumerate(skipped)
    ]
    found.append(
        finding(
            "digest-mismatch",
            Severity.CRITICAL,
            flipped,
            [ref(bad, index=2), ref(worse, index=2)],
            f"layer 3 of {bad.names[0]} (linux/amd64) and 1 more image: content does not match its digest "
            f"{flipped.digest[:19]}: other bytes of the same length",
            cause="bytes-changed",
        )
    )
    found.append(
        finding(
            "gc-unprotected",
            Severity.WARNING,
            unread,
            [ref(lazy, index=1)],
            f"layer 2 of {lazy.names[0]} (linux/amd64): present, and not protected from garbage collection",
        )
    )
    found += [
        finding("blob-discarded", Severity.INFO, node, [ref(lean, index=i)], f"layer {i + 1} was discarded")
        for i, node in enumerate(discarded)
    ]
    return report([bug, bad, worse, *fine, *built, lean, lazy], found, host="worker-07.fra.example")


def large(images: int) -> Report:
    """A node of many images with eight layers each, of which one in a hundred is damaged."""
    states, found = [], []
    for number in range(images):
        broken = number % 100 == 7
        layers = [layer(i, f"base {number % 40} {i}") for i in range(4)]
        layers += [
            layer(i, f"own {number} {i}", state="corrupt" if broken and i == 6 else "verified") for i in range(4, 8)
        ]
        status = Status.DAMAGED if broken else Status.SOUND
        states.append(
            image(f"registry.example/team-{number % 37}/service-{number}:1.{number}", layers, status=status, index=True)
        )
        if broken:
            text = f"layer 7 of {states[-1].names[0]} (linux/amd64): content does not match its digest"
            found.append(finding("digest-mismatch", Severity.CRITICAL, layers[6], [ref(states[-1], index=6)], text))
        found.append(
            finding("platform-not-pulled", Severity.INFO, layers[0], [ref(states[-1])], "linux/arm64 is not here")
        )
    return report(states, found)


#: What a stranger may put where we print a name; each must stay text in every format.
HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"><svg onload=alert(1)>' onmouseover='alert(1)",
    "</style><script>alert(1)</script><!--",
    "{{ 7*7 }}{% raw %}",
    "\x1b]0;owned\x07\x1b[31mred\x1b[0m\x00\x08\x7f\x9b31m",
    "a\r\nb\u2028c\u2029d\x0be",
    "safe\u202egnp.exe\u2066\u200b\ufeff",
    "]]></failure><system-out>&lol;<![CDATA[",
    "`code` **bold** [link](javascript:alert(1)) | cell | @everyone http://evil.example #1",
    'x"} 1\n# HELP evil evil\nevil{a="b"} 2',
    "x" * 4_000,
    "é漢字🚢" * 200,
    "../../etc/passwd; rm -rf / | 'critical'=0;;;",
)


def hostile() -> Report:
    """A damaged node on which every name and word from outside is hostile."""
    states, found = [], []
    for number, name in enumerate(HOSTILE):
        state = image(name, [layer(0, f"h{number}", state="corrupt")], status=Status.DAMAGED, namespace=name)
        states.append(replace(state, names=(name, f"{name}@x", name[::-1])))
        found.append(
            replace(
                finding("digest-mismatch", Severity.CRITICAL, layer(0, f"h{number}"), [ref(states[-1])], f"of {name}"),
                cause=name,
                hint=f"auditor repair {name}",
                namespace=name,
                facts={"detail": name},
            )
        )
        found.append(
            Finding(
                code="stale-ingest",
                severity=Severity.WARNING,
                namespace=name,
                subject=Subject(kind=name[:50], name=name),
                message=name,
            )
        )
    made = report(states, found, host=HOSTILE[0] + HOSTILE[7], address=HOSTILE[10], incomplete=HOSTILE)
    return replace(made, tool=Tool(name=HOSTILE[1], version=HOSTILE[5]))
