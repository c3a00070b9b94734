"""Each rule on a store with one fault: it says its code, of the right subject, and no other rule over info speaks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import msgspec
import pytest

from auditor import checks
from auditor.checks.garbage_collection import PINNED
from auditor.checks.rule import OFFLINE_REMEDY, Rule, at_address, at_root
from auditor.model import oci
from auditor.model.command_line import command
from auditor.model.digest import EMPTY, Digest
from auditor.model.findings import Finding, Severity, Verify
from auditor.model.snapshot_files import Difference, Differences, Kind, SnapshotFiles, Usage
from auditor.model.store import (
    Container,
    DamageKind,
    Image,
    LayerVerification,
    LayerVerificationKind,
    LeftoverKind,
    Leftovers,
    Resource,
    StoreDamage,
    Verification,
    VerificationKind,
)
from tests.unit.build import (
    APP,
    BASE,
    CONTENT,
    MIDDLE,
    NOW,
    OVERLAY,
    TOP,
    Document,
    Layer,
    World,
    attestation,
    image,
    index,
)

PARAMETER = f"{oci.OCI_MANIFEST};a=b"
ARM = image(Layer("arm base"), platform="linux/arm64")
BOTH = index(APP, ARM)

#: What puts one fault into a store, and gives its subject; in a class each, by the code that it should be found as.
Fault = Callable[[World], str]
FAULTS: dict[str, Fault] = {}


def fault(code: str) -> Callable[[Fault], Fault]:
    def put(make: Fault) -> Fault:
        FAULTS[code] = make
        return make

    return put


@fault("snapshot-without-blob")
def _(world: World) -> str:
    world.pull(APP)
    world.drop(BASE.digest)
    return BASE.digest


@fault("incomplete-image")
def _(world: World) -> str:
    world.pull(APP, unpack=False)
    world.drop(BASE.digest)
    return BASE.digest


@fault("missing-manifest")
def _(world: World) -> str:
    world.pull(APP)
    world.drop(APP.digest, APP.config.digest, *(layer.digest for layer in APP.layers))
    return APP.digest


def named(world: World, data: bytes, media_type: str, name: str = "mirror/app:1") -> str:
    """Write a blob, and an image record that leads to it."""
    digest = world.put(data)
    target = oci.Descriptor(media_type, digest, len(data))
    world.change(images=(*world.inventory.images, Image(world.namespace, name, target)))
    return digest


def documents_only(world: World, whole: Document = BOTH) -> None:
    """Fetch an index as `ctr content fetch --metadata-only` does."""
    world.pull(whole, platforms=("linux/amd64", "linux/arm64"), unpack=False)
    below = {child.digest: child.layers for child in whole.below}
    world.drop(*{layer.digest for layers in below.values() for layer in layers})
    for digest in below:
        world.relabel(digest, lambda old: {**old, "containerd.io/distribution.source.registry": "app"})


LOGIN = b"<html><body>Sign in to continue</body></html>"


@fault("not-an-image")
def _(world: World) -> str:
    return named(world, LOGIN, "text/html; charset=utf-8")


@fault("image-type-unknown")
def _(world: World) -> str:
    world.pull(APP)
    target = msgspec.structs.replace(world.inventory.images[0].target, media_type="application/json")
    world.change(images=(msgspec.structs.replace(world.inventory.images[0], target=target),))
    return APP.digest


@fault("name-mismatch")
def _(world: World) -> str:
    name = f"registry/app@{Digest.of(b'another')}"
    world.pull(APP, name)
    return name


@fault("container-orphaned")
def _(world: World) -> str:
    world.pull(APP)
    name = world.inventory.images[0].name
    here = Container(world.namespace, "here", name, OVERLAY, APP.chain[-1])
    unlisted = Container(world.namespace, "unlisted", name, "native", "gone")
    bare = Container(world.namespace, "bare")
    lost = Container(world.namespace, "lost", name, OVERLAY, "gone")
    world.change(containers=(here, unlisted, bare, lost))
    return "lost"


@fault("missing-config")
def _(world: World) -> str:
    world.pull(APP)
    world.drop(APP.config.digest)
    return APP.config.digest


@fault("shared-config-layers")
def _(world: World) -> str:
    twin = Layer(BASE.content, "zstd")
    first, second = image(BASE), image(twin)
    world.pull(index(first, second), platforms=("linux/amd64",))
    world.drop(BASE.digest)
    return BASE.digest


@fault("blob-file-missing")
def _(world: World) -> str:
    world.pull(APP)
    del world.store.content[MIDDLE.digest]
    return MIDDLE.digest


@fault("size-mismatch")
def _(world: World) -> str:
    world.pull(APP)
    world.store.content[MIDDLE.digest] = b""
    return MIDDLE.digest


@fault("digest-mismatch")
def _(world: World) -> str:
    world.pull(APP)
    world.store.content[APP.config.digest] = APP.config.data[:-1] + b"]"
    return APP.config.digest


@fault("blob-unreadable")
def _(world: World) -> str:
    world.pull(APP)
    world.verifications[TOP.digest] = Verification(TOP.digest, VerificationKind.UNREADABLE, detail="Input/output error")
    return TOP.digest


@fault("read-unsteady")
def _(world: World) -> str:
    world.pull(APP)
    world.verifications[TOP.digest] = Verification(
        TOP.digest, VerificationKind.UNSTEADY, len(TOP.data), TOP.digest, "one bit differs"
    )
    return TOP.digest


def layer_proof(world: World, kind: LayerVerificationKind, diff_id: Digest | None) -> str:
    world.pull(APP)
    verification = Verification(
        TOP.digest,
        VerificationKind.SOUND,
        len(TOP.data),
        TOP.digest,
        layer=LayerVerification(kind, diff_id, detail="so"),
    )
    world.verifications[TOP.digest] = verification
    return TOP.digest


@fault("diffid-mismatch")
def _(world: World) -> str:
    return layer_proof(world, LayerVerificationKind.DIFFERS, BASE.diff_id)


@fault("layer-undecodable")
def _(world: World) -> str:
    return layer_proof(world, LayerVerificationKind.UNDECODABLE, None)


@fault("layer-unverifiable")
def _(world: World) -> str:
    return layer_proof(world, LayerVerificationKind.UNVERIFIABLE, None)


@fault("malformed-manifest")
def _(world: World) -> str:
    raw = b'{"config": 1}'
    broken = msgspec.structs.replace(APP.target, digest=Digest.of(raw), size=len(raw))
    world.name(APP, "app:1")
    world.change(images=(msgspec.structs.replace(world.inventory.images[0], target=broken),))
    return world.put(raw)


@fault("layer-count-mismatch")
def _(world: World) -> str:
    wrong = image(BASE, MIDDLE, diff_ids=[BASE.diff_id])
    world.pull(wrong, unpack=False)
    return wrong.digest


@fault("media-type-mismatch")
def _(world: World) -> str:
    other = msgspec.json.decode(APP.data)
    raw = msgspec.json.encode(other | {"mediaType": oci.DOCKER_MANIFEST})
    world.pull(APP)
    world.drop(APP.digest)
    named = msgspec.structs.replace(APP.target, digest=Digest.of(raw), size=len(raw))
    world.change(images=(msgspec.structs.replace(world.inventory.images[0], target=named),))
    labels = {f"containerd.io/gc.ref.content.l.{i}": str(layer.digest) for i, layer in enumerate(APP.layers)}
    return world.put(raw, **{"containerd.io/gc.ref.content.config": APP.config.digest}, **labels)


@fault("broken-snapshot-chain")
def _(world: World) -> str:
    world.pull(APP)
    world.drop_snapshots(APP.chain[1])
    return f"{OVERLAY}/{APP.chain[1]}"


@fault("snapshot-missing")
def _(world: World) -> str:
    world.pull(APP)
    world.drop_snapshots(*APP.chain)
    return f"{OVERLAY}/{APP.chain[-1]}"


@fault("gc-unprotected")
def _(world: World) -> str:
    world.pull(APP)
    world.unlabel(APP.digest)
    return APP.digest


@fault("stale-ingest")
def _(world: World) -> str:
    world.pull(APP)
    world.ingest("layer-x", age=timedelta(days=2))
    return "layer-x"


@fault("suspect-storage")
def _(world: World) -> str:
    for n in range(3):
        own = Layer(f"own {n}")
        world.pull(image(own), f"app:{n}")
        world.store.content[own.digest] = b"bad"
    return "content"


def damaged(world: World, kind: DamageKind) -> str:
    world.pull(APP)
    fault_of_store = StoreDamage(kind, "meta.db", "meta.db is damaged")
    world.store.description = msgspec.structs.replace(world.store.info(), damage=(fault_of_store,))
    return "meta.db"


for damage_kind in DamageKind:
    fault(damage_kind.value)(partial(damaged, kind=damage_kind))


@fault("blob-discarded")
def _(world: World) -> str:
    world.pull(image(BASE))
    world.unlabel(image(BASE).digest, BASE.digest)
    world.drop(BASE.digest)
    return BASE.digest


@fault("blob-lazy")
def _(world: World) -> str:
    world.pull(image(BASE), unpack=False)
    world.unpack(image(BASE), **{"containerd.io/snapshot/remote": ""})
    world.drop(BASE.digest)
    return BASE.digest


@fault("pull-in-progress")
def _(world: World) -> str:
    world.pull(APP, unpack=False)
    world.drop(TOP.digest)
    world.ingest(f"layer-{TOP.digest}", age=timedelta(seconds=5))
    return TOP.digest


@fault("foreign-layer")
def _(world: World) -> str:
    foreign = Layer("windows", media_type="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
    world.pull(image(foreign, BASE), unpack=False)
    world.drop(foreign.digest)
    return foreign.digest


@fault("platform-not-pulled")
def _(world: World) -> str:
    world.pull(index(APP, ARM))
    return ARM.digest


@fault("no-matching-platform")
def _(world: World) -> str:
    world.pull(index(ARM), unpack=False)
    return index(ARM).digest


@fault("malformed-descriptor")
def _(world: World) -> str:
    listed = msgspec.json.decode(index(APP, ARM).data)
    listed["manifests"][1]["digest"] = "sha256:a"
    raw = msgspec.json.encode(listed)
    world.pull(APP)
    named = msgspec.structs.replace(index(APP, ARM).target, digest=Digest.of(raw), size=len(raw))
    world.change(images=(msgspec.structs.replace(world.inventory.images[0], target=named),))
    return world.put(raw, **{"containerd.io/gc.ref.content.m.0": APP.digest})


@fault("attestation-not-pulled")
def _(world: World) -> str:
    world.pull(index(APP, attestation(APP)))
    return attestation(APP).digest


@fault("unknown-media-type")
def _(world: World) -> str:
    other = image(media_type="application/vnd.example+json")
    world.pull(index(APP, other))
    return other.digest


@fault("not-unpacked")
def _(world: World) -> str:
    world.pull(APP, unpack=False)
    return APP.digest


@fault("orphan-blob")
def _(world: World) -> str:
    world.pull(APP)
    return world.put(b"nobody's")


@fault("expired-lease")
def _(world: World) -> str:
    world.pull(APP)
    world.lease("old", labels={"containerd.io/gc.expire": (NOW - timedelta(hours=1)).isoformat()})
    return "old"


@fault("lease-pins-content")
def _(world: World) -> str:
    world.pull(APP)
    digest = world.put(b"model")
    blob = msgspec.structs.replace(world.inventory.blobs[digest], size=PINNED)
    world.change(blobs={**world.inventory.blobs, digest: blob})
    world.store.content[digest] = b"model"
    world.lease("forever", Resource("content", digest))
    return "forever"


@fault("layers-not-fetched")
def _(world: World) -> str:
    documents_only(world)
    return APP.digest


@fault("layer-type-unsupported")
def _(world: World) -> str:
    erofs = Layer("erofs", media_type="application/vnd.oci.image.layer.v1.erofs")
    world.store.description = msgspec.structs.replace(world.store.info(), differs=("walking",))
    world.pull(image(BASE, erofs), unpack=False)
    return erofs.digest


@fault("undeletable-files")
def _(world: World) -> str:
    world.pull(APP)
    world.store.description = msgspec.structs.replace(world.store.info(), content_root=Path("/no/content"))
    world.undeletable = {"/no/content/blobs/sha256/ab": 4096, "/no/content/blobs/sha256": 0}
    return "/no/content"


@fault("leftover-files")
def _(world: World) -> str:
    world.pull(APP)
    world.leftovers = (Leftovers(LeftoverKind.INGEST, "/content/ingest", 9, 4096, "ab12"),)
    return "/content/ingest"


def unpacked_as(code: str, **found: object) -> None:
    """A fault of the files of APP's lowest snapshot."""

    @fault(code)
    def _(world: World) -> str:
        world.pull(APP)
        name = APP.chain[0]
        files = SnapshotFiles(id="7", path="/snapshots/7/fs")
        key = (world.namespace, OVERLAY, str(name))
        world.snapshot_files[key] = msgspec.structs.replace(files, **found)
        return f"{OVERLAY}/{name}"


