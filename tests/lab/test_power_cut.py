"""Power cuts on real stores: the images that lack files are named and no other, and a repair makes all of them run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.containers import running
from tests.lab.kit.power_cut import node
from tests.lab.kit.registry import Registry
from tests.lab.power_cuts import damaged, named, named_on_disk, repaired, stocked


@pytest.mark.parametrize("version", VERSIONS)
def test_images_that_a_power_cut_damaged_are_named_and_repaired(version: str, registry: Registry, base: Path) -> None:
    old, new, last = (stocked(registry, f"cut-{seed}-{version}") for seed in ("old", "new", "last"))
    everything = (old, new, last)
    with node(version, base) as made:
        made.daemon.cri_pull(old.name)
        made.sync()
        for each in (new, last):
            made.daemon.cri_pull(each.name)
        made.change(made.cut())
        on_disk = named_on_disk(made.daemon.root)
        made.daemon.start()
        found = damaged(made.daemon, everything)
        assert found
        assert old.image.digest not in found
        assert on_disk == named(made.daemon) == set(found)
        assert "rebuilt" in repaired(made.daemon)
        assert damaged(made.daemon, everything) == {}
        assert named(made.daemon) == set()
        for number, each in enumerate(everything):
            with running(made.daemon, each.name, f"runs-{number}") as container:
                path, content = next(iter(each.layers[-1].items()))
                assert (container.root / path).read_bytes() == content
