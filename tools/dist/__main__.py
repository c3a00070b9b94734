"""`make dist`: write every artefact of a release to a folder.

python -m tools.dist [--output dist] [--work build/dist]
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from tools.dist import archives, bill, bundle, chart, image, packages, recipe, systems, wheels


def bundled(system: systems.System, built: list[Path], work: Path) -> tuple[Path, list[bill.Json]]:
    """Write the bundle of an architecture, with its SBOM in share/; return its folder and its parts."""
    root = work / f"bundle-{system.arch}"
    chosen = wheels.of(system, built, work)
    bundle.build(root, work, chosen, system)
    parts = bill.components(root, chosen, system)
    (root / "share/sbom.cdx.json").write_bytes(bill.sbom(parts))
    return root, parts


def packed(root: Path, stem: str) -> bytes:
    """Return a bundle as .tar.xz."""
    return archives.xz(archives.tar(archives.tree(root, stem), epoch=recipe.epoch()))


def build(output: Path, work: Path) -> list[str]:
    """Write the artefacts; return their names.

    Args:
        output: The folder for the artefacts; files of an earlier build of the same names are replaced.
        work: A folder for the build, emptied first.

    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    output.mkdir(parents=True, exist_ok=True)
    recipe.check_programs()
    built = wheels.build(work)
    stem = f"{recipe.NAME}-{recipe.version()}"
    root, parts = bundled(systems.HOST, built, work)
    files = {f"{stem}-linux-amd64.tar.xz": packed(root, stem)}
    other, _ = bundled(systems.arm64(work), built, work)
    files |= {
        f"{stem}-linux-arm64.tar.xz": packed(other, stem),
        f"{stem}-linux-amd64.oci.tar": image.archive(root, work),
        f"{stem}-chart.tgz": chart.package(work / "source"),
        f"{stem}.sbom.cdx.json": bill.sbom(parts),
    }
    files |= {path.name: path.read_bytes() for path in built if path.name.startswith("containerd_auditor-")}
    files |= {path.name: path.read_bytes() for path in packages.build(root, work, work)}
    files[f"{stem}.provenance.json"] = bill.provenance(files, parts)
    sums = "".join(f"{archives.sha256(content)}  {name}\n" for name, content in sorted(files.items()))
    files["SHA256SUMS"] = sums.encode()
    for name, content in files.items():
        (output / name).write_bytes(content)
    return sorted(files)


def main() -> int:
    """Read the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.dist", description="Build every artefact of a release.")
    parser.add_argument("--output", type=Path, default=Path("dist"), help="folder for the artefacts (dist)")
    parser.add_argument("--work", type=Path, default=Path("build/dist"), help="folder for the build, emptied first")
    given = parser.parse_args()
    try:
        for name in build(given.output.absolute(), given.work.absolute()):
            sys.stdout.write(f"{given.output / name}\n")
    except (recipe.CannotBuild, OSError) as error:
        sys.stderr.write(f"make dist: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
