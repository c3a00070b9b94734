"""Findings about absent layers: a whole record for each state, and the cause by what is known of the layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import pytest

from auditor.checks import absent_layers as rules
from auditor.checks.absent_layers import cause, facts
from auditor.checks.layer_state import LayerState, State
from auditor.checks.rule import in_words
from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.findings import Finding, ImageRef, Severity, Subject
from auditor.model.store import Container, Image, Resource, SourceKind
from tests.unit.build import APP, BASE, GZIP, MIDDLE, OVERLAY, TOP, Document, Layer, World, attestation, image, index
from tests.unit.cases import (
    NAME,
    Step,
    add_labels,
    build,
    change_info,
    collected,
    do,
    finding,
    layers,
    lose,
    ref,
    unworded,
    worded,
)

TWIN, THIRD = Layer(BASE.content, "zstd"), Layer(BASE.content, "gzip -1")
MADE_FROM = "containerd.io/snapshot/cri.layer-digest"
FOREIGN = Layer("win", media_type="application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
WITH_FOREIGN = image(FOREIGN, BASE)
GZ, ZST = image(BASE), image(TWIN)
SHARED = index(GZ, ZST)
PROVEN = index(APP, NOTE := attestation(APP))
BOTH = index(APP, ARM := image(Layer("arm"), platform="linux/arm64"))
REPAIR = f"auditor repair -n k8s.io {NAME}"


class Row(NamedTuple):
    """Steps, and all that is found."""

    steps: tuple[Step, ...]
    found: tuple[Finding, ...] = ()


def lost(
    code: str,
    manifest: Document,
    number: int = 0,
    *,
    whole: Document | None = None,
    hint: str | None = REPAIR,
    **more: Any,
) -> Finding:
    """A finding about a layer; `facts` come on top of what is known of every layer."""
    layer = manifest.layers[number]
    of = ref("layer", manifest, target=whole, layer=number)
    known = {
        "size": len(layer.data),
        "media_type": layer.media_type,
        "layer_index": number,
        "diff_id": layer.diff_id,
        "chain_id": manifest.chain[number],
        **more.pop("facts", {}),
    }
    shown = {} if hint is None else {"hint": hint}
    return finding(code, "layer", layer.digest, of, facts=known, **shown, **more)


PULL = do(World.pull, APP)
FETCH = do(World.pull, APP, unpack=False)
OVER = {"snapshotters": OVERLAY}
ROWS = {
    "all is here": Row((PULL,)),
    "skipped": Row(
        (PULL, lose(BASE)),
        (lost("snapshot-without-blob", APP, cause="missing-blobs-bug-likely", facts=OVER),),
    ),
    "two": Row(
        (PULL, lose(BASE, MIDDLE)),
        tuple(lost("snapshot-without-blob", APP, n, cause="missing-blobs-bug-likely", facts=OVER) for n in (0, 1)),
    ),
    "incomplete": Row((FETCH, lose(TOP)), (lost("incomplete-image", APP, 2),)),
    "shared config": Row(
        (do(World.pull, SHARED), lose(TWIN)),
        (
            lost(
                "shared-config-layers",
                ZST,
                whole=SHARED,
                cause="shared-config-bug",
                facts={**OVER, "twin": BASE.digest, "sibling_manifest": GZ.digest},
            ),
        ),
    ),
    "discarded": Row(
        (PULL, lose(BASE), do(World.unlabel, APP.digest, BASE.digest)),
        (lost("blob-discarded", APP, hint=None, cause="discarded-or-pruned", facts=OVER),),
    ),
    "lazy": Row(
        (FETCH, do(World.unpack, APP, **{"containerd.io/snapshot/remote": ""}), lose(BASE)),
        (lost("blob-lazy", APP, hint=None, cause="remote-snapshotter", facts=OVER),),
    ),
    "in progress": Row(
        (FETCH, lose(BASE), do(World.lease, "l", Resource("content", APP.digest))),
        (lost("pull-in-progress", APP, hint=None),),
    ),
    "foreign": Row(
        (do(World.pull, WITH_FOREIGN, unpack=False), lose(FOREIGN)),
        (lost("foreign-layer", WITH_FOREIGN, hint=None),),
    ),
    "not pulled": Row(
        (do(World.pull, BOTH), do(World.put, ARM.data), do(World.put, ARM.config.data)),
    ),
    "unknown": Row((PULL, lose(BASE, APP.config))),
    "an attestation's statement, before an image's layer": Row(
        (
            do(World.pull, index(NOTE, APP), platforms=("linux/amd64", "unknown/unknown"), unpack=False),
            lose(NOTE.layers[0], TOP),
        ),
        (lost("incomplete-image", APP, 2, whole=index(NOTE, APP)),),
    ),
}


PAGES = Layer("page one", media_type=oci.IN_TOTO), Layer("page two", media_type=oci.IN_TOTO)
#: An attestation that would be taken for the only thing that was pulled.
LONE = index(image(*PAGES, platform="unknown/unknown"), ARM)
ROWS["an attestation of which a part is here"] = Row(
    (do(World.pull, LONE, platforms=("unknown/unknown",), unpack=False), lose(PAGES[0]))
)


# Images of which only the documents were fetched.

ONLY = index(APP)
SOURCE = {"containerd.io/distribution.source.docker.io": "library/app"}
FETCH_DOCUMENTS = (do(World.pull, ONLY, unpack=False), lose(*APP.layers), add_labels(APP.digest, **SOURCE))
ROWS["only documents"] = Row(
    FETCH_DOCUMENTS,
    (finding("layers-not-fetched", "manifest", APP.digest, ref("manifest", APP, target=ONLY), facts={"layers": 3}),),
)
CLAIM = {f"containerd.io/gc.ref.snapshot.{OVERLAY}": str(APP.chain[-1])}


def mark_as_managed(world: World) -> None:
    """Label the image record as CRI does."""
    (record,) = world.inventory.images
    world.change(images=(msgspec.structs.replace(record, labels={"io.cri-containerd.image": "managed"}),))


#: What tells that the image had layers, and the layers that are then reported as absent.
TRACES: dict[str, tuple[Step, tuple[int, ...]]] = {
    "CRI manages it": (mark_as_managed, (0, 1, 2)),
    "a container": (do(World.change, containers=(Container("k8s.io", "c", NAME),)), (0, 1, 2)),
    "a label of a snapshot": (add_labels(APP.config.digest, **CLAIM), (0, 1, 2)),
    "no label of a registry": (do(World.relabel, APP.digest, lambda _: {}), (0, 1, 2)),
    "one layer": (do(World.put, MIDDLE.data), (0, 2)),
}


@pytest.mark.parametrize(("trace", "absent"), TRACES.values(), ids=TRACES)
def test_an_image_that_had_layers_is_incomplete(trace: Step, absent: tuple[int, ...]) -> None:
    told = unworded(worded(rules.check(collected(build((*FETCH_DOCUMENTS, trace))))))
    assert told == [lost("incomplete-image", APP, number, whole=ONLY) for number in absent]


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_exactly_this_is_found(row: Row) -> None:
    assert unworded(worded(rules.check(collected(build(row.steps))))) == list(row.found)


def test_an_archive_has_no_command_that_repairs_it() -> None:
    steps = (FETCH, lose(TOP), change_info(kind=SourceKind.ARCHIVE))
    (hit,) = rules.check(collected(build(steps)))
    assert (hit.text, hit.hint, hit.repairable) == ("not in the archive", "", True)


SHA512 = f"sha512:{'ab' * 64}"
UNSTORABLE = "blob missing: its digest is sha512, and containerd stores sha256 alone, so that no pull can fetch it"


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        pytest.param((), (UNSTORABLE, "Use an image with sha256 digests.", False), id="a store"),
        pytest.param(
            (change_info(kind=SourceKind.ARCHIVE),),
            ("not in the archive", "", True),
            id="an archive, which may hold it",
        ),
        pytest.param(
            (do(World.ingest, f"layer-{SHA512}"),),
            ("blob missing: a pull is in progress", "", False),
            id="a pull that tries",
        ),
    ],
)
def test_no_pull_fetches_a_layer_with_another_digest_than_sha256(
    steps: tuple[Step, ...], expected: tuple[str, str, bool]
) -> None:
    """containerd stores sha256 alone; the manifest is published with such a digest."""
    text = APP.data.decode().replace(str(TOP.digest), SHA512).encode()
    target = oci.Descriptor(oci.OCI_MANIFEST, Digest.of(text), len(text))
    image = do(World.change, images=(Image("k8s.io", NAME, target),))
    (hit,) = rules.check(collected(build((FETCH, do(World.put, text), image, *steps))))
    assert (hit.text, hit.hint, hit.repairable) == expected


SAID = {
    "only documents": "{}: none of its 3 layers is here, and nothing tells that they ever were: only "
    "documents were fetched",
    "incomplete": "layer 3 of {}: blob missing: there is no snapshot of it either, so the image cannot run",
    "shared config": "layer 1 of {}: blob missing: another manifest of the index has the same config, "
    "and only its layers were fetched",
    "discarded": "layer 1 of {}: blob missing: its snapshot exists, and the manifest no longer references it",
    "lazy": "layer 1 of {}: blob missing: its snapshotter reads it from the registry on demand",
    "in progress": "layer 1 of {}: blob missing: a pull is in progress",
    "foreign": "layer 1 of {}: blob missing: registries do not carry layers of this type",
    "skipped": "layer 1 of {}: blob missing: either containerd skipped its download because the layer was already "
    "unpacked, or its record was deleted later; nothing in the store tells which",
}


@pytest.mark.parametrize(("name", "message"), SAID.items(), ids=SAID)
def test_the_message_says_this(name: str, message: str) -> None:
    (told,) = worded(rules.check(collected(build(ROWS[name].steps))))
    assert told.message == message.format(f"{NAME} (linux/amd64)")


# Why a layer has a snapshot and no blob.


def state(**fields: Any) -> LayerState:
    made = LayerState(layers(APP)[0], State.SKIPPED, (OVERLAY,), prefix=True, labelled=True)
    return msgspec.structs.replace(made, **fields)


TWINS = (TWIN.digest,)
CAUSES: dict[str, tuple[LayerState, str | None]] = {
    "made from this very blob": (state(built_from=BASE.digest, twins=TWINS), "record-deleted"),
    "made from another": (state(built_from=TWIN.digest), "missing-blobs-bug"),
    "made from another, no prefix": (state(built_from=TWIN.digest, prefix=False), "missing-blobs-bug"),
    "one below was fetched": (state(prefix=False), "record-deleted"),
    "one below was fetched, a twin": (state(prefix=False, twins=TWINS), "record-deleted"),
    "a twin": (state(twins=TWINS), "missing-blobs-bug"),
    "a twin, not labelled": (state(twins=TWINS, labelled=False), "missing-blobs-bug"),
    "labelled": (state(), "missing-blobs-bug-likely"),
    "not labelled": (state(labelled=False), "record-deleted"),
    "shared config": (state(state=State.SHARED_CONFIG), "shared-config-bug"),
    "discarded": (state(state=State.DISCARDED), "discarded-or-pruned"),
    "lazy": (state(state=State.LAZY), "remote-snapshotter"),
    "on a proxy": (state(state=State.UNTOLD), "unknown"),
    **{
        str(each): (state(state=each), None)
        for each in State
        if each not in {State.SKIPPED, State.SHARED_CONFIG, State.DISCARDED, State.LAZY, State.UNTOLD}
    },
}


@pytest.mark.parametrize(("judged", "expected"), CAUSES.values(), ids=CAUSES)
def test_the_cause_follows_from_the_record(judged: LayerState, expected: str | None) -> None:
    assert cause(judged) == expected


#: What is added to the pull of an image that lacks its lowest layer, or the second; and the clause behind the colon.
CLAUSES: dict[str, tuple[tuple[Step, ...], str]] = {
    "made from this very blob": (
        (FETCH, do(World.unpack, APP, **{MADE_FROM: BASE.digest}), lose(BASE)),
        "its snapshot was built from this blob, so the record was deleted later",
    ),
    "made from another": (
        (FETCH, do(World.unpack, APP, **{MADE_FROM: TWIN.digest}), lose(BASE)),
        (
            f"containerd skipped its download because an identical layer (other compression, {TWIN.digest[:19]}) was "
            "already unpacked (recorded by the snapshot's label)"
        ),
    ),
    "one below was fetched": (
        (PULL, lose(MIDDLE)),
        "a layer below it was fetched, so the pull did not skip it: its record was deleted",
    ),
    "a twin": (
        (do(World.pull, image(TWIN), "b:1"), PULL, lose(BASE)),
        (
            f"containerd skipped its download because an identical layer (other compression, {TWIN.digest.short}) was "
            "already unpacked"
        ),
    ),
    "two twins": (
        (do(World.pull, image(TWIN), "b:1"), do(World.pull, image(THIRD), "c:1"), PULL, lose(BASE)),
        (
            "containerd skipped its download because an identical layer (other compression, "
            f"{min(TWIN.digest, THIRD.digest).short}) was already unpacked"
        ),
    ),
    "not labelled": (
        (PULL, lose(BASE), do(World.unlabel, APP.digest)),
        "its snapshot exists, and the manifest lacks the gc label that would protect the blob",
    ),
}


@pytest.mark.parametrize(("steps", "clause"), CLAUSES.values(), ids=CLAUSES)
def test_the_message_tells_the_cause(steps: tuple[Step, ...], clause: str) -> None:
    (told,) = worded(rules.check(collected(build(steps))))
    assert told.message.partition(f" of {NAME} (linux/amd64): blob missing: ")[2] == clause


BARE = msgspec.structs.replace(layers(APP)[1], diff_id=None, chain_id=None)
FACTS: dict[str, tuple[LayerState, Mapping[str, Any]]] = {
    "all": (
        state(
            snapshotters=("a", "b"), twins=(TWIN.digest, TOP.digest), built_from="sha256:x", sibling=Digest("sha256:y")
        ),
        {
            "size": len(BASE.data),
            "media_type": GZIP,
            "layer_index": 0,
            "diff_id": BASE.diff_id,
            "chain_id": APP.chain[0],
            "snapshotters": "a,b",
            "twin": TWIN.digest,
            "built_from": "sha256:x",
            "sibling_manifest": "sha256:y",
        },
    ),
    "nothing": (
        LayerState(BARE, State.INCOMPLETE),
        {
            "size": len(MIDDLE.data),
            "media_type": GZIP,
            "layer_index": 1,
            **dict.fromkeys(("diff_id", "chain_id", "snapshotters", "twin", "built_from", "sibling_manifest")),
        },
    ),
}


@pytest.mark.parametrize(("judged", "expected"), FACTS.values(), ids=FACTS)
def test_the_facts_are_what_is_known(judged: LayerState, expected: Mapping[str, Any]) -> None:
    assert facts(judged) == expected


# Causes in words.

BUG = "containerd skipped the download of a layer (missing-blobs bug)"
WORDS = {
    ("any", "missing-blobs-bug"): BUG,
    (
        "any",
        "missing-blobs-bug-likely",
    ): "the download of a layer was skipped (missing-blobs bug), or its record was deleted",
    ("any", "shared-config-bug"): "containerd skipped the download of a layer, because two manifests share a config",
    ("any", "record-deleted"): "the record of a blob was deleted",
    ("any", "record-absent"): "a document of the image is missing",
    ("any", "no-file"): "a blob's file is missing",
    ("any", "emptied"): "a blob's file was truncated to zero bytes",
    ("any", "shortened"): "a blob's file was truncated",
    ("any", "lengthened"): "a blob's file is longer than recorded",
    ("any", "bytes-changed"): "the content of a blob's file was changed",
    ("any", "published-so"): "the image was published with this fault",
    ("any", "labels-missing"): "labels that protect content from garbage collection are missing",
    ("incomplete-image", None): "a layer of the image has neither a blob nor a snapshot",
    ("broken-snapshot-chain", None): "the unpacked image is broken",
    ("snapshot-missing", None): "the image was unpacked, and its snapshot was removed",
    ("blob-unreadable", None): "a blob's file cannot be read",
    ("suspect-storage", None): "the disk or the memory is failing",
    ("blob-unreadable", "no-file"): "a blob's file is missing",
    ("blob-unreadable", "unheard-of"): "a blob's file cannot be read",
    ("any", None): "",
}


@pytest.mark.parametrize(("code", "known", "words"), [(*each, words) for each, words in WORDS.items()])
def test_a_cause_in_words(code: str, known: str | None, words: str) -> None:
    told = Finding(
        code=code, severity=Severity.INFO, namespace="n", subject=Subject(kind="blob"), message="", cause=known
    )
    assert in_words(told) == words


def test_the_image_of_a_finding_is_the_layers() -> None:
    (told,) = worded(rules.check(collected(build(ROWS["incomplete"].steps))))
    assert told.images == (
        ImageRef(
            namespace="k8s.io",
            name=NAME,
            names=(NAME,),
            target=str(APP.digest),
            platform="linux/amd64",
            manifest=str(APP.digest),
            role="layer",
            layer=2,
            layer_number=3,
        ),
    )
