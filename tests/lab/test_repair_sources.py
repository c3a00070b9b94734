"""The missing-blobs bug, repaired from each source on each release, with nothing else changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.kit import bug
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.registry import Registry
from tests.lab.repaired import archive, dump, layout, ours, repair, sound


@pytest.fixture
def own_registry(base: Path) -> Iterator[Registry]:
    """A registry that a test may stop."""
    with Registry(base / "own-registry") as running:
        yield running


@pytest.fixture
def broken(daemon: Containerd, own_registry: Registry) -> bug.Reproduction:
    return bug.reproduce(daemon, own_registry, name="broken")


def check_repaired(daemon: Containerd, broken: bug.Reproduction, base: Path, *arguments: str | Path) -> None:
    """Repair, and prove that only the blobs that were missing came, and that they stay."""
    before = dump(daemon)
    done = repair(daemon, *arguments)
    assert done.status == 0, done.run
    assert done.results == dict.fromkeys(broken.skipped, "repaired")
    after = dump(daemon)
    assert after.without(broken.skipped) == before.without(broken.skipped)
    assert {digest for namespace, digest in after.records if namespace == CRI_NAMESPACE} >= set(broken.skipped)
    assert not ours(daemon)
    names = [(broken.namespace, broken.first), (broken.namespace, broken.second)]
    sound(daemon, (broken.pair.first, broken.pair.second), names, base)
    assert dump(daemon).without(broken.skipped) == before.without(broken.skipped)


@pytest.mark.in_turn
@pytest.mark.parametrize("root", ["auto", "none"])
def test_from_the_registry(daemon: Containerd, broken: bug.Reproduction, base: Path, root: str) -> None:
    check_repaired(daemon, broken, base, "--content-root", root)


@pytest.mark.in_turn
@pytest.mark.parametrize("root", ["auto", "none"])
def test_from_another_namespace_with_the_registry_down(
    daemon: Containerd, broken: bug.Reproduction, own_registry: Registry, base: Path, root: str
) -> None:
    daemon.ctr("content", "fetch", "--plain-http", broken.second, namespace="other")
    own_registry.stop()
    daemon.force_gc("other")
    planned = repair(daemon, "--dry-run", "--content-root", root, yes=False)
    assert planned.planned == dict.fromkeys(broken.skipped, ("adopt", "commit"))
    check_repaired(daemon, broken, base, "--content-root", root)


@pytest.mark.in_turn
@pytest.mark.parametrize("form", ["layout", "archive"])
def test_from_an_archive_with_the_registry_down(
    daemon: Containerd, broken: bug.Reproduction, own_registry: Registry, base: Path, form: str
) -> None:
    own_registry.stop()
    write = {"layout": layout, "archive": archive}[form]
    path = write(base / f"given-{form}", broken.pair.second, name=broken.second)
    check_repaired(daemon, broken, base, "--from", f"archive:{path}")


def test_an_uncompressed_layer_is_rebuilt_from_its_twin(daemon: Containerd, own_registry: Registry, base: Path) -> None:
    pair = bug.pair(name="twin", second="none")
    broken = bug.reproduce(daemon, own_registry, built=pair, name="twin")
    own_registry.stop()
    planned = repair(daemon, "--dry-run", yes=False)
    assert {kind for kind, _ in planned.planned.values()} == {"rebuild"}
    check_repaired(daemon, broken, base)


def test_sources_are_tried_in_the_order_given(
    daemon: Containerd, broken: bug.Reproduction, own_registry: Registry, base: Path
) -> None:
    path = layout(base / "given", broken.pair.second, name=broken.second)
    wrong = path / "blobs/sha256" / broken.skipped[0].removeprefix("sha256:")
    wrong.write_bytes(bytes(wrong.stat().st_size))
    done = repair(daemon, "--from", f"archive:{path}", "--from", "registry")
    assert done.status == 0
    came = {row["digest"]: row["source"] for row in done.document["outcomes"]}
    assert came[broken.skipped[0]].startswith(own_registry.host)
    assert came[broken.skipped[1]].startswith("archive:")


@pytest.mark.usefixtures("broken")
def test_with_no_source_nothing_is_written(daemon: Containerd, own_registry: Registry) -> None:
    own_registry.stop()
    before = dump(daemon)
    done = repair(daemon)
    assert done.status == 1
    assert set(done.results.values()) == {"failed"}
    assert "refused" in done.messages
    assert dump(daemon) == before
    assert not ours(daemon)
