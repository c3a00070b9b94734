"""Stores that change while they are looked at: what went or came meanwhile is no finding."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import msgspec
import pytest

from auditor.audit import audit, collect
from auditor.containerd.channel import open_connection
from auditor.containerd.store import ContainerdStore
from auditor.errors import NothingExamined
from auditor.model.digest import Digest
from auditor.model.findings import Finding
from auditor.model.store import FileState, Inventory
from tests import images
from tests.lab.checked import Named, judge, loud, name, status
from tests.lab.conftest import StartDaemon
from tests.lab.kit import faults
from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry

IMAGE = images.image([images.layer(images.files(f"moving-{number}", kilobytes=16)) for number in range(2)])
OTHER = images.image([images.layer(images.files("moving-other", kilobytes=16))])
TOP = IMAGE.layers[-1].digest
REFERENCE = "lab/moving:1"


class Moving(ContainerdStore):
    """A live store to which something happens, once, at one point of an audit."""

    def __init__(self, daemon: Containerd, happens: Callable[[], object], *, after: str) -> None:
        super().__init__(open_connection(daemon.socket, timeout=30))
        self._happens: Callable[[], object] | None = happens
        self._after = after

    def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
        self._meddle("nothing")
        listed = super().inventory(namespace, snapshotters=snapshotters)
        self._meddle("inventory")
        return listed

    def read(self, namespace: str, digest: Digest, *, limit: int) -> bytes:
        data = super().read(namespace, digest, limit=limit)
        self._meddle("read")
        return data

    def files(self) -> Mapping[Digest, FileState] | None:
        seen = super().files()
        self._meddle("files")
        return seen

    def _meddle(self, point: str) -> None:
        if point == self._after and self._happens is not None:
            happens, self._happens = self._happens, None
            happens()


@pytest.fixture
def pulled(daemon: Containerd, registry: Registry) -> Containerd:
    daemon.cri_pull(registry.push(IMAGE, REFERENCE))
    daemon.cri_pull(registry.push(OTHER, "lab/moving-other:1"))
    return daemon


def remove(daemon: Containerd) -> None:
    daemon.cri_remove_image(IMAGE.config_digest)
    daemon.force_gc()


def audited(store: ContainerdStore, request: collect.Request | None = None) -> tuple[Finding, ...]:
    with store:
        outcome = audit.audit(store, request or collect.Request(), clock=lambda: datetime.now(UTC), pause=time.sleep)
    assert not outcome.evidence.incomplete
    return outcome.findings


def found(findings: Sequence[Finding]) -> set[Named]:
    return {name(finding) for finding in findings}


@pytest.mark.in_turn
@pytest.mark.parametrize(
    ("point", "visible"),
    [("nothing", True), ("inventory", True), ("read", True), ("files", True), ("inventory", False), ("read", False)],
)
def test_an_image_is_removed(pulled: Containerd, point: str, visible: bool) -> None:
    store = Moving(pulled, lambda: remove(pulled), after=point)
    store._option = "auto" if visible else None
    assert found(audited(store)) == set()


@pytest.mark.parametrize("point", ["inventory", "read"])
def test_an_image_is_removed_and_pulled_again(pulled: Containerd, registry: Registry, point: str) -> None:
    def again() -> None:
        remove(pulled)
        pulled.cri_pull(registry.reference(REFERENCE))

    assert found(audited(Moving(pulled, again, after=point))) == set()


def test_what_was_absent_comes(pulled: Containerd, registry: Registry) -> None:
    faults.remove_record(pulled, TOP)
    fetch = ("content", "fetch", "--plain-http", registry.reference(REFERENCE))
    assert found(audited(Moving(pulled, lambda: pulled.ctr(*fetch), after="files"))) == set()


def test_what_stays_absent_is_found_whatever_else_goes(pulled: Containerd) -> None:
    faults.remove_record(pulled, OTHER.layers[0].digest)
    wanted = {("snapshot-without-blob", OTHER.layers[0].digest)}
    assert found(audited(Moving(pulled, lambda: remove(pulled), after="inventory"))) == wanted


def test_the_image_that_was_asked_for_goes(pulled: Containerd, registry: Registry) -> None:
    """Nothing is left to be examined, which is not the same as sound."""
    faults.remove_record(pulled, TOP)
    request = collect.Request(images=(registry.reference(REFERENCE),))
    with pytest.raises(NothingExamined, match="no image is named"):
        audited(Moving(pulled, lambda: remove(pulled), after="files"), request)


def test_the_namespace_goes(pulled: Containerd, registry: Registry) -> None:
    reference = registry.push(OTHER, "lab/moving-other:1")
    pulled.ctr("content", "fetch", "--plain-http", reference, namespace="brief")
    faults.remove_record(pulled, OTHER.layers[0].digest, namespace="brief")

    def go() -> None:
        pulled.ctr("images", "rm", "--sync", reference, namespace="brief")
        pulled.force_gc("brief")
        pulled.ctr("namespaces", "rm", "brief", namespace="brief")

    assert found(audited(Moving(pulled, go, after="files"))) == set()


def test_an_image_comes_in_the_middle(pulled: Containerd, registry: Registry) -> None:
    third = images.image([images.layer(images.files("moving-third", kilobytes=16))])
    reference = registry.push(third, "lab/moving-third:1")
    assert found(audited(Moving(pulled, lambda: pulled.cri_pull(reference), after="inventory"))) == set()


def test_a_file_goes_in_the_middle_and_stays_away(pulled: Containerd) -> None:
    findings = audited(Moving(pulled, lambda: faults.delete_file(pulled, IMAGE.digest), after="inventory"))
    assert found(findings) == {("blob-file-missing", IMAGE.digest)}


class Blind(ContainerdStore):
    """A live store of which snapshots and leases cannot be listed, as of a snapshotter that is a process and died."""

    def inventory(self, namespace: str, *, snapshotters: Sequence[str] | None = None) -> Inventory:
        listed = super().inventory(namespace, snapshotters=snapshotters)
        return msgspec.structs.replace(listed, snapshots={}, leases=(), gaps=("cannot list the snapshots",))


def test_what_cannot_be_listed_is_not_taken_for_absent(start_daemon: StartDaemon, registry: Registry) -> None:
    """A layer that was discarded after unpacking is only known to be well by its snapshot."""
    daemon = start_daemon(VERSIONS[-1], discard_unpacked_layers=True)
    daemon.cri_pull(registry.push(IMAGE, REFERENCE))
    daemon.force_gc()
    faults.stale_ingest(daemon, "maybe-leased")
    report = judge(Blind(open_connection(daemon.socket, timeout=30)))
    assert loud(report) == set()
    assert (report.complete, report.incomplete, status(report)) == (False, ("cannot list the snapshots",), 3)
