"""End a daemon in the middle of pulls and removals, and compare its disk with what it lists after a restart."""

from __future__ import annotations

import json
import random
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import msgspec

from auditor import containerd
from auditor.model.store import Inventory, Store
from auditor.offline.store import OfflineStore
from tests import images
from tests.lab.checked import auditor_here
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.process import ServerError
from tests.lab.kit.registry import Registry

#: Images that the clients pull and remove.
_IMAGES = 6
#: Operations of one client before it ends by itself.
_STEPS = 40


def pushed(registry: Registry) -> tuple[str, ...]:
    """Push the images of the clients, each with a layer of its own and one of all."""
    shared = images.layer(images.files("interrupted", kilobytes=64))
    made = [
        images.image([shared, images.layer(images.files(f"interrupted-{number}", kilobytes=512))])
        for number in range(_IMAGES)
    ]
    return tuple(registry.push(image, f"lab/interrupted-{number}:1") for number, image in enumerate(made))


def differences(
    daemon: Containerd, names: Sequence[str], chance: random.Random, *, end: Callable[[], None]
) -> list[str]:
    """Let two clients work, end the daemon among their operations, and compare its disk with a restart.

    Args:
        daemon: A running daemon; it runs again afterwards.
        names: The images.
        chance: Chooses the operations and the end.
        end: Ends the daemon.

    Returns:
        The kinds of records that differ, with both values, and the parts of the reports of two checks that differ.

    """
    clients = _Clients(daemon, names, chance)
    clients.work_until(chance.randrange(3, 12))
    end()
    clients.end()
    offline = OfflineStore(daemon.root)
    disk, described = inventories(offline), _checked("--root", daemon.root)
    daemon.start()
    with containerd.connect(daemon.socket) as store:
        live = inventories(store)
    described_live = _checked("--address", daemon.socket)
    if offline.info().platform is None:  # check --verbose says so
        for each in (described, described_live):
            each["findings"] = [one for one in each["findings"] if one["code"] != "not-unpacked"]
            each["summary"]["findings"].pop("info")
    return [*_compared(disk, live), *_parts(described, described_live, "report")]


def _checked(*where: str | Path) -> dict[str, Any]:
    """Return the report of a check without what belongs to the moment, the daemon's address, and the repair."""
    done = auditor_here("check", *where, "--allow-empty", "--verify", "digests", "--format", "json")
    assert done.out, done.err
    report: dict[str, Any] = json.loads(done.out)
    for name in ("started_at", "finished_at", "duration_seconds", "facts"):
        report.pop(name)
    for name in ("kind", "address", "version"):
        report["source"].pop(name)
    for finding in report["findings"]:
        finding.pop("hint")
    return report | {"exit": done.status}


def _parts(disk: object, live: object, name: str) -> Iterator[str]:
    """Yield the smallest parts of two documents that differ."""
    if isinstance(disk, dict) and isinstance(live, dict) and disk.keys() == live.keys():
        for key in disk:
            yield from _parts(disk[key], live[key], f"{name}.{key}")
    elif isinstance(disk, list) and isinstance(live, list) and len(disk) == len(live):
        for index, (one, other) in enumerate(zip(disk, live, strict=True)):
            yield from _parts(one, other, f"{name}[{index}]")
    elif disk != live:
        yield f"{name}: {disk} from the disk, {live} from the daemon"


class _Clients:
    """Two clients that pull, fetch and remove until the daemon is gone."""

    def __init__(self, daemon: Containerd, names: Sequence[str], chance: random.Random) -> None:
        self._daemon = daemon
        self._names = names
        self._done = threading.Semaphore(0)
        self._over = False
        self._running: set[subprocess.Popen[bytes]] = set()
        seeds = [chance.getrandbits(32) for _ in range(2)]
        self._threads = [threading.Thread(target=self._work, args=(seed,)) for seed in seeds]

    def work_until(self, operations: int) -> None:
        """Start the clients and return when so many operations have ended."""
        for thread in self._threads:
            thread.start()
        for _ in range(operations):
            self._done.acquire()

    def end(self) -> None:
        """End the clients: some wait without end for a daemon that is gone."""
        self._over = True
        while any(thread.is_alive() for thread in self._threads):
            for process in list(self._running):
                process.kill()
            for thread in self._threads:
                thread.join(0.1)

    def _work(self, seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(_STEPS):
            if self._over:
                break
            name = chance.choice(self._names)
            match chance.randrange(3):
                case 0:
                    done = self._ran("images", "rm", "--sync", name)
                case 1:
                    done = self._ran("content", "fetch", "--plain-http", name, namespace="fetched")
                case _:
                    done = self._pulled(name)
            self._done.release()
            if not done:
                break
        for _ in range(_STEPS):
            self._done.release()

    def _ran(self, *command: str, namespace: str | None = None) -> bool:
        """Run ctr; False where it failed."""
        line = self._daemon.ctr_command("--connect-timeout", "1s", *command, namespace=namespace)
        with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            self._running.add(process)
            status = process.wait()
            self._running.discard(process)
        return status == 0

    def _pulled(self, name: str) -> bool:
        try:
            self._daemon.cri_pull(name)
        except (grpc.RpcError, ServerError, OSError):
            return False
        return True


def inventories(store: Store) -> dict[str, Inventory]:
    """Return the records of all namespaces, in a form that can be compared.

    Left out: a blob's time of change, which 1.6 and 1.7 do not send; snapshotters without snapshots.
    """
    return {name: _comparable(store.inventory(name)) for name in store.namespaces()}


def _comparable(found: Inventory) -> Inventory:
    blobs = {d: msgspec.structs.replace(b, updated=0) for d, b in sorted(found.blobs.items())}
    return msgspec.structs.replace(
        found,
        images=tuple(sorted(found.images, key=lambda image: image.name)),
        blobs=blobs,
        snapshots={name: dict(sorted(held.items())) for name, held in sorted(found.snapshots.items()) if held},
        leases=tuple(sorted(found.leases, key=lambda lease: lease.id)),
        ingests=tuple(sorted(found.ingests, key=lambda ingest: ingest.ref)),
    )


def _compared(disk: dict[str, Inventory], live: dict[str, Inventory]) -> Iterator[str]:
    for name in sorted(disk.keys() | live.keys()):
        if name not in disk or name not in live:
            yield f"namespace {name} is on {'the disk' if name in disk else 'the daemon'} only"
            continue
        for kind in Inventory.__struct_fields__:
            one, other = getattr(disk[name], kind), getattr(live[name], kind)
            if one != other:
                yield f"{kind} of {name}: {one} on the disk, {other} from the daemon"
