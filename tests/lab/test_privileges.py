"""Each command of the table in docs/reliability.md works with the privileges that the table gives it, and no more."""

from __future__ import annotations

import gzip
import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import images
from tests.lab.checked import Run, auditor
from tests.lab.kit import faults
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import rooted, scratch
from tests.lab.kit.registry import Registry
from tests.program import ROOT

_ROW = re.compile(r"^\| `(?P<command>[^`]+)` \| (?P<capabilities>[\w ]+) \| (?P<mounts>[^|]+) \|", re.MULTILINE)


@dataclass(frozen=True)
class Row:
    """A row of the table: the command, capabilities, and mounts of containerd's root."""

    command: str
    capabilities: tuple[str, ...]
    mounts: str


def rows() -> dict[str, Row]:
    text = (ROOT / "docs/reliability.md").read_text()
    found = (match.groupdict() for match in _ROW.finditer(text))
    return {
        row["command"]: Row(
            row["command"],
            tuple(word for word in row["capabilities"].split() if word != "none"),
            row["mounts"].strip(),
        )
        for row in found
    }


def another_user_s() -> images.BuiltLayer:
    """A layer with a folder and a file that root without capabilities may not read."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        folder, file = tarfile.TarInfo("private"), tarfile.TarInfo("private/secret")
        folder.type, folder.mode, file.mode, file.size = tarfile.DIRTYPE, 0o700, 0o600, 3
        for entry in (folder, file):
            entry.uid = entry.gid = 1000
            tar.addfile(entry, io.BytesIO(b"abc"))
    return images.raw_layer(gzip.compress(out.getvalue(), mtime=0), images.sha256(out.getvalue()))


IMAGE = images.image([images.layer(images.files("privileges", kilobytes=8)), another_user_s()])
LAYER = IMAGE.layers[0].digest


@dataclass(frozen=True)
class Node:
    """A daemon with the image, an archive of it, and a report."""

    daemon: Containerd
    reference: str
    folder: Path

    def words(self, command: str) -> list[str | Path]:
        """The arguments that make a command of the table whole."""
        address = ("--address", self.daemon.socket)
        offline = self.folder / "offline"
        more: dict[str, tuple[str | Path, ...]] = {
            "tree": (*address, self.reference),
            "scrub": (*address, "--state", self.folder / "state.db"),
            "scrub --snapshots": (*address, "--state", self.folder / "snapshots.db", "--max-age", "0s"),
            "export": (*address, "-o", self.folder / "out.tar", self.reference),
            "diagnose": (*address, LAYER),
            "verify": (self.folder / "image.tar",),
            "report": (self.folder / "report.json",),
            "health nagios": (self.folder / "report.json",),
            "rules": (),
            "check --root": (offline,),
            "scrub --root": (offline, "--state", self.folder / "offline.db"),
            "tree --root": (offline, self.reference),
            "diagnose --root": (offline, LAYER),
            "export --root": (offline, "-o", self.folder / "out.tar", self.reference),
            "recover --dry-run": ("--root", offline),
            "recover -o": (self.folder / "recovered.tar", "--root", offline),
            "recover --into": (self.daemon.socket, "--root", offline),
            "recover --meta-db": (self.folder / f"new-{len(list(self.folder.iterdir()))}.db", "--root", offline),
            "fleet": (self.folder / "report.json",),
        }
        return [*command.split(), *more.get(command, address)]

    def run(self, row: Row, capabilities: tuple[str, ...]) -> Run:
        return auditor(*self.words(row.command), through=[*self.mounts(row.mounts), *bound(capabilities)])

    def mounts(self, mounts: str) -> list[str]:
        root = self.daemon.root
        script = {
            "none": f"mount -t tmpfs lab {root}",
            "read-only": f"mount --bind {root} {root} && mount -o remount,ro,bind {root}",
            "read-write": "true",
        }[mounts]
        return [*rooted(self.folder / "tree"), "unshare", "-m", "sh", "-c", f'{script} && exec "$@"', "sh"]


def bound(capabilities: tuple[str, ...]) -> list[str]:
    kept = "".join(f",+{name.lower()}" for name in capabilities)
    return ["setpriv", "--no-new-privs", "--inh-caps=-all", "--bounding-set", f"-all{kept}"]


@pytest.fixture(scope="module")
def node(registry: Registry) -> Iterator[Node]:
    with scratch() as base, Containerd("2.1", base) as daemon:
        reference = registry.push(IMAGE, "lab/privileges:1")
        daemon.cri_pull(reference)
        daemon.force_gc()
        auditor("export", "--address", daemon.socket, "-o", base / "image.tar", reference)
        auditor("check", "--address", daemon.socket, "-f", "json", "-o", base / "report.json")
        for name in ("io.containerd.content.v1.content", "io.containerd.metadata.v1.bolt"):
            shutil.copytree(daemon.root / name, base / "offline" / name)
        snapshots = "io.containerd.snapshotter.v1.overlayfs"
        subprocess.run(["cp", "-a", daemon.root / snapshots, base / "offline" / snapshots], check=True)
        yield Node(daemon, reference, base)


_APART = ("repair", "quarantine drop", "watch", "check --since-crash")


@pytest.mark.parametrize("row", [row for row in rows().values() if not row.command.startswith(_APART)], ids=str)
def test_a_command_needs_no_more_than_the_table_says(node: Node, row: Row) -> None:
    assert_least(node, row)


def assert_least(node: Node, row: Row) -> None:
    done = node.run(row, row.capabilities)
    assert done.status == 0, done.out + done.err
    if row.capabilities:
        without = node.run(row, ())
        assert without.status == 3, (without.out, without.err)
        assert f"CAP_{row.capabilities[0]}" in without.out + without.err


def test_files_that_were_unpacked_just_before_a_crash(registry: Registry) -> None:
    with scratch() as base, Containerd("2.1", base) as daemon:
        daemon.cri_pull(registry.push(IMAGE, "lab/privileges:1"))
        daemon.restart()
        assert_least(Node(daemon, "", base), rows()["check --since-crash"])


@pytest.mark.parametrize("command", ["repair --yes --verify digests", "repair --yes --content-root none"])
def test_a_repair_needs_no_capability(node: Node, command: str) -> None:
    row = rows()[command]
    assert row.capabilities == ()
    if "none" in command:
        faults.empty_file(node.daemon, LAYER)
    else:
        faults.flip(node.daemon, LAYER)
    done = node.run(row, ())
    assert done.status == 0, done.out + done.err
    assert images.sha256(node.daemon.blob_path(LAYER).read_bytes()) == LAYER


def test_unpacked_files_are_rebuilt_and_the_old_ones_deleted(node: Node) -> None:
    """The layer has a directory of another user, which only its owner may look into and delete from."""
    rebuild, drop = rows()["repair --yes --snapshots"], rows()["quarantine drop"]
    (secret,) = (node.daemon.root / "io.containerd.snapshotter.v1.overlayfs/snapshots").rglob("secret")
    secret.write_bytes(b"")
    for missing, said in (("DAC_READ_SEARCH", 3), ("SYS_ADMIN", 1)):
        without = node.run(rebuild, tuple(name for name in rebuild.capabilities if name != missing))
        assert without.status == said, without.err
        assert f"CAP_{missing}" in without.out + without.err
    done = node.run(rebuild, rebuild.capabilities)
    assert done.status == 0, done.out + done.err
    assert secret.read_bytes() == b"abc"
    half = node.run(drop, ())
    assert half.status == 3
    assert "CAP_DAC_OVERRIDE" in half.err
    assert "1 deleted" in node.run(drop, drop.capabilities).out


def test_a_watch_needs_no_capability(node: Node) -> None:
    """It ends by SIGTERM once its first check has written the metrics."""
    row, metrics = rows()["watch"], node.folder / "watch.prom"
    script = '"$@" & until [ -e "$0" ]; do sleep 0.05; done; kill $!; wait $!'
    ended = auditor(
        *("watch", "--address", node.daemon.socket, "--textfile", metrics),
        through=[
            *node.mounts(row.mounts),
            *bound(row.capabilities),
            *("timeout", "60", "sh", "-c", script, str(metrics)),
        ],
    )
    assert ended.status == 0, ended.err
    assert "CAP_" not in ended.err
    assert 'command="watch"' in metrics.read_text()