def differing(*kinds: Kind) -> Differences:
    return Differences(tuple(Difference(b"usr/%d" % at, kind) for at, kind in enumerate(kinds)), expected=9)


unpacked_as("snapshot-directory-missing", missing=True)
unpacked_as("snapshot-empty", recorded=Usage(8192, 5), counted=Usage(4096, 1))
unpacked_as("snapshot-usage-differs", recorded=Usage(8192, 5), counted=Usage(8192, 4))
unpacked_as("snapshot-damaged", differences=differing(Kind.EMPTY, Kind.MISSING))
unpacked_as("snapshot-whiteouts-lost", differences=differing(Kind.WHITEOUT_MISSING))
unpacked_as("snapshot-attributes", differences=differing(Kind.MODE))
unpacked_as("snapshot-extra-files", differences=differing(Kind.EXTRA))
unpacked_as("snapshot-unverifiable", reason="its layer's blob is absent")


#: What else over info a fault comes with, because it is what the fault is made of.
#: What comes with a fault; the gigabyte that a lease pins is in the record only.
COMPANY = {"suspect-storage": {"size-mismatch"}, "lease-pins-content": {"size-mismatch"}}


def test_every_rule_is_exercised() -> None:
    assert sorted(FAULTS) == sorted(rule.code for rule in checks.RULES)


