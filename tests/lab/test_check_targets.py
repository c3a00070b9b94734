"""What image records lead to: pages and wrong types under a name, names that lie, configs without an image's type."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

import pytest

from auditor import containerd
from auditor.model.digest import Digest
from auditor.model.oci import OCI_MANIFEST, Descriptor
from auditor.model.store import Image
from auditor.model.writable_store import LeaseHandle
from tests import images
from tests.lab.checked import auditor_here, check, loud, the
from tests.lab.diagnosed import ask
from tests.lab.kit import faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import scratch
from tests.lab.kit.registry import Registry

PAGE = b"<html><body>Sign in to continue</body></html>"
#: What a manifest is stored under by clients that take the type from a wrong answer.
TYPES = ("text/html", "application/json", f"{OCI_MANIFEST}; charset=utf-8", "application/octet-stream")


@pytest.fixture(scope="module", params=VERSIONS)
def node(request: pytest.FixtureRequest) -> Iterator[Containerd]:
    """One daemon for all tests here; each test works in a namespace of its own."""
    with scratch() as base, Containerd(request.param, base) as daemon:
        yield daemon


def record(daemon: Containerd, namespace: str, name: str, digest: str, *, size: int, media_type: str) -> None:
    """Write an image record, as a client with a wrong answer in its hands does."""
    lease = LeaseHandle(namespace=namespace, id="lab-targets")
    daemon.ctr("leases", "create", "--id", lease.id, check=False, namespace=namespace)
    with containerd.connect_writable(daemon.socket) as store:
        store.create_image(lease, Image(namespace, name, Descriptor(media_type, Digest(digest), size)))


def stored(daemon: Containerd, namespace: str, name: str) -> images.BuiltImage:
    """Write an image's blobs, and no record of an image. Content that another namespace has cannot be ingested."""
    built = images.image([images.layer(images.files(name, kilobytes=8))])
    for data in built.blobs.values():
        faults.add_blob(daemon, data, namespace=namespace)
    return built


def test_pages_under_an_images_name_are_no_images(node: Containerd) -> None:
    pages = {kind: PAGE + kind.encode() for kind in ("text/html", "application/json; charset=utf-8")}
    for number, (media_type, page) in enumerate(pages.items()):
        digest = faults.add_blob(node, page, namespace="pages")
        record(node, "pages", f"mirror/page:{number}", digest, size=len(page), media_type=media_type)
    ran = check(node, "-n", "pages", "--verify", "layers")
    assert loud(ran.report) == {("not-an-image", images.sha256(page)) for page in pages.values()}
    assert ran.status == 1
    assert_not_exported(node, "pages", "mirror/page:0")


def test_a_manifest_under_another_type_is_walked(node: Containerd) -> None:
    """The fault below it is found, and the type is named."""
    apps = [stored(node, "types", f"types-{number}") for number in range(len(TYPES))]
    for number, (app, media_type) in enumerate(zip(apps, TYPES, strict=True)):
        size = len(app.blobs[app.digest])
        record(node, "types", f"mirror/app:{number}", app.digest, size=size, media_type=media_type)
        faults.remove_record(node, app.layers[0].digest, namespace="types")
    found = loud(check(node, "-n", "types").report)
    assert found >= {("image-type-unknown", app.digest) for app in apps}
    assert {each for each in found if each[0] == "incomplete-image"} == {
        ("incomplete-image", app.layers[0].digest) for app in apps
    }
    assert_not_exported(node, "types", "mirror/app:0")


def assert_not_exported(daemon: Containerd, namespace: str, name: str) -> None:
    archive = daemon.root.parent / "not.tar"
    ran = auditor_here("export", "--address", daemon.socket, "-n", namespace, "-o", archive, name)
    assert ran.status == 1, ran.err
    assert not archive.exists()


def test_names_that_lie(node: Containerd) -> None:
    """The digest and the image id in a name; those of the image itself are right."""
    namespace, other = "names", images.sha256(b"another")
    app = stored(node, namespace, "names")
    lies = {f"registry/app@{other}", other}
    for name in (*lies, f"registry/app@{app.digest}", app.config_digest):
        record(node, namespace, name, app.digest, size=len(app.blobs[app.digest]), media_type=OCI_MANIFEST)
    found = loud(check(node, "-n", namespace).report)
    assert {name for code, name in found if code == "name-mismatch"} == lies


