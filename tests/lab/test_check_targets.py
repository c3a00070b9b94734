"""What image records lead to: pages and wrong types under a name, names that lie, configs without an image's type."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from auditor import containerd
from auditor.model.digest import Digest
from auditor.model.oci import OCI_MANIFEST, Descriptor
from auditor.model.store import Image
from auditor.model.writable_store import LeaseHandle
from tests import images
from tests.lab.checked import auditor_here, check, loud
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
