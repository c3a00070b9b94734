"""Findings about files, sizes, bytes and what layers decompress to: all of them for each row, as whole records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import pytest

from auditor.checks import blobs
from auditor.checks.evidence import Evidence
from auditor.model import oci
from auditor.model.digest import EMPTY, Digest
from auditor.model.findings import Finding, ImageRef, Severity, Verify
from auditor.model.image_graph import Broken, Family, Flaw
from auditor.model.store import (
    FileKind,
    FileState,
    LayerVerification,
    LayerVerificationKind,
    Verification,
    VerificationKind,
)
from tests.unit.build import APP, BASE, GZIP, MIDDLE, TOP, Document, Layer, World, image, index
from tests.unit.build import describe as wire
from tests.unit.cases import NAME, Step, build, collected, do, finding, ref, unworded, worded

SIZE = len(BASE.data)
OTHER = Digest.of(b"other")
LOOSE = Digest.of(b"loose")
REPAIR = f"auditor repair -n k8s.io {NAME}"
REPAIR_READING = f"auditor repair -n k8s.io --verify digests {NAME}"
THEN = datetime(2026, 4, 1, 9, 30, 5, tzinfo=UTC)
READ = "2026-04-01T09:30:05Z"
PULL = do(World.pull, APP)
PUT = do(World.put, b"loose")
IN_APP = ref("layer", APP, layer=0)


class Row(NamedTuple):
    """Steps, what was seen of files and bytes, and all that is found."""

    steps: tuple[Step, ...] = (PULL,)
    files: Mapping[Digest, FileState | None] = {}
    verifications: tuple[Verification, ...] = ()
    found: tuple[Finding, ...] = ()
    verify: Verify = Verify.DIGESTS
    flaws: Mapping[tuple[Digest, Family], Broken] = {}
    request: Mapping[str, Any] = {}


def look(row: Row) -> Evidence:
    evidence = collected(build(row.steps), verify=row.verify, **row.request)
    files = {**evidence.files, **row.files}
    return msgspec.structs.replace(
        evidence,
        files={digest: state for digest, state in files.items() if state is not None},
        verifications={verification.digest: verification for verification in row.verifications},
        documents={**evidence.documents, **row.flaws},
    )


def file(
    kind: FileKind = FileKind.REGULAR, size: int | None = None, *, of: Digest = BASE.digest, **fields: Any
) -> Mapping[Digest, FileState]:
    return {of: FileState(kind, size, **fields)}


def verification(
    kind: VerificationKind, *, of: Digest = BASE.digest, size: int = SIZE, **fields: Any
) -> tuple[Verification, ...]:
    return (Verification(of, kind, size, **fields),)


def told(
    code: str, *images: ImageRef, kind: str = "layer", of: Digest = BASE.digest, hint: str | None = None, **fields: Any
) -> tuple[Finding, ...]:
    shown = {} if hint is None else {"hint": hint}
    return (finding(code, kind, of, *(images or (IN_APP,)), **shown, **fields),)


def loose(code: str, **fields: Any) -> tuple[Finding, ...]:
    return (finding(code, "blob", LOOSE, hint=f"auditor repair -n k8s.io {LOOSE}", **fields),)


def no_file(found: str) -> tuple[Finding, ...]:
    return told("blob-file-missing", cause="no-file", facts={"found": found}, hint=REPAIR)


REPULL = "Pull the image again, which writes its record; if the sizes still differ, ask the image's publisher."


def sizes(
    cause: str, record: int = SIZE, descriptor: int | None = SIZE, file: int | None = None, **more: Any
) -> tuple[Finding, ...]:
    known = {"record_size": record, "descriptor_size": descriptor, "file_size": file, **more}
    facts = {name: value for name, value in known.items() if value is not None}
    return told("size-mismatch", cause=cause, facts=facts, hint=REPULL if cause == "records-disagree" else REPAIR)


def corrupt(cause: str = "bytes-changed", **facts: Any) -> tuple[Finding, ...]:
    return told("digest-mismatch", cause=cause, facts=facts, hint=REPAIR_READING)


def used(manifest: Document, name: str) -> ImageRef:
    """The lowest layer of the image of another name."""
    return ref("layer", manifest, layer=0, name=name, names=(name,))


def long_by(more: int) -> Document:
    """An image that describes its layer with more bytes than it has."""
    return image(BASE, layers=[wire(BASE.digest, SIZE + more, GZIP)])


LONG, LONGER = long_by(3), long_by(5)


def recorded(size: int, namespace: str = "k8s.io") -> Step:
    """Let the database say another size of the lowest layer."""

    def step(world: World) -> None:
        held = world if namespace == world.namespace else World(namespace, store=world.store)
        held.record(msgspec.structs.replace(world.inventory.blobs[BASE.digest], namespace=namespace, size=size))

    return step


def also(namespace: str) -> Step:
    return recorded(SIZE, namespace)


def pull_in(namespace: str) -> Step:
    """Pull the same image into another namespace."""
    return lambda world: World(namespace, store=world.store).pull(APP)


#: Names the bytes of a layer as its config.
PLAINLY = image(TOP)
ODD = replace(PLAINLY, value={**PLAINLY.value, "config": wire(BASE.digest, SIZE, "text/plain")})
BOTH = index(APP, ARM := image(Layer("arm"), platform="linux/arm64"))
FILES = {
    "as recorded": Row(),
    "not looked at": Row(files={BASE.digest: None}),
    "unreadable": Row(
        files=file(FileKind.UNREADABLE, error="no right"), found=told("blob-unreadable", facts={"error": "no right"})
    ),
    "missing": Row(files=file(FileKind.MISSING), found=no_file("missing")),
    "directory": Row(files=file(FileKind.DIRECTORY), found=no_file("directory")),
    "symbolic link": Row(files=file(FileKind.LINK), found=no_file("symbolic link")),
    "special file": Row(files=file(FileKind.SPECIAL), found=no_file("special file")),
    "missing, referenced by nothing": Row(
        (PULL, PUT),
        file(FileKind.MISSING, of=LOOSE),
        found=loose("blob-file-missing", cause="no-file", facts={"found": "missing"}),
    ),
    "missing, referenced by nothing, one image audited": Row(
        (PULL, PUT), file(FileKind.MISSING, of=LOOSE), request={"images": (NAME,)}
    ),
    "missing, in two namespaces, used in one": Row(
        (PULL, also("aaa")),
        file(FileKind.MISSING),
        found=told(
            "blob-file-missing", cause="no-file", facts={"found": "missing", "namespaces": "aaa,k8s.io"}, hint=REPAIR
        ),
    ),
    "missing, another namespace has the image and no record": Row(
        (
            PULL,
            lambda world: World("moby", store=world.store).pull(APP),
            lambda w: w.store.drop_record("moby", BASE.digest),
        ),
        file(FileKind.MISSING),
        found=no_file("missing"),
    ),
    "missing, a layer of one image and the config of another": Row(
        (PULL, do(World.pull, ODD, "z:1")),
        file(FileKind.MISSING),
        found=told(
            "blob-file-missing",
            IN_APP,
            ref("config", ODD, name="z:1", names=("z:1",), platform=""),
            cause="no-file",
            facts={"found": "missing"},
            hint=REPAIR,
        ),
    ),
    "missing, used in several namespaces": Row(
        (PULL, *(pull_in(name) for name in "dbac")),
        file(FileKind.MISSING),
        found=told(
            "blob-file-missing",
            *(msgspec.structs.replace(IN_APP, namespace=name) for name in ("a", "b", "c", "d", "k8s.io")),
            cause="no-file",
            facts={"found": "missing", "namespaces": "a,b,c,d,k8s.io"},
            hint=f"auditor repair -n a {NAME}",
            namespace="a",
        ),
    ),
    "missing, another manifest of the image is absent": Row(
        (do(World.pull, BOTH),),
        file(FileKind.MISSING),
        found=told(
            "blob-file-missing",
            ref("layer", APP, target=BOTH, layer=0),
            cause="no-file",
            facts={"found": "missing"},
            hint=REPAIR,
        ),
    ),
    "missing, of a config": Row(
        files=file(FileKind.MISSING, of=APP.config.digest),
        found=told(
            "blob-file-missing",
            ref("config", APP),
            kind="config",
            of=APP.config.digest,
            cause="no-file",
            facts={"found": "missing"},
            hint=REPAIR,
        ),
    ),
}
SIZES = {
    "shorter": Row(files=file(size=SIZE - 1), found=sizes("shortened", file=SIZE - 1)),
    "longer": Row(files=file(size=SIZE + 1), found=sizes("lengthened", file=SIZE + 1)),
    "empty": Row(files=file(size=0), found=sizes("emptied", file=0)),
    "of unknown size": Row(files=file(size=None)),
    "at least as recorded": Row(files=file(size=SIZE, at_least=True)),
    "at least more": Row(files=file(size=SIZE + 1, at_least=True)),
    "at least less": Row(files=file(size=SIZE - 1, at_least=True), found=sizes("shortened", file=SIZE - 1)),
    "at least nothing": Row(files=file(size=None, at_least=True)),
    "the record says more, as the file": Row(
        (PULL, recorded(SIZE + 1)), file(size=SIZE + 1), found=sizes("records-disagree", SIZE + 1, file=SIZE + 1)
    ),
    "the record says more than the file": Row(
        (PULL, recorded(SIZE + 1)), file(size=SIZE), found=sizes("shortened", SIZE + 1, file=SIZE)
    ),
    "the record says nothing, as the file": Row(
        (PULL, recorded(0)), file(size=0), found=sizes("records-disagree", 0, file=0)
    ),
    "the record says another, no file was looked at": Row(
        (PULL, recorded(SIZE - 1)), {BASE.digest: None}, found=sizes("records-disagree", SIZE - 1)
    ),
    "two records disagree": Row(
        (PULL, recorded(SIZE - 1, "aaa")),
        file(size=SIZE),
        found=sizes("records-disagree", SIZE - 1, file=SIZE, namespaces="aaa,k8s.io"),
    ),
    "two records disagree, the file is at least the smaller": Row(
        (PULL, recorded(SIZE - 1, "aaa")),
        file(size=SIZE - 2, at_least=True),
        found=sizes("shortened", SIZE - 1, file=SIZE - 2, namespaces="aaa,k8s.io"),
    ),
    "two records disagree, the file has more than one and less than the other": Row(
        (PULL, recorded(SIZE - 2, "aaa")),
        file(size=SIZE - 1),
        found=sizes("lengthened", SIZE - 2, file=SIZE - 1, namespaces="aaa,k8s.io"),
    ),
    "two records disagree, the file has at least more than one and less than the other": Row(
        (PULL, recorded(SIZE - 2, "aaa")),
        file(size=SIZE - 1, at_least=True),
        found=sizes("lengthened", SIZE - 2, file=SIZE - 1, namespaces="aaa,k8s.io"),
    ),
    "two records disagree, the file is empty": Row(
        (PULL, recorded(SIZE - 1, "aaa")),
        file(size=0),
        found=sizes("emptied", SIZE - 1, file=0, namespaces="aaa,k8s.io"),
    ),
    "two records disagree, the later is the larger": Row(
        (PULL, recorded(SIZE - SIZE % 8 + 8, "aaa")),
        file(size=SIZE),
        found=sizes("records-disagree", SIZE, file=SIZE, namespaces="aaa,k8s.io"),
    ),
    "three descriptors disagree": Row(
        (do(World.pull, LONG, "b:1"), do(World.pull, LONGER, "c:1"), PULL),
        file(size=SIZE),
        found=told(
            "size-mismatch",
            *(used(each, name) for each, name in ((LONG, "b:1"), (LONGER, "c:1"))),
            severity=Severity.ERROR,
            cause="records-disagree",
            facts={"record_size": SIZE, "descriptor_size": SIZE + 3},
            hint=REPULL,
        ),
    ),
    "the only descriptor disagrees": Row(
        (do(World.pull, LONG, NAME),),
        file(size=SIZE),
        found=told(
            "size-mismatch",
            used(LONG, NAME),
            cause="records-disagree",
            facts={"record_size": SIZE, "descriptor_size": SIZE + 3, "file_size": SIZE},
            hint=REPULL,
        ),
    ),
    "the only descriptor disagrees with bytes that were read": Row(
        (do(World.pull, LONG, NAME),),
        file(size=SIZE),
        verification(VerificationKind.SOUND),
        found=told(
            "size-mismatch",
            used(LONG, NAME),
            severity=Severity.ERROR,
            cause="records-disagree",
            facts={"record_size": SIZE, "descriptor_size": SIZE + 3},
            hint=REPULL,
        ),
    ),
    "two records and a descriptor disagree": Row(
        (do(World.pull, LONG, NAME), recorded(SIZE - 1, "aaa")),
        file(size=SIZE),
        found=told(
            "size-mismatch",
            used(LONG, NAME),
            cause="records-disagree",
            facts={
                "record_size": SIZE - 1,
                "descriptor_size": SIZE + 3,
                "file_size": SIZE,
                "namespaces": "aaa,k8s.io",
            },
            hint=REPULL,
        ),
    ),
    "two records agree": Row((PULL, also("aaa"))),
    "referenced by nothing": Row(
        (PULL, PUT),
        file(size=6, of=LOOSE),
        found=loose("size-mismatch", cause="lengthened", facts={"record_size": 5, "file_size": 6}),
    ),
    "before the bytes": Row(
        files=file(size=1),
        verifications=verification(VerificationKind.CORRUPT, size=1, actual=OTHER),
        found=sizes("shortened", file=1),
    ),
}
BYTES = {
    "sound": Row(verifications=verification(VerificationKind.SOUND)),
    "gone meanwhile": Row(verifications=verification(VerificationKind.GONE)),
    "corrupt": Row(verifications=verification(VerificationKind.CORRUPT, actual=OTHER), found=corrupt(actual=OTHER)),
    "corrupt, how": Row(
        verifications=verification(VerificationKind.CORRUPT, actual=OTHER, detail="one bit differs"),
        found=corrupt(actual=OTHER, detail="one bit differs"),
    ),
    "corrupt, by what is not known": Row(verifications=verification(VerificationKind.CORRUPT), found=corrupt()),
    "emptied, though the size is right": Row(
        verifications=verification(VerificationKind.CORRUPT, actual=EMPTY), found=corrupt("emptied", actual=EMPTY)
    ),
    "corrupt and longer than the API tells": Row(
        files=file(size=SIZE, at_least=True),
        verifications=verification(VerificationKind.CORRUPT, size=SIZE + 1, actual=OTHER),
        found=sizes("lengthened", file=SIZE + 1),
    ),
    "corrupt and shorter, no file was looked at": Row(
        files={BASE.digest: None},
        verifications=verification(VerificationKind.CORRUPT, size=SIZE - 1, actual=OTHER),
        found=sizes("shortened", file=SIZE - 1),
    ),
    "corrupt and empty, the file's size is not known": Row(
        files=file(size=None),
        verifications=verification(VerificationKind.CORRUPT, size=0, actual=EMPTY),
        found=sizes("emptied", file=0),
    ),
    "corrupt and of the right size, the file's size is not known": Row(
        files=file(size=None),
        verifications=verification(VerificationKind.CORRUPT, actual=OTHER),
        found=corrupt(actual=OTHER),
    ),
    "corrupt, the file has the right size": Row(
        verifications=verification(VerificationKind.CORRUPT, size=SIZE + 1, actual=OTHER), found=corrupt(actual=OTHER)
    ),
    "read short and not corrupt": Row(
        files={BASE.digest: None}, verifications=verification(VerificationKind.SOUND, size=SIZE - 1)
    ),
    "unreadable": Row(
        verifications=verification(VerificationKind.UNREADABLE, detail="EIO"),
        found=told("blob-unreadable", facts={"error": "EIO"}),
    ),
    "no file after all": Row(verifications=verification(VerificationKind.MISSING), found=no_file("missing")),
    "unsteady": Row(
        verifications=verification(VerificationKind.UNSTEADY, detail="one bit"),
        found=told("read-unsteady", facts={"first": "one bit"}),
    ),
    "unsteady, how is not known": Row(
        verifications=verification(VerificationKind.UNSTEADY), found=told("read-unsteady")
    ),
    "the file before the bytes": Row(
        files=file(FileKind.MISSING),
        verifications=verification(VerificationKind.UNREADABLE, detail="EIO"),
        found=no_file("missing"),
    ),
    "read earlier": Row(
        verifications=verification(VerificationKind.UNREADABLE, detail="EIO", fresh=False, read_at=THEN),
        found=told("blob-unreadable", facts={"error": "EIO", "read_at": READ}),
    ),
    "read earlier, when is not known": Row(
        verifications=verification(VerificationKind.UNREADABLE, detail="EIO", fresh=False),
        found=told("blob-unreadable", facts={"error": "EIO"}),
    ),
    "read in this run": Row(
        verifications=verification(VerificationKind.UNREADABLE, detail="EIO", read_at=THEN),
        found=told("blob-unreadable", facts={"error": "EIO"}),
    ),
}


def flawed(flaw: Flaw, *found: Finding, verifications: tuple[Verification, ...] = (), **fields: Any) -> Row:
    broken = {(APP.digest, Family.MANIFEST): Broken(flaw, **fields)}
    return Row(found=found, flaws=broken, verifications=verifications)


def of_manifest(code: str, **fields: Any) -> Finding:
    return finding(code, "manifest", APP.digest, ref("manifest", APP), **fields)


FLAWS = {
    "corrupt": flawed(
        Flaw.CORRUPT,
        of_manifest(
            "digest-mismatch", cause="bytes-changed", facts={"actual": OTHER, "detail": "x"}, hint=REPAIR_READING
        ),
        actual=OTHER,
        detail="x",
    ),
    "unreadable": flawed(Flaw.UNREADABLE, of_manifest("blob-unreadable", facts={"error": "EIO"}), detail="EIO"),
    "no file": flawed(
        Flaw.NO_FILE, of_manifest("blob-file-missing", cause="no-file", facts={"found": "missing"}, hint=REPAIR)
    ),
    "malformed is a document's": flawed(Flaw.MALFORMED, detail="x"),
    "of a wrong size": flawed(Flaw.SIZE),
    "though its bytes were proven": flawed(
        Flaw.UNREADABLE,
        of_manifest("blob-unreadable", facts={"error": "EIO"}),
        verifications=verification(VerificationKind.SOUND, of=APP.digest),
        detail="EIO",
    ),
    "after its bytes": flawed(
        Flaw.UNREADABLE,
        of_manifest("read-unsteady"),
        verifications=verification(VerificationKind.UNSTEADY, of=APP.digest),
        detail="EIO",
    ),
}


# What layers decompress to.


def layer_proof(
    kind: LayerVerificationKind = LayerVerificationKind.SOUND, *, diff_id: Digest | None = BASE.diff_id, **fields: Any
) -> LayerVerification:
    return LayerVerification(kind, diff_id, **fields)


def layers(
    layer: LayerVerification | None,
    *found: Finding,
    kind: VerificationKind = VerificationKind.SOUND,
    steps: tuple[Step, ...] = (PULL,),
    verify: Verify = Verify.LAYERS,
    **fields: Any,
) -> Row:
    return Row(steps, verifications=verification(kind, layer=layer, **fields), found=found, verify=verify)


def typed(media_type: str, name: str) -> Document:
    return image(replace(BASE, media_type=media_type), Layer(name))


PLAIN = typed(oci.OCI_LAYER, "plain")
ZSTD = typed(f"{oci.OCI_LAYER}+zstd", "zstd")
ARTIFACT = image(
    replace(BASE, media_type=f"{oci.OCI_LAYER}+zstd"), config={}, config_type="application/vnd.cncf.helm.config.v1+json"
)
DOCKER = typed(oci.DOCKER_LAYER, "docker")
WRONG = image(BASE, TOP, diff_ids=[OTHER, TOP.diff_id])
LOW = image(BASE, TOP, diff_ids=[min(OTHER, LOOSE), TOP.diff_id])
HIGH = image(BASE, TOP, diff_ids=[max(OTHER, LOOSE), TOP.diff_id])


def pulls(*manifests: Document) -> tuple[Step, ...]:
    return tuple(do(World.pull, each, f"{name}:1") for each, name in zip(manifests, "bcd", strict=False))


def undecodable(detail: str) -> Finding:
    facts = {"detail": detail} if detail else {}
    return told("layer-undecodable", cause="published-so", facts=facts)[0]


def differs(wanted: Digest, actual: Digest | None, *images: ImageRef) -> Finding:
    facts = {"diff_id": wanted, **({"actual": actual} if actual else {})}
    return told("diffid-mismatch", *images, cause="published-so", facts=facts)[0]


def refused(*images: ImageRef, media_type: str = oci.OCI_LAYER, found: str = "gzip") -> Finding:
    facts = {"media_type": media_type, "compression": found}
    return told("layer-undecodable", *images, cause="media-type", facts=facts)[0]


def lying(*images: ImageRef, media_type: str = GZIP, found: str = "zstd") -> Finding:
    facts = {"media_type": media_type, "compression": found}
    return told("media-type-mismatch", *images, cause="compression", facts=facts)[0]


LAYERS = {
    "as the config says": layers(layer_proof(compression="gzip")),
    "not decompressed": layers(None),
    "not asked for": layers(layer_proof(diff_id=OTHER), verify=Verify.DIGESTS),
    "unverifiable": layers(
        layer_proof(LayerVerificationKind.UNVERIFIABLE, detail="encrypted"),
        told("layer-unverifiable", facts={"detail": "encrypted"})[0],
    ),
    "unverifiable, why is not known": layers(
        layer_proof(LayerVerificationKind.UNVERIFIABLE), told("layer-unverifiable")[0]
    ),
    "undecodable": layers(layer_proof(LayerVerificationKind.UNDECODABLE, detail="no tar"), undecodable("no tar")),
    "undecodable, why is not known": layers(layer_proof(LayerVerificationKind.UNDECODABLE), undecodable("")),
    "another diffID": layers(layer_proof(diff_id=OTHER), differs(BASE.diff_id, OTHER)),
    "another diffID, and another compression": layers(
        layer_proof(diff_id=OTHER, compression="zstd"), differs(BASE.diff_id, OTHER)
    ),
    "no diffID": layers(layer_proof(diff_id=None), differs(BASE.diff_id, None)),
    "another diffID, of one image of two": layers(
        layer_proof(), differs(OTHER, BASE.diff_id, used(WRONG, "b:1")), steps=(PULL, *pulls(WRONG))
    ),
    "another diffID, of two images": layers(
        layer_proof(),
        differs(min(OTHER, LOOSE), BASE.diff_id, used(LOW, "b:1"), used(HIGH, "c:1")),
        steps=(*pulls(LOW, HIGH),),
    ),
    "no config to say a diffID": layers(layer_proof(diff_id=OTHER), steps=(PULL, do(World.drop, APP.config.digest))),
    "compressed otherwise": layers(layer_proof(compression="zstd"), lying()),
    "of what is no image": layers(layer_proof(compression="gzip"), steps=pulls(ARTIFACT)),
    "not compressed under two types": layers(
        layer_proof(compression="none"),
        lying(used(ZSTD, "b:1"), IN_APP, found="none"),
        steps=(PULL, *pulls(ZSTD)),
    ),
    "not asked for, though something else is in doubt": layers(
        layer_proof(diff_id=OTHER), verify=Verify.DIGESTS
    )._replace(files=file(size=None)),
    "not compressed": layers(layer_proof(compression="none"), lying(found="none")),
    "compressed under a plain type": layers(
        layer_proof(compression="gzip"), refused(used(PLAIN, "b:1")), steps=pulls(PLAIN)
    ),
    "plain under a plain type": layers(layer_proof(compression="none"), steps=pulls(PLAIN)),
    "compressed under the type of docker that leaves it open": layers(
        layer_proof(compression="gzip"), steps=pulls(DOCKER)
    ),
    "compression not looked at": layers(layer_proof(compression=""), steps=pulls(PLAIN)),
    "one refused, one lying, one right": layers(
        layer_proof(compression="gzip"),
        refused(used(PLAIN, "b:1")),
        lying(used(ZSTD, "c:1"), media_type=f"{oci.OCI_LAYER}+zstd", found="gzip"),
        steps=(PULL, *pulls(PLAIN, ZSTD)),
    ),
    "an earlier run's": layers(
        layer_proof(LayerVerificationKind.UNDECODABLE, detail="no tar"),
        msgspec.structs.replace(undecodable("no tar"), facts={"detail": "no tar", "read_at": READ}),
        fresh=False,
        read_at=THEN,
    ),
    "of a blob that was read wrong first": layers(
        layer_proof(diff_id=OTHER), told("read-unsteady")[0], kind=VerificationKind.UNSTEADY
    ),
    "of a blob that went meanwhile": layers(layer_proof(diff_id=OTHER), kind=VerificationKind.GONE),
    "of a blob that is corrupt": layers(
        layer_proof(diff_id=OTHER), corrupt(actual=OTHER)[0], kind=VerificationKind.CORRUPT, actual=OTHER
    ),
}
TABLES = {"file": FILES, "size": SIZES, "bytes": BYTES, "document": FLAWS, "layer": LAYERS}


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=f"{table}: {name}") for table, rows in TABLES.items() for name, row in rows.items()]
)
def test_exactly_this_is_found(row: Row) -> None:
    assert unworded(worded(blobs.check(look(row)))) == list(row.found)


@pytest.mark.parametrize(
    "row",
    [
        pytest.param(row, id=f"{table}: {name}")
        for table in ("file", "size", "bytes")
        for name, row in TABLES[table].items()
    ],
)
def test_the_same_is_found_where_layers_are_looked_at_too(row: Row) -> None:
    assert unworded(worded(blobs.check(look(row._replace(verify=Verify.LAYERS))))) == list(row.found)


LAYER = f"layer 1 of {NAME} (linux/amd64):"
UNPACKED = "the image is unpacked and runs, exporting it fails, and pulling it again changes nothing"
NO_IMAGE = "no image uses it: probably an interrupted pull; pulls that need it fail"
PULL_FAILS = "pulling or unpacking the image fails (blob not found)"
SAID = {
    "unreadable": (FILES["unreadable"], f"{LAYER} read failed: no right"),
    "missing": (FILES["missing"], f"{LAYER} record exists, no file on disk; {UNPACKED}"),
    "directory": (FILES["directory"], f"{LAYER} record exists, its file is a directory; {UNPACKED}"),
    "missing, layer and config": (
        FILES["missing, a layer of one image and the config of another"],
        f"layer 1 of {NAME} (linux/amd64) and 1 more image: record exists, no file on disk; {PULL_FAILS}",
    ),
    "missing, config": (
        FILES["missing, of a config"],
        f"config of {NAME} (linux/amd64): record exists, no file on disk; {PULL_FAILS}",
    ),
    "missing, loose": (
        FILES["missing, referenced by nothing"],
        f"unreferenced blob {LOOSE.short}: record exists, no file on disk; {NO_IMAGE}",
    ),
    "empty": (SIZES["empty"], f"{LAYER} zero-length on disk, {SIZE} bytes in its record"),
    "longer": (SIZES["longer"], f"{LAYER} {SIZE + 1} bytes on disk, {SIZE} in its record"),
    "descriptor": (
        SIZES["the record says more, as the file"],
        f"{LAYER} {SIZE + 1} bytes in its record, {SIZE} in its descriptor",
    ),
    "descriptor, empty": (
        SIZES["the record says nothing, as the file"],
        f"{LAYER} 0 bytes in its record, {SIZE} in its descriptor",
    ),
    "descriptor, no file looked at": (
        SIZES["the record says another, no file was looked at"],
        f"{LAYER} {SIZE - 1} bytes in its record, {SIZE} in its descriptor",
    ),
    "records": (
        SIZES["two records disagree"],
        f"{LAYER} records disagree on its size: {SIZE - 1}, {SIZE} bytes",
    ),
    "records, the file is between": (
        SIZES["two records disagree, the file has at least more than one and less than the other"],
        f"{LAYER} {SIZE - 1} bytes on disk, {SIZE - 2} in its record",
    ),
    "records, the file is empty": (
        SIZES["two records disagree, the file is empty"],
        f"{LAYER} zero-length on disk, {SIZE - 1} bytes in its record",
    ),
    "records, the later is the larger": (
        SIZES["two records disagree, the later is the larger"],
        f"{LAYER} records disagree on its size: {SIZE}, {SIZE - SIZE % 8 + 8} bytes",
    ),
    "descriptors": (
        SIZES["three descriptors disagree"],
        f"layer 1 of b:1 (linux/amd64) and 1 more image: {SIZE} bytes in its record, {SIZE + 3} in its descriptor",
    ),
    "records and a descriptor": (
        SIZES["two records and a descriptor disagree"],
        f"{LAYER} {SIZE - 1} bytes in its record, {SIZE + 3} in its descriptor",
    ),
    "corrupt": (BYTES["corrupt"], f"{LAYER} content does not match its digest {BASE.digest.short}"),
    "corrupt, how": (
        BYTES["corrupt, how"],
        f"{LAYER} content does not match its digest {BASE.digest.short}: one bit differs",
    ),
    "unsteady": (BYTES["unsteady"], f"{LAYER} only the second read matched its digest: one bit"),
    "earlier": (BYTES["read earlier"], f"{LAYER} read failed: EIO (read at {READ}, not in this run)"),
    "in this run": (BYTES["read in this run"], f"{LAYER} read failed: EIO"),
    "unverifiable": (LAYERS["unverifiable"], f"{LAYER} decompressed content cannot be checked: encrypted"),
    "undecodable": (LAYERS["undecodable"], f"{LAYER} cannot be decompressed to a tar: no tar"),
    "another diffID": (
        LAYERS["another diffID"],
        f"{LAYER} decompressed content does not match the config's diffID {BASE.diff_id.short}",
    ),
    "refused": (
        LAYERS["compressed under a plain type"],
        "layer 1 of b:1 (linux/amd64): gzip content, but its media type says uncompressed: containerd cannot unpack it",
    ),
    "lying": (LAYERS["compressed otherwise"], f"{LAYER} zstd content, but its media type says gzip"),
    "lying, two types": (
        LAYERS["not compressed under two types"],
        "layer 1 of b:1 (linux/amd64) and 1 more image: uncompressed content, but its media type says gzip",
    ),
    "lying, plain": (LAYERS["not compressed"], f"{LAYER} uncompressed content, but its media type says gzip"),
}


@pytest.mark.parametrize(("row", "message"), SAID.values(), ids=SAID)
def test_the_message_says_this(row: Row, message: str) -> None:
    (found,) = worded(blobs.check(look(row)))
    assert found.message == message


def test_every_descriptor_that_leads_to_a_blob_is_looked_at() -> None:
    chart = Document({}, "application/x-chart")
    inner = index(APP)
    whole = index(inner, ARM, chart)
    (view,) = collected(build((do(World.pull, whole),))).views
    named = (whole, whole, inner, chart, APP, ARM, APP.config, BASE, MIDDLE, TOP)
    assert [(each.digest, each.size) for each in view.described] == [(each.digest, len(each.data)) for each in named]


#: A store that is well is judged at the cost of a look: only these rows put a blob in doubt.
DOUBT: dict[str, tuple[Row, bool]] = {
    "nothing": (Row(), False),
    "no file was looked at": (Row(files={BASE.digest: None}), False),
    "at least as recorded": (SIZES["at least as recorded"], False),
    "at least more": (SIZES["at least more"], False),
    "proven": (BYTES["sound"], False),
    "two records agree": (SIZES["two records agree"], False),
    "at least nothing": (SIZES["at least nothing"], True),
    "at least less": (SIZES["at least less"], True),
    "of unknown size": (SIZES["of unknown size"], True),
    "more": (SIZES["longer"], True),
    "no file": (FILES["missing"], True),
    "something else of the right size": (Row(files=file(FileKind.SPECIAL, SIZE)), True),
    "gone": (BYTES["gone meanwhile"], True),
    "two records disagree": (SIZES["two records disagree"], True),
    "descriptors disagree": (SIZES["three descriptors disagree"], True),
}


@pytest.mark.parametrize(("row", "doubted"), DOUBT.values(), ids=DOUBT)
def test_only_what_looked_wrong_is_in_doubt(row: Row, doubted: bool) -> None:
    assert blobs._doubtful(look(row)) == ({BASE.digest} if doubted else set())


@pytest.mark.parametrize(("data", "at_least", "doubted"), [(b"", True, False), (b"", False, True), (b"x", True, True)])
def test_a_file_of_unknown_size_holds_at_least_nothing(data: bytes, at_least: bool, doubted: bool) -> None:
    digest = Digest.of(data)
    row = Row((PULL, do(World.put, data)), file(size=None, at_least=at_least, of=digest))
    assert blobs._doubtful(look(row)) == ({digest} if doubted else set())