def test_a_config_without_an_images_type_is_explained_and_repaired(node: Containerd, registry: Registry) -> None:
    """A client of containerd that pulls such an image writes another manifest; others keep the published one."""
    layers = [images.layer(images.files("targets-untyped", kilobytes=8))]
    typed = images.image(layers)
    untyped = images.assemble(typed.blobs[typed.config_digest], "application/octet-stream", layers)
    reference = registry.push(untyped, "lab/untyped:1")
    for digest in (untyped.digest, untyped.config_digest):
        faults.add_blob(node, untyped.blobs[digest], namespace="untyped")
    size = len(untyped.blobs[untyped.digest])
    record(node, "untyped", reference, untyped.digest, size=size, media_type=OCI_MANIFEST)
    verdict = ask(node, f"ctr: content digest {layers[0].digest}: not found", "-n", "untyped")[0].verdict
    assert verdict.code == "incomplete-image"
    assert any("application/octet-stream" in line for line in verdict.evidence), verdict.evidence
    repaired = auditor_here("repair", "--address", node.socket, "-n", "untyped", "--yes", reference)
    assert repaired.status == 0, repaired.err
    assert "incomplete-image" not in {code for code, _ in loud(check(node, "-n", "untyped").report)}


def test_a_digest_of_another_algorithm_is_its_own_proof(node: Containerd) -> None:
    """What the daemon says of a commit that is expected under sha512."""
    wanted = "sha512:" + "ab" * 64
    expected = ("--expected-digest", wanted, "--expected-size", str(len(PAGE)))
    said = node.ctr("content", "ingest", *expected, "sha512", check=False, stdin=PAGE, namespace="sha512").stderr
    verdict = ask(node, said)[0].verdict
    assert (verdict.message, str(verdict.sure)) == ("commit-algorithm", "certain"), said


def listed(
    *children: images.BuiltImage, media_types: tuple[str, ...] = (), platforms: bool = True
) -> images.BuiltIndex:
    """An index of images, with these types for the first of them."""
    below = [child.target.json() for child in children]
    for each, media_type in zip(below, media_types, strict=False):
        each["mediaType"] = media_type
    for each in below:
        if not platforms:
            del each["platform"]
    kind = images.INDEX_TYPES["oci"]
    document = images.dump({"schemaVersion": 2, "mediaType": kind, "manifests": below})
    target = images.Descriptor(kind, images.sha256(document), len(document))
    blobs = {digest: blob for child in children for digest, blob in child.blobs.items()}
    return images.BuiltIndex(target, (target,), {**blobs, target.digest: document}, children)


def nested(image: images.BuiltImage, depth: int) -> images.Built:
    found: images.Built = image
    for _ in range(depth):
        found = images.index([found])
    return found


def respelt(image: images.BuiltImage, old: str, new: str) -> images.BuiltImage:
    """An image whose manifest has other words."""
    document = image.manifest.replace(old.encode(), new.encode())
    target = images.Descriptor(image.target.media_type, images.sha256(document), len(document))
    return images.BuiltImage(
        target, (target,), {**image.blobs, target.digest: document}, image.layers, image.config_digest
    )


