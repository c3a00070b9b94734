"""Repairing a lab daemon as its user does, and telling whether anything changed that should not have."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from auditor import containerd
from auditor.model.store import Inventory
from auditor.repair.own_state import is_own_lease
from tests.images import Built, sha256
from tests.lab.checked import Run, auditor_here
from tests.lab.kit.daemon import Containerd, parse_check

#: A record without its times, which a record that was made again cannot keep.
Record = tuple[int, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Dump:
    """Everything a daemon has: images, records, snapshots, leases and unfinished writes by namespace, and all files."""

    images: Mapping[tuple[str, str], str]
    records: Mapping[tuple[str, str], Record]
    snapshots: frozenset[str]
    leases: frozenset[str]
    ingests: frozenset[str]
    files: Mapping[str, tuple[str, int, int]]
    others: frozenset[str]

    def without(self, digests: Iterable[str]) -> Dump:
        """The same less some blobs."""
        gone = set(digests)
        records = {key: value for key, value in self.records.items() if key[1] not in gone}
        files = {key: value for key, value in self.files.items() if key not in gone}
        return Dump(self.images, records, self.snapshots, self.leases, self.ingests, files, self.others)


def dump(daemon: Containerd) -> Dump:
    """Look at all of it: records over the API, files on the disk."""
    with containerd.connect(daemon.socket, content_root=None) as store:
        found = [store.inventory(name) for name in store.namespaces()]
    root = daemon.content_root
    return Dump(
        images={(i.namespace, i.name): repr((i.target, i.labels)) for each in found for i in each.images},
        records={
            (each.namespace, b.digest): (b.size, tuple(sorted(b.labels.items())))
            for each in found
            for b in each.blobs.values()
        },
        snapshots=frozenset(_snapshots(found)),
        leases=frozenset(f"{lease.namespace} {lease.id}" for each in found for lease in each.leases),
        ingests=frozenset(f"{ingest.namespace} {ingest.ref}" for each in found for ingest in each.ingests),
        files={_digest(path): _file(path) for path in (root / "blobs").rglob("*") if path.is_file()},
        others=frozenset(str(path.relative_to(root)) for path in root.glob("*/*") if path.parent.name != "blobs"),
    )


def ours(daemon: Containerd) -> list[str]:
    """What of a repair is in the store: leases, writes, folders."""
    with containerd.connect(daemon.socket, content_root=None) as store:
        found = [store.inventory(name, snapshotters=()) for name in store.namespaces()]
    leases = [lease.id for each in found for lease in each.leases if is_own_lease(lease)]
    writes = [ingest.ref for each in found for ingest in each.ingests if ingest.ref.startswith("auditor")]
    folders = [path.name for path in daemon.content_root.iterdir() if path.name not in ("blobs", "ingest")]
    return [*leases, *writes, *folders]


def _snapshots(found: Iterable[Inventory]) -> Iterable[str]:
    for each in found:
        for held in each.snapshots.values():
            for snapshot in held.values():
                labels = sorted(snapshot.labels.items())
                yield f"{each.namespace} {snapshot.snapshotter} {snapshot.name} {snapshot.parent} {labels}"


def _digest(path: Path) -> str:
    return f"{path.parent.name}:{path.name}"


def _file(path: Path) -> tuple[str, int, int]:
    looked = path.stat()
    return hashlib.sha256(path.read_bytes()).hexdigest(), looked.st_mode, looked.st_uid


@dataclass(frozen=True)
class Repaired:
    """What a repair came to."""

    run: Run

    @property
    def status(self) -> int:
        return self.run.status

    @property
    def document(self) -> Any:
        return json.loads(self.run.out)

    @property
    def results(self) -> dict[str, str]:
        """By digest, what became of it."""
        return {row["digest"]: row["result"] for row in self.document["outcomes"]}

    @property
    def planned(self) -> dict[str, tuple[str, str]]:
        """By digest, what was to be done and how."""
        return {row["digest"]: (row["kind"], row["way"]) for row in self.document["plan"]["actions"]}

    @property
    def messages(self) -> str:
        """All that was said of outcomes."""
        return "\n".join("; ".join([row["message"], row["hint"], *row["notes"]]) for row in self.document["outcomes"])


def repair(daemon: Containerd, *arguments: str | Path, yes: bool = True) -> Repaired:
    """Run `auditor repair --format json`; --yes unless told otherwise."""
    line = ("repair", "--address", daemon.socket, "--format", "json", *(("--yes",) if yes else ()), *arguments)
    return Repaired(auditor_here(*line))


def sound(daemon: Containerd, built: Iterable[Built], reference: Iterable[tuple[str, str]], base: Path) -> None:
    """Assert that images are whole by everybody's word, and stay so through a collection.

    `reference` are namespaces and names.
    """
    for namespace in dict.fromkeys(namespace for namespace, _ in reference):
        daemon.force_gc(namespace)
    for namespace, name in reference:
        said = parse_check(daemon.ctr("images", "check", namespace=namespace))
        assert said[name].startswith("complete"), said
        target = base / f"export-{namespace}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.tar"
        local = () if daemon.version == "1.6" else ("--local",)
        daemon.ctr("images", "export", *local, target, name, namespace=namespace)
        target.unlink()
    for each in built:
        for digest in wanted(each):
            assert sha256(daemon.blob_path(digest).read_bytes()) == digest
    again = auditor_here("check", "--address", daemon.socket, "--verify", "digests", "--format", "json")
    over = [f for f in json.loads(again.out)["findings"] if f["severity"] != "info"]
    assert not over, over
    assert again.status == 0


def wanted(built: Built) -> set[str]:
    """The blobs of an image, as far as this machine's platform wants them: all, for what the lab builds."""
    return set(built.blobs)


def layout(folder: Path, built: Built, *, name: str) -> Path:
    """Write an OCI layout of an image."""
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    for digest, blob in built.blobs.items():
        (blobs / digest.removeprefix("sha256:")).write_bytes(blob)
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    target = {**built.target.json(), "annotations": {"io.containerd.image.name": name}}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [target]}))
    return folder


def archive(path: Path, built: Built, *, name: str) -> Path:
    """Write the same as a tar archive."""
    folder = layout(path.with_suffix(".d"), built, name=name)
    with tarfile.open(path, "w") as tar:
        for entry in sorted(folder.rglob("*")):
            tar.add(entry, arcname=entry.relative_to(folder), recursive=False)
    return path


DEVNULL: Final = os.devnull