@pytest.mark.parametrize("code", FAULTS)
def test_a_fault_gives_its_code_and_no_other_over_info(code: str) -> None:
    world = World()
    subject = FAULTS[code](world)
    found = world.findings(verify=Verify.LAYERS)
    rule = next(rule for rule in checks.RULES if rule.code == code)
    hits = [finding for finding in found if finding.code == code]
    assert [finding.subject.id for finding in hits] == [subject]
    assert hits[0].severity is rule.severity
    over_info = {finding.code for finding in found if finding.severity is not Severity.INFO}
    assert over_info - COMPANY.get(code, set()) == ({code} if rule.severity is not Severity.INFO else set())


@pytest.mark.parametrize("code", FAULTS)
def test_a_finding_stands_alone(code: str) -> None:
    world = World()
    FAULTS[code](world)
    for finding in world.findings(verify=Verify.LAYERS):
        check_words(finding)


def check_words(finding: Finding) -> None:
    assert finding.message
    assert finding.hint
    assert "\0" not in finding.message
    assert "\n" not in finding.message
    assert None not in finding.facts.values()
    if finding.images:
        assert all(ref.name and ref.target and ref.role for ref in finding.images)


@pytest.mark.parametrize("code", FAULTS)
def test_findings_do_not_depend_on_the_order_of_records(code: str) -> None:
    world = World()
    FAULTS[code](world)
    before = world.findings(verify=Verify.LAYERS)
    turned = {name: dict(reversed(list(held.items()))) for name, held in world.inventory.snapshots.items()}
    world.change(
        images=world.inventory.images[::-1],
        blobs=dict(reversed(list(world.inventory.blobs.items()))),
        snapshots=turned,
    )
    assert world.findings(verify=Verify.LAYERS) == before


