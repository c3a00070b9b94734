"""What a power cut did to unpacked images, by their own files and not by the auditor's comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auditor.repair.plan_snapshots import REBUILT
from auditor.snapshots.folders import read_rows
from tests import images
from tests.lab.checked import auditor
from tests.lab.kit.containers import shell_files, shell_layer
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.registry import Registry

#: Runs a program without a network.
OFFLINE: Final = ("unshare", "--net")
Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Stocked:
    """An image that runs, with the files of each layer."""

    name: str
    image: images.BuiltImage
    layers: tuple[Files, ...]


def stocked(registry: Registry, seed: str, *, layers: int = 2, files: int = 20) -> Stocked:
    """Push an image of a shell and some layers."""
    contents = [_contents(f"{seed}-{number}", files) for number in range(layers)]
    image = images.image([shell_layer(), *map(images.layer, contents)])
    return Stocked(registry.push(image, f"lab/{seed}:1"), image, (shell_files(), *contents))


def _contents(seed: str, count: int) -> Files:
    return {f"opt/{seed}/{number}": images.noise(f"{seed}-{number}", 1000 + 700 * number) for number in range(count)}


def damaged(daemon: Containerd, everything: Iterable[Stocked]) -> dict[str, Path]:
    """Return the digests of the images whose unpacked files are not those of the image, with an example."""
    found = {each.image.digest: wrong(daemon, each) for each in everything}
    return {digest: paths[0] for digest, paths in found.items() if paths}


def wrong(daemon: Containerd, each: Stocked) -> list[Path]:
    """Return the unpacked files that are not those of the image; none where it is not unpacked."""
    folders = layer_folders(daemon, each)
    return [
        folder / name
        for folder, files in zip(folders, each.layers, strict=False)
        for name, content in files.items()
        if _content(folder / name) != content
    ]


def layer_folders(daemon: Containerd, each: Stocked) -> list[Path]:
    """Return the folders of the layers; none where it is not unpacked."""
    root = daemon.root / "io.containerd.snapshotter.v1.overlayfs"
    rows = read_rows(daemon.root / "io.containerd.metadata.v1.bolt/meta.db", "overlayfs", root)
    keys = [(CRI_NAMESPACE, "overlayfs", chain) for chain in each.image.chain_ids]
    return [root / "snapshots" / rows[key].id / "fs" for key in keys] if keys[-1] in rows else []


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def named(daemon: Containerd) -> set[str]:
    """Return the digests of the images that a check names for their unpacked files."""
    return _named("--verify", "snapshots", "--address", daemon.socket)


def named_on_disk(root: Path) -> set[str]:
    """Return the same of the disk of a daemon that is down, at the lowest level."""
    return _named("--root", root)


def _named(*options: str | Path) -> set[str]:
    run = auditor("check", "--format", "json", *options)
    assert run.status in (0, 1), run.err
    return {image.target for finding in run.report.findings if finding.code in REBUILT for image in finding.images}


def repaired(daemon: Containerd, *, through: tuple[str, ...] = OFFLINE) -> str:
    """Repair, by default without a network; return what was printed."""
    run = auditor("repair", "--snapshots", "--yes", "--address", daemon.socket, through=through)
    assert run.status == 0, f"{run.out}{run.err}"
    return run.out
