"""The bug and the tool in one go, on real servers: `python -m tests.lab.demo [--version 2.1] [--keep]`.

Everything runs under a private folder and on 127.0.0.1, and is gone when the program ends.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests import images
from tests.lab import demo_dead_node
from tests.lab.kit import bug, faults
from tests.lab.kit.binaries import VERSIONS, NotInstalledError
from tests.lab.kit.containers import running, shell_layer
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd, parse_check
from tests.lab.kit.process import scratch, sweep
from tests.lab.kit.registry import Registry

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Show the bug, then what the auditor says and does; return 0 when the store is sound at the end."""
    options = _options(arguments)
    sweep()
    try:
        with scratch() as base, Registry(base / "registry") as registry:
            (base / "containerd").mkdir()
            with Containerd(options.version, base / "containerd") as daemon:
                status = show(daemon, registry, base)
                if options.keep:
                    keep(daemon)
            status = max(status, demo_dead_node.show(options.version, registry, base, run=run, say=say))
    except NotInstalledError as error:
        print(error, file=sys.stderr)
        return 3
    return status


def show(daemon: Containerd, registry: Registry, base: Path) -> int:
    """Walk through the whole story; return the exit status of the last check."""
    say(f"containerd {daemon.version}: pull two images that share two layers, compressed at different levels")
    found = bug.reproduce(daemon, registry, name="demo")
    for name, verdict in parse_check(daemon.ctr("images", "check")).items():
        if name in {found.first, found.second}:
            print(f"  ctr images check    {name}  {verdict}")
    export = daemon.ctr("images", "export", base / "broken.tar", found.second, check=False)
    print(f"  ctr images export   exit {export.returncode}: {export.stderr.strip().splitlines()[-1]}")

    top = found.pair.first.layers[-1].digest
    say(f"and a disk that flips one bit of {top[:19]}…, which ctr does not notice")
    faults.flip(daemon, top)
    print(f"  ctr images check    {found.first}  {parse_check(daemon.ctr('images', 'check'))[found.first]}")

    auditor(daemon, "check", "--verify", "digests")
    auditor(daemon, "tree", found.second)
    auditor(daemon, "diagnose", export.stderr.strip().splitlines()[-1])
    auditor(daemon, "repair", "--verify", "digests", "--yes")
    archive = str(base / "whole.tar")
    last = [
        auditor(daemon, "check", "--verify", "layers"),
        auditor(daemon, "export", found.second, "--output", archive),
        run("verify", archive),
    ]
    daemon.ctr("images", "import", archive, namespace="elsewhere")
    verdict = parse_check(daemon.ctr("images", "check", namespace="elsewhere"))[found.second]
    say(f"and ctr imports the archive: {found.second}  {verdict}")
    return max(*last, show_files(daemon, registry))


def show_files(daemon: Containerd, registry: Registry) -> int:
    """Damage a program that containers run, as a power cut does; return the exit status of the last check."""
    image = images.image([shell_layer(), images.layer({"etc/motd": b"hello"})])
    name = registry.push(image, "demo/shell:1")
    daemon.cri_pull(name)
    with running(daemon, name, "web") as web:
        say(
            "container web runs; a power cut leaves one of its programs with 0 bytes, and pulling again changes nothing"
        )
        (faults.snapshot_folder(daemon, image.chain_ids[0]) / "bin/sleep").write_bytes(b"")
        daemon.cri_pull(name)
        print(f"  ctr images check    {name}  {parse_check(daemon.ctr('images', 'check'))[name]}")
        failed = daemon.ctr("run", "--rm", "--null-io", name, "second", "/bin/sleep", "1", check=False)
        print(f"  ctr run             exit {failed.returncode}: {failed.stderr.strip()}")
        auditor(daemon, "check", "--verify", "snapshots", name)
        auditor(daemon, "repair", "--snapshots", "--yes", name)
        say("the second container runs now; web keeps its old files until it is restarted")
        again = daemon.ctr("run", "--rm", "--null-io", name, "second", "/bin/sleep", "0", check=False)
        print(f"  ctr run             exit {again.returncode}")
        run("quarantine", "list", "--address", str(daemon.socket))
        web.stop()
        web.start()
        run("quarantine", "drop", "--address", str(daemon.socket))
    return auditor(daemon, "check", "--verify", "snapshots")


def auditor(daemon: Containerd, command: str, *arguments: str) -> int:
    """Run the auditor on the daemon as a person would, and return its exit status."""
    return run(command, "--address", str(daemon.socket), "--namespace", CRI_NAMESPACE, *arguments)


def run(*line: str) -> int:
    """Run the auditor, and return its exit status."""
    say(f"$ auditor {shlex.join(line)}")
    status = subprocess.run([sys.executable, "-m", "auditor", *line], cwd=ROOT, check=False).returncode
    print(f"  exit {status}")
    return status


def keep(daemon: Containerd) -> None:
    """Leave the servers up until Ctrl-C."""
    say(f"the store stays up; in another terminal: {shlex.join(daemon.ctr_command('images', 'check'))}")
    try:
        signal.pause()
    except KeyboardInterrupt:
        print()


def say(text: str) -> None:
    """Announce a step."""
    print(f"\n== {text}", flush=True)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="demo", description="Show the missing-blobs bug and its repair.")
    parser.add_argument("--version", choices=VERSIONS, default=VERSIONS[-1], help="release of containerd")
    parser.add_argument("--keep", action="store_true", help="leave the servers up until Ctrl-C")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