def test_a_sound_image_gives_nothing() -> None:
    world = World()
    world.pull(APP, "docker.io/library/app:1", f"docker.io/library/app@{APP.digest}", str(APP.config.digest))
    assert world.findings(verify=Verify.LAYERS) == ()


@pytest.mark.parametrize("rule", checks.RULEBOOK.values(), ids=lambda rule: rule.code)
def test_a_rule_explains_itself(rule: Rule) -> None:
    assert rule.code == rule.code.lower().strip("-")
    assert all(text.endswith((".", "`.")) for text in (rule.means, rule.impact, rule.remedy))


def test_codes_are_listed_once_and_the_worst_first() -> None:
    codes = [rule.code for rule in checks.RULES]
    assert len(set(codes)) == len(codes)
    ranks = [rule.severity.rank for rule in checks.RULES]
    assert ranks == sorted(ranks)


#: DESIGN.md, "Findings"; each severity is part of the contract.
CONTRACT = {
    Severity.CRITICAL: "incomplete-image missing-manifest missing-config blob-file-missing size-mismatch "
    "not-an-image digest-mismatch diffid-mismatch layer-undecodable malformed-manifest broken-snapshot-chain "
    "suspect-storage",
    Severity.ERROR: "snapshot-without-blob shared-config-layers blob-unreadable layer-count-mismatch name-mismatch "
    "image-type-unknown",
    Severity.WARNING: "media-type-mismatch snapshot-missing gc-unprotected stale-ingest container-orphaned "
    "layer-type-unsupported layers-not-fetched undeletable-files malformed-descriptor",
    Severity.INFO: "blob-discarded blob-lazy platform-not-pulled attestation-not-pulled foreign-layer not-unpacked "
    "leftover-files orphan-blob expired-lease pull-in-progress no-matching-platform",
}