def test_an_image_is_judged_by_what_containerd_makes_of_it(node: Containerd) -> None:
    """Sound where containerd can mount an image, at fault where it cannot."""

    layers = [images.layer(images.files(f"judged-{n}", kilobytes=4)) for n in range(2)]

    def app(number: int = 0, **extra: object) -> images.BuiltImage:
        return images.image([layers[number]], config_extra=extra)

    untyped = images.raw_layer(layers[0].blob, layers[0].diff_id, media_type="application/octet-stream")
    built: dict[str, images.Built] = {
        "keys": respelt(app(), '"layers":', '"LAYERS":'),
        "twice": respelt(app(), '"layers":', '"Layers":[],"layers":'),
        "none-at-last": respelt(app(), "}]}", '}],"Layers":[]}'),
        "time": app(created=""),
        "environment": app(config={"Env": "A=B"}),
        "deep": nested(app(), 20),
        "first": listed(app(), app(1), media_types=("application/vnd.example",)),
        "last": listed(app(1), app(), media_types=(OCI_MANIFEST, "application/json")),
        "unnamed": listed(app(), app(1), media_types=("text/plain",), platforms=False),
        "untyped": images.image([untyped]),
        "large": app(history=[{"created_by": "x" * 1000}] * (9 << 10)),
        "misdescribed": described(app(), images.image([layers[1]], platform="linux/arm64"), digest="sha256:a"),
        "elsewhere": images.index([images.image([layers[1]], platform="linux/arm64")]),
    }
    write(node, "judged", built)
    report = check(node, "-n", "judged").report
    found = {image.names[0].removeprefix("judged/").removesuffix(":1"): str(image.status) for image in report.images}
    sound = {"keys", "twice", "deep", "last", "large", "misdescribed"}
    assert found == {name: "sound" if name in {*sound, "elsewhere"} else "damaged" for name in built}
    assert the(report, "malformed-descriptor").subject.digest == built["misdescribed"].digest
    assert the(report, "no-matching-platform").subject.digest == built["elsewhere"].digest
    if node.version == VERSIONS[-1]:  # the others do the same, and each mount takes its time
        assert {name for name in built if mounted(node, name)} == sound
        said = "no match for platform in manifest " + built["elsewhere"].digest
        assert ask(node, said, "-n", "judged")[0].verdict.code == "no-matching-platform"


def test_a_wrong_size_is_a_fault_of_the_image_that_states_it_alone(node: Containerd) -> None:
    app = images.image([images.layer(images.files("judged-size", kilobytes=4))])
    arm = images.image([images.layer(images.files("judged-arm", kilobytes=4))], platform="linux/arm64")
    unwanted = described(app, arm, size=5)
    write(node, "sizes", {"right": images.index([app]), "wrong": described(app, size=5), "unwanted": unwanted})
    report = check(node, "-n", "sizes").report
    assert {image.names[0]: str(image.status) for image in report.images} == {
        "judged/right:1": "sound",
        "judged/unwanted:1": "sound",
        "judged/wrong:1": "damaged",
    }
    sizes = {found.subject.digest: str(found.severity) for found in report.findings if found.code == "size-mismatch"}
    assert sizes == {app.digest: "error", arm.digest: "warning"}
    for name in ("right", "unwanted"):
        assert node.ctr("images", "export", node.base / "it.tar", f"judged/{name}:1", namespace="sizes").returncode == 0
    exported = node.ctr("images", "export", node.base / "wrong.tar", "judged/wrong:1", check=False, namespace="sizes")
    assert exported.returncode != 0


def described(*children: images.BuiltImage, **fields: object) -> images.Built:
    """An index of images, with other fields in the descriptor of the last."""
    whole = images.index(children)
    document = json.loads(whole.manifest)
    document["manifests"][-1] |= fields
    data = images.dump(document)
    target = images.Descriptor(whole.target.media_type, images.sha256(data), len(data))
    return images.Built(target, (target,), {**whole.blobs, target.digest: data})


def write(daemon: Containerd, namespace: str, built: Mapping[str, images.Built]) -> None:
    """Write images and their records in one connection."""
    blobs = {digest: data for each in built.values() for digest, data in each.blobs.items()}
    with containerd.connect_writable(daemon.socket) as store:
        lease = store.grant(namespace, seconds=600)
        for digest, data in blobs.items():
            store.fill(lease, digest, [data], size=len(data))
            store.commit(lease, digest, size=len(data), expected=Digest(digest))
        for name, each in built.items():
            target = Descriptor(each.target.media_type, Digest(each.digest), each.target.size)
            store.create_image(lease, Image(namespace, f"judged/{name}:1", target))


def mounted(daemon: Containerd, name: str) -> bool:
    """Whether containerd unpacks and mounts an image."""
    folder = daemon.root.parent / f"mount-{name}"
    folder.mkdir()
    image = f"judged/{name}:1"
    mount = ("images", "mount", "--platform", "linux/amd64", "--rw", image, folder)
    ran = daemon.ctr(*mount, check=False, namespace="judged")
    if ran.returncode == 0:
        daemon.ctr("images", "unmount", "--rm", folder, namespace="judged")
    return ran.returncode == 0
