"""Containers that run: an image with a shell of this machine, and tasks of runc whose files are seen from outside."""

from __future__ import annotations

import gzip
import io
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from tests import images
from tests.lab.kit.daemon import Containerd

#: A command that runs until it is killed.
WAIT: Final = ("/bin/sh", "-c", "while :; do /bin/sleep 1000; done")
_PROGRAMS: Final = ("sh", "sleep", "cat")


@cache
def shell_layer() -> images.BuiltLayer:
    """Return a layer with a shell and what it needs to run; its bytes differ from one machine to another."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in sorted(shell_files().items()):
            info = tarfile.TarInfo(name)
            info.mode, info.mtime, info.size = 0o755, 1_600_000_000, len(data)
            tar.addfile(info, io.BytesIO(data))
    return images.raw_layer(gzip.compress(out.getvalue(), 1, mtime=0), diff_id=images.sha256(out.getvalue()))


@cache
def shell_files() -> dict[str, bytes]:
    """Return the files of `shell_layer`."""
    found = {}
    for program in _PROGRAMS:
        path = Path("/bin") / program
        found[f"bin/{program}"] = path.read_bytes()
        listed = subprocess.run(["ldd", path], capture_output=True, text=True, check=True).stdout
        for word in listed.split():
            if word.startswith("/"):
                found[word.lstrip("/")] = Path(word).read_bytes()
    return found


class Running:
    """A task of a container."""

    def __init__(self, daemon: Containerd, name: str) -> None:
        self._daemon = daemon
        self.name = name

    @property
    def root(self) -> Path:
        """The container's root, as its processes see it."""
        listed = self._daemon.ctr("tasks", "list").stdout.splitlines()[1:]
        (pid,) = (line.split()[1] for line in listed if line.split()[0] == self.name)
        return Path(f"/proc/{pid}/root")

    def stop(self) -> None:
        """Kill the task; the container and its files stay."""
        self._daemon.ctr("tasks", "delete", "--force", self.name)

    def start(self) -> None:
        """Start the container again."""
        self._daemon.ctr("tasks", "start", "--detach", "--null-io", self.name)


@contextmanager
def running(daemon: Containerd, image: str, name: str, *labels: str) -> Iterator[Running]:
    """Run a container of an image with `shell_layer` in it; it is removed at the end."""
    given = [word for label in labels for word in ("--label", label)]
    # runc's state and the cgroup are those of the machine: another daemon may run a container of this name.
    base = daemon.root.parent
    own = ("--runc-root", str(base / "runc"), "--cgroup", f"/{base.parent.name}-{base.name}-{name}")
    daemon.ctr("run", "--detach", "--null-io", *own, *given, image, name, *WAIT)
    task = Running(daemon, name)
    try:
        yield task
    finally:
        daemon.ctr("tasks", "delete", "--force", name, check=False)
        daemon.ctr("containers", "delete", name, check=False)
