"""A part of the demo: a node whose database was deleted; its images are recovered and run elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.registry import Registry
from tests.lab.stopped_node import META, stopped_node

Run = Callable[..., int]


def show(version: str, registry: Registry, base: Path, *, run: Run, say: Callable[[str], None]) -> int:
    """Delete a database and bring the images to a fresh daemon; return the exit status of the last check.

    Args:
        version: Release of containerd.
        registry: Where the images come from.
        base: Folder for the daemons and the archive.
        run: Runs the auditor and returns its exit status.
        say: Announces a step.

    """
    say(f"a node with containerd {version}: images are pulled, the power goes, and meta.db is deleted")
    for name in ("node", "fresh"):
        (base / name).mkdir()
    node = stopped_node(version, base / "node", registry)
    (node.root / META).unlink()
    run("check", "--root", str(node.root))
    run("recover", "--root", str(node.root), "--dry-run")
    archive = str(base / "recovered.tar")
    run("recover", "--root", str(node.root), "--names", str(node.log), "-o", archive)
    with Containerd(version, base / "fresh") as fresh:
        fresh.ctr("images", "import", archive)
        say(f"a fresh containerd has the images by their names: {', '.join(sorted(node.tags))}")
        return run("check", "--address", str(fresh.socket), "--namespace", CRI_NAMESPACE, "--verify", "layers")