def test_the_codes_and_severities_of_the_contract_exist() -> None:
    wanted = {code: severity for severity, codes in CONTRACT.items() for code in codes.split()}
    found = {rule.code: rule.severity for rule in checks.RULES}
    assert {code: found.get(code) for code in wanted} == wanted


def test_a_container_whose_image_was_removed_by_force_is_information() -> None:
    world = World()
    world.pull(APP)
    world.change(containers=(Container(world.namespace, "forced", "gone:1", OVERLAY, APP.chain[-1]),))
    assert [(f.code, f.severity, f.subject.name) for f in world.findings()] == [
        ("container-orphaned", Severity.INFO, "forced")
    ]


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        ("auditor repair -n k8s.io app:1", "auditor repair --address '/a b.sock' -n k8s.io app:1"),
        ("ctr -n k8s.io leases rm x", "ctr --address '/a b.sock' -n k8s.io leases rm x"),
        ("auditor repair --address /c -n k8s.io x", "auditor repair --address /c -n k8s.io x"),
        ("auditor verify a.tar", "auditor verify a.tar"),
        ("ctrl and auditor are words", "ctrl and auditor are words"),
        ("`auditor repair x` brings it back", "`auditor repair --address '/a b.sock' x` brings it back"),
        ("`auditor tree` shows it", "`auditor tree --address '/a b.sock'` shows it"),
    ],
)
def test_a_command_carries_the_address_that_was_given(hint: str, told: str) -> None:
    assert at_address(hint, "/a b.sock") == told


def test_an_emptied_blob_is_said_so() -> None:
    world = World()
    FAULTS["size-mismatch"](world)
    (finding,) = world.findings()
    assert finding.cause == "emptied"
    assert "zero-length" in finding.message
    assert Digest.of(b"") == EMPTY


