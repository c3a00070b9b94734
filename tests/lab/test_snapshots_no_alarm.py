"""No false alarm on unpacked files of images that ran, were changed, committed, mapped to other users, or built."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from pathlib import Path

from tests import images
from tests.lab.checked import check
from tests.lab.kit.containers import WAIT, running, shell_layer
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.dockerd import Dockerd
from tests.lab.kit.registry import Registry
from tests.lab.odd_layers import LAYERS, entry, layer, written
from tests.lab.repaired import archive

#: Odd layers below a shell.
ODD = (
    "whiteouts",
    "opaque",
    "replaced-hard-link",
    "xattrs",
    "times",
    "names",
    "owners",
    "implicit",
    "folder-over-file",
)
IMAGE = images.image([*(each for name in ODD for each in LAYERS[name]), shell_layer()])

#: An image whose owners can be mapped.
PLAIN = images.image([layer(entry("gone"), entry("a", b"1", mode=0o4755)), layer(entry(".wh.gone")), shell_layer()])


def quiet(daemon: Containerd, *levels: str) -> None:
    """Assert that no level finds anything above info, and that all can look at everything."""
    for level in levels or ("presence", "snapshots-quick", "snapshots"):
        run = check(daemon, "--verify", level)
        found = [(each.code, each.message) for each in run.report.findings if each.severity != "info"]
        assert (run.status, found, run.report.incomplete) == (0, [], ()), level


def test_images_that_ran_were_changed_committed_and_mapped(daemon: Containerd, registry: Registry, base: Path) -> None:
    name, plain = registry.push(IMAGE, "odd/ran:1"), registry.push(PLAIN, "odd/plain:1")
    daemon.cri_pull(name)
    daemon.ctr("images", "pull", "--plain-http", plain)
    with running(daemon, name, "first") as task:
        (task.root / "new").write_bytes(b"new")
        (task.root / "made").mkdir()
        (task.root / "bin/cat").unlink()
        (task.root / "bin/sleep").chmod(0o711)
        os.setxattr(task.root / "bin/sleep", "user.note", b"1")
        task.stop()  # by SIGKILL
        task.start()
        made = committed(daemon, "first")
        quiet(daemon, "snapshots")
        task.stop()
        daemon.ctr("snapshots", "commit", made.chain_ids[-1], "first")
    unpacked = archive(base / "committed.tar", made, name="lab/committed:1")
    daemon.ctr("images", "import", unpacked, namespace="other")
    daemon.ctr("images", "import", "--no-unpack", unpacked)
    # Where runc may not look into the lab's folders the containers do not start; their snapshots are made before.
    mapped = ("--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536")
    daemon.ctr("run", "--detach", "--null-io", *mapped, plain, "copied", *WAIT, check=False)
    daemon.ctr("run", "--detach", "--null-io", *mapped, "--remap-labels", plain, "mounted", *WAIT, check=False)
    copies = [key for key in daemon.snapshots() if key.startswith(f"{PLAIN.chain_ids[-1]}-")]
    assert copies or not daemon.version.startswith("1."), "the release leaves no copy with mapped owners"
    daemon.kill()
    daemon.start()  # all that was unpacked before is suspect now
    assert {made.chain_ids[-1], *IMAGE.chain_ids} <= daemon.snapshots().keys()
    quiet(daemon)


def committed(daemon: Containerd, container: str) -> images.BuiltImage:
    """Return the image that clients make of a container: with the difference of its snapshot as top layer."""
    diff = subprocess.run(daemon.ctr_command("snapshots", "diff", container), capture_output=True, check=True).stdout
    top = images.raw_layer(diff, diff_id=images.sha256(gzip.decompress(diff)))
    return images.image([*IMAGE.layers, top])


def test_images_that_an_engine_built_and_committed(dockerd: Dockerd, registry: Registry) -> None:
    name = registry.push(IMAGE, "odd/docker:1")
    dockerd.pull(name)
    made = written(entry("Dockerfile", f"FROM {name}\nCOPY a /made/a\nLABEL x=y\n".encode()), entry("a", b"1"))
    status, said = dockerd.request("POST", "/build?t=lab/built:1&version=1", body=made)
    assert (status, b"errorDetail" in said) == (200, False), said
    body = json.dumps({"Image": name, "Cmd": WAIT, "HostConfig": {"NetworkMode": "none"}}).encode()
    status, said = dockerd.request("POST", "/containers/create?name=made", body=body, media_type="application/json")
    assert status == 201, said
    changes = written(entry("bin/cat", b"changed", mode=0o755), entry("new", b"1", uid=7))
    status, said = dockerd.request("PUT", "/containers/made/archive?path=/", body=changes)
    assert status == 200, said
    commit = "/commit?container=made&repo=lab/committed&tag=1"
    status, said = dockerd.request("POST", commit, media_type="application/json")
    assert status == 201, said
    assert {"lab/built:1", "lab/committed:1"} <= set(dockerd.images())
    quiet(dockerd.containerd)
