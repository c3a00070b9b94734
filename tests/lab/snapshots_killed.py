"""Repairs of snapshots that are killed at a step: what has to hold after each, for tests and for long campaigns."""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auditor.containerd import connect
from auditor.repair import quarantine
from auditor.repair.own_state import is_own_lease
from auditor.repair.rebuild_snapshot import PREFIX, interrupted
from tests import images
from tests.lab.killing import Killer
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.registry import Registry
from tests.lab.rebuilt import mounted
from tests.lab.test_snapshot_files import directory

FILES: Final = [{f"bin/tool-{n}": images.noise(f"killed-{n}", 9000), f"share/{n}": b"text"} for n in range(3)]
IMAGE: Final = images.image([images.layer(contents) for contents in FILES])
#: Exit status after SIGTERM.
ENDED: Final = 143
#: The layer whose folder is deleted; that of the others has a file emptied.
LOST: Final = 2


@dataclass
class Sweep:
    """A daemon with an image, a container on it, and what kills repairs."""

    daemon: Containerd
    killer: Killer
    base: Path

    def command(self) -> list[str]:
        return ["repair", "--snapshots", "--yes", "--address", str(self.daemon.socket), "--no-progress"]

    def file(self, index: int) -> Path:
        return directory(self.daemon, IMAGE, index) / f"bin/tool-{index}"

    def damage(self) -> None:
        """Empty a file of two layers, take the folder of the third away."""
        for index in (0, 1):
            self.file(index).write_bytes(b"")
        shutil.rmtree(directory(self.daemon, IMAGE, LOST).parent)

    def as_it_was_or_right(self) -> int:
        """Assert that each snapshot has its damaged files or the right ones; return how many are right."""
        right = 0
        for index, contents in enumerate(FILES):
            folder = directory(self.daemon, IMAGE, index)
            found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
            damaged = {} if index == LOST else {**contents, f"bin/tool-{index}": b""}
            assert found in (contents, damaged), (index, sorted(found))
            right += found == contents
        return right

    def at(self, step: int | None, *, number: signal.Signals = signal.SIGKILL) -> tuple[int, int]:
        """Damage, end a repair at a step, look, repair to the end, look. Return its exit status and steps."""
        self.damage()
        with mounted(self.daemon, IMAGE.chain_ids[1], f"step-{step}", self.base) as container:
            ended = self.killer.run(*self.command(), last=step, number=number)
            assert ended.status in (0, -signal.SIGKILL, ENDED), self.killer.said
            if ended.status == ENDED:
                self.nothing_left()
            self.daemon.force_gc()
            right = self.as_it_was_or_right()
            assert (container / "bin/tool-0").read_bytes() == b""
            assert (container / "share/1").read_bytes() == b"text"
            if ended.status:
                assert self.killer.run(*self.command()).status == 0, self.killer.said
            assert right == len(FILES) or ended.status
            assert self.as_it_was_or_right() == len(FILES)
            self.nothing_left()
            assert len(quarantine.entries(self.root)) == len(FILES) - 1
            Path("/proc/sys/vm/drop_caches").write_text("2")
            assert (container / "bin/tool-0").read_bytes() == b""
            assert (container / "share/1").read_bytes() == b"text"
        self.clear(step)
        return ended.status, ended.steps

    def replaced(self, step: int | None) -> tuple[int, int]:
        """Damage the lowest layer, kill its replacement at a step, repair to the end. Return status and steps.

        After other images of the layer were collected, containerd does not let it be removed, which is refused.
        """
        self.file(0).write_bytes(b"")
        ended = self.killer.run(*self.command(), "--rebuild", "replace", last=step)
        refused = ended.status == 1 and "garbage collection has removed" in self.killer.said
        assert refused or ended.status in (0, -signal.SIGKILL), self.killer.said
        self.daemon.force_gc()
        if ended.status:
            assert self.killer.run(*self.command()).status == 0, self.killer.said
            self.daemon.force_gc()
        assert self.as_it_was_or_right() == len(FILES)
        self.nothing_left()
        for entry in quarantine.entries(self.root):  # of a kill before the first removal
            quarantine.discard(entry)
        assert not (self.root / quarantine.FOLDER).exists(), self.killer.said
        return ended.status, ended.steps

    def nothing_left(self) -> None:
        """Assert that only finished entries of the quarantine are left."""
        with connect(self.daemon.socket, content_root=None) as store:
            found = store.inventory(CRI_NAMESPACE)
        assert [key for key in found.snapshots["overlayfs"] if key.startswith(PREFIX)] == []
        assert [lease.id for lease in found.leases if is_own_lease(lease)] == []
        assert interrupted(self.root) == ()
        kept = quarantine.entries(self.root)
        assert all(entry.holds_old for entry in kept)
        assert {entry.folder for entry in kept} == set((self.root / quarantine.FOLDER).glob("*"))

    @property
    def root(self) -> Path:
        return directory(self.daemon, IMAGE, 0).parents[2]

    def clear(self, step: int | None) -> None:
        """Remove the container, and delete the old files; daemons of other tests may have a copy of its mount."""
        self.daemon.ctr("snapshots", "remove", f"step-{step}")
        (self.base / f"step-{step}").rmdir()
        done = self.killer.run("quarantine", "drop", "--address", str(self.daemon.socket))
        assert done.status == 0, self.killer.said
        for entry in quarantine.entries(self.root):
            quarantine.discard(entry)
        assert not (self.root / quarantine.FOLDER).exists(), self.killer.said


def sweep(daemon: Containerd, registry: Registry, killer: Killer, base: Path) -> Sweep:
    """Pull the image."""
    daemon.cri_pull(registry.push(IMAGE, "lab/killed:1"))
    return Sweep(daemon, killer, base)