def test_a_name_in_a_command_is_only_a_name() -> None:
    world = World()
    world.pull(APP, "app:1; reboot $(id)")
    world.drop(BASE.digest)
    (finding,) = world.findings()
    assert finding.hint == "auditor repair -n k8s.io 'app:1; reboot $(id)'"


def test_names_of_leases_and_ingests_never_become_options() -> None:
    assert command("ctr", "leases", "rm", names=["-x y"]) == "ctr leases rm -- '-x y'"
    assert command("ctr", "leases", "rm", names=["x y"]) == "ctr leases rm 'x y'"


def test_a_name_that_looks_like_an_option_is_replaced_by_the_digest() -> None:
    world = World()
    world.pull(APP, "--yes")
    world.drop(BASE.digest)
    (finding,) = world.findings()
    assert finding.hint == f"auditor repair -n k8s.io {APP.digest}"


@pytest.mark.parametrize(
    "media_type", ["application/json", f"{oci.OCI_MANIFEST}; charset=utf-8", "application/octet-stream"]
)
def test_a_manifest_under_another_type_is_walked_and_its_type_is_reported(media_type: str) -> None:
    world = World()
    world.pull(APP)
    world.change(images=())
    named(world, APP.data, media_type)
    named_by = [APP.config.digest, *(layer.digest for layer in APP.layers)]
    labels = {f"{CONTENT}.{i}": str(digest) for i, digest in enumerate(named_by)}
    world.relabel(APP.digest, lambda _: labels)
    world.drop(BASE.digest)
    codes = {code for code, _ in world.faults()}
    assert codes == {"image-type-unknown", "snapshot-without-blob"}


@pytest.mark.parametrize(
    "media_type", ["application/vnd.wasm.content.layer.v1+wasm", "application/vnd.cncf.helm.chart"]
)
def test_content_of_an_artifact_is_no_fault(media_type: str) -> None:
    world = World()
    named(world, b"\0asm", media_type)
    assert world.faults() == []


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/json", "application/xml", "application/octet-stream"]
)
def test_a_plain_file_is_no_image(media_type: str) -> None:
    world = World()
    digest = named(world, b'{"error": "denied"}', media_type)
    assert world.faults() == [("not-an-image", digest)]


def test_an_id_that_no_config_of_the_image_has_is_reported() -> None:
    world = World()
    other = str(Digest.of(b"another"))
    world.pull(APP, "app:1", str(APP.config.digest), other)
    assert world.faults() == [("name-mismatch", other)]


def test_an_id_is_not_judged_where_no_manifest_can_be_read() -> None:
    world = World()
    world.pull(APP, str(Digest.of(b"another")))
    world.drop(APP.digest)
    assert "name-mismatch" not in {code for code, _ in world.faults()}


def _managed_by_cri(world: World) -> None:
    labels = {"io.cri-containerd.image": "managed"}
    world.change(images=tuple(msgspec.structs.replace(each, labels=labels) for each in world.inventory.images))


def _container(world: World) -> None:
    name = world.inventory.images[0].name
    world.change(containers=(Container(world.namespace, "web", name, OVERLAY),))


#: What tells that an image had layers.
TRACES: dict[str, Callable[[World], object]] = {
    "CRI manages it": _managed_by_cri,
    "a container": _container,
    "a layer of this platform": lambda world: world.put(BASE.data),
    "a snapshot": lambda world: world.snapshot(APP.chain[0]),
    "a label of a snapshot": lambda world: world.relabel(
        APP.config.digest, lambda old: {**old, f"containerd.io/gc.ref.snapshot.{OVERLAY}": str(APP.chain[-1])}
    ),
    "an import, which has no label of a registry": lambda world: world.relabel(
        APP.digest, lambda old: {key: value for key, value in old.items() if "distribution" not in key}
    ),
    "no config": lambda world: world.drop(APP.config.digest),
}


@pytest.mark.parametrize("trace", TRACES)
def test_an_image_that_had_layers_is_incomplete(trace: str) -> None:
    world = World()
    documents_only(world)
    TRACES[trace](world)
    found = {finding.code for finding in world.findings()}
    assert "layers-not-fetched" not in found
    assert found & {"incomplete-image", "missing-config", "snapshot-without-blob"}


