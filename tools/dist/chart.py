"""The Helm chart as a package, with the bytes that the files of the checkout determine."""

from __future__ import annotations

from pathlib import Path

from tools.dist import archives, recipe

CHART = "deploy/helm/containerd-auditor"


def package(source: Path) -> bytes:
    """Return the chart's .tgz: one folder of the chart's name, with its text files."""
    root = source / CHART
    files = [(f"{recipe.NAME}/{p.relative_to(root)}", p) for p in sorted(root.rglob("*")) if p.is_file()]
    return archives.gz(archives.tar(files, epoch=recipe.epoch()))