def test_a_manifest_that_is_listed_for_two_platforms_had_layers() -> None:
    """containerd 2.1 pulls no layer of such an image, and exits with 0."""
    world = World()
    documents_only(world, index(APP, replace(APP, platform="linux/arm64")))
    assert {finding.code for finding in world.findings()} == {"incomplete-image"}


def test_layers_that_are_wanted_are_missing() -> None:
    world = World()
    documents_only(world)
    found = {finding.code for finding in world.findings(layers_wanted=True)}
    assert found == {"incomplete-image", "platform-not-pulled"}


def test_an_image_without_an_index_is_incomplete() -> None:
    """A fetch of the documents of a single manifest brings its layers too."""
    world = World()
    world.pull(APP, unpack=False)
    world.drop(*(layer.digest for layer in APP.layers))
    assert {finding.code for finding in world.findings()} == {"incomplete-image"}


def test_a_record_of_another_type_than_the_other_records_is_named() -> None:
    world = World()
    world.pull(APP, "z:1")
    other = Image("k8s.io", "a:1", oci.Descriptor("application/json", APP.digest, len(APP.data)))
    world.change(images=(*world.inventory.images, other))
    assert world.faults() == [("image-type-unknown", "a:1")]


def test_a_label_that_configs_contradict_makes_no_twin() -> None:
    world = World()
    world.pull(APP)
    world.drop(BASE.digest)
    world.relabel(MIDDLE.digest, lambda old: {**old, "containerd.io/uncompressed": BASE.diff_id})
    (finding,) = world.findings()
    assert finding.cause == "missing-blobs-bug-likely"


def test_a_layer_with_another_digest_than_sha256_cannot_be_pulled() -> None:
    text = APP.data.decode().replace(str(TOP.digest), f"sha512:{'ab' * 64}")
    world = World()
    world.pull(APP, unpack=False)
    named(world, text.encode(), oci.OCI_MANIFEST)
    (finding,) = (finding for finding in world.findings() if finding.code == "incomplete-image")
    assert "containerd stores sha256 alone" in finding.message
    assert finding.hint == "Use an image with sha256 digests."


@pytest.mark.parametrize(("differs", "found"), [(("walking",), True), (("erofs", "walking"), False), ((), False)])
def test_a_layer_type_is_named_where_no_differ_is_for_it(*, differs: tuple[str, ...], found: bool) -> None:
    world = World()
    world.store.description = msgspec.structs.replace(world.store.info(), differs=differs)
    kinds = ("application/vnd.oci.image.layer.v1.erofs", f"{oci.OCI_LAYER}+zstd", oci.DOCKER_FOREIGN_LAYER)
    world.pull(image(*(Layer(kind, media_type=kind) for kind in kinds)), unpack=False)
    codes = [finding.code for finding in world.findings()]
    assert codes.count("layer-type-unsupported") == found


@pytest.mark.parametrize(
    "kind", [f"{oci.OCI_LAYER}+xz", f"{oci.OCI_LAYER}+gzip; a=b", f"{oci.DOCKER_LAYER}+gzip", f"{oci.OCI_LAYER}+GZIP"]
)
def test_a_type_that_containerd_takes_for_an_uncompressed_tar_is_named(kind: str) -> None:
    world = World()
    world.store.description = msgspec.structs.replace(world.store.info(), differs=("walking",))
    world.pull(image(BASE, Layer("odd", media_type=kind)), unpack=False)
    assert [code for code, _ in world.faults()] == ["layer-type-unsupported"]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        *((kind, "image-type-unknown") for kind in ("", "application/json", oci.OCI_MANIFEST.upper(), PARAMETER)),
        ("application/vnd.example.thing", "unknown-media-type"),
    ],
)
def test_a_child_for_the_node_with_a_type_of_no_manifest_cannot_run(kind: str, code: str) -> None:
    world = World()
    world.pull(index(replace(APP, media_type=kind)), unpack=False)
    assert {finding.code for finding in world.findings()} == {code}


@pytest.mark.parametrize("kind", ["", "application/json", PARAMETER, "application/vnd.example.thing"])
def test_the_first_child_for_the_node_is_taken_whatever_its_type(kind: str) -> None:
    odd, good = replace(image(MIDDLE), media_type=kind), APP
    for children, codes in (((odd, good), {"image-type-unknown"}), ((good, odd), {"unknown-media-type"})):
        world = World()
        world.pull(index(*children))
        assert {finding.code for finding in world.findings()} == codes


def test_an_index_that_leads_to_no_wanted_platform_need_not_be_here() -> None:
    first, second = index(APP), index(image(MIDDLE))
    world = World()
    world.pull(index(first, second, platforms=False))
    assert world.findings() == ()
    world.drop(second.digest)
    assert ("platform-not-pulled", second.digest) in [(each.code, each.subject.digest) for each in world.findings()]
    assert world.faults() == []
    world.drop(first.digest)
    assert world.faults() == [("missing-manifest", first.digest)]


@pytest.mark.parametrize(
    ("version", "fails"),
    [("1.6.20~ds1", True), ("v1.6.25", False), ("v1.7.6", True), ("v1.7.7", False), ("v2.1.9", False), ("", False)],
)
def test_early_releases_take_all_that_a_manifest_lists_for_layers(version: str, *, fails: bool) -> None:
    made = image(BASE, Layer("note", media_type="application/vnd.in-toto+json"), diff_ids=[BASE.diff_id])
    world = World()
    world.store.description = msgspec.structs.replace(world.store.info(), version=version)
    world.pull(made, unpack=False)
    (finding,) = world.findings()
    assert finding.code == ("layer-count-mismatch" if fails else "not-unpacked")
    assert not fails or "2 entries" in finding.message


@pytest.mark.parametrize("kind", ["application/octet-stream", "application/gzip", f"{oci.OCI_LAYER}+gzip".upper(), ""])
def test_layers_without_the_type_of_their_content_make_no_artifact(kind: str) -> None:
    world = World()
    world.pull(image(Layer("a", media_type=kind), Layer("b", media_type=kind)), unpack=False)
    assert [code for code, _ in world.faults()] == ["layer-count-mismatch"]


@pytest.mark.parametrize("kind", [f"{oci.DOCKER_FOREIGN_LAYER}.xz", "application/vnd.erofs.layer.v1"])
def test_an_image_whose_layers_containerd_passes_over_is_an_image(kind: str) -> None:
    made = image(Layer("a", media_type=kind), Layer("b", media_type=kind))
    world = World()
    world.store.description = msgspec.structs.replace(world.store.info(), differs=("walking",))
    world.pull(made, unpack=False)
    assert [code for code, _ in world.faults()] == ["layer-type-unsupported"] * 2
    world.drop(made.layers[0].digest)
    absent = "foreign-layer" if oci.is_foreign(kind) else "incomplete-image"
    assert {finding.code for finding in world.findings()} == {"layer-type-unsupported", absent}


def test_a_layer_type_that_was_unpacked_is_supported() -> None:
    world = World()
    world.store.description = msgspec.structs.replace(world.store.info(), differs=("walking",))
    world.pull(image(Layer("erofs", media_type="application/vnd.oci.image.layer.v1.erofs")))
    assert world.findings() == ()


@pytest.mark.parametrize(
    ("hint", "told"),
    [
        ("auditor check -n a", "auditor check --root '/a b' --while-running -n a"),
        ("`auditor tree -n a b` shows it", "`auditor tree --root '/a b' --while-running -n a b` shows it"),
        ("`auditor tree --root /c`", "`auditor tree --root /c`"),
        ("`auditor repair x` brings it back; or export with --refetch", OFFLINE_REMEDY),
        ("Ask the publisher.", "Ask the publisher."),
    ],
)
def test_a_command_carries_the_root_that_was_given(hint: str, told: str) -> None:
    assert at_root(hint, "/a b", while_running=True) == told
