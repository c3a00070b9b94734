"""Stores of real lazy snapshotters: a lazily pulled image gives no alarm, a real loss is found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from tests import images
from tests.lab.checked import check, loud, quiet
from tests.lab.conftest import StartDaemon
from tests.lab.kit import bug, faults, proxies
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry

ON = [(version, name) for version in ("1.7", "2.1") for name in proxies.NAMES]


@dataclass(frozen=True)
class Lazy:
    """A daemon on a lazy snapshotter, and two registries with the same data: one with TLS that `ca` signs, one plain.

    soci reads its indexes with TLS, and layers of registries on 127.0.0.1 without.
    """

    daemon: Containerd
    secure: Registry
    plain: Registry
    ca: Path

    @property
    def downloads_all(self) -> bool:
        """Whether ctr of this release downloads every layer, so that the bug does not show."""
        return (self.daemon.version, self.daemon.snapshotter) == ("1.7", "soci")


@pytest.fixture(params=[(version, name) for version in ("1.7", "2.1") for name in proxies.NAMES], ids="-".join)
def lazy(request: pytest.FixtureRequest, start_daemon: StartDaemon, base: Path) -> Iterator[Lazy]:
    version, name = request.param
    ca, chain = base / "ca.pem", base / "chain.pem"
    with ExitStack() as running:
        secure = running.enter_context(Registry(base / "registry", tls=(chain, certify(ca, chain)), ca=ca))
        plain = running.enter_context(Registry(base / "registry"))
        mirrors = {secure.host: plain.host}
        options = running.enter_context(proxies.proxy(name, version, base, trusted=ca, plain=mirrors))
        daemon = start_daemon(version, **options)
        folder = daemon.certs_dir / secure.host
        folder.mkdir(parents=True)
        (folder / "hosts.toml").write_text(f'server = "https://{secure.host}"\nca = "{ca}"\n')
        yield Lazy(daemon, secure, plain, ca)


def certify(ca: Path, chain: Path) -> Path:
    """Make an authority and a certificate of 127.0.0.1; return its key."""
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(ca)
    chain.write_bytes(b"".join(part.bytes() for part in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(chain.with_suffix(".key"))
    return chain.with_suffix(".key")


def test_a_lazy_image_gives_no_alarm_and_a_real_loss_is_found(lazy: Lazy) -> None:
    absent = ABSENT[lazy.daemon.snapshotter](lazy)
    ran = check(lazy.daemon, "--verify", "layers")
    assert loud(ran.report) == set()
    assert ran.status == 0
    assert {("blob-lazy", digest) for digest in absent} <= quiet(ran.report)
    assert not set(absent) & lazy.daemon.blobs()
    a_real_loss_is_found(lazy)


def a_real_loss_is_found(lazy: Lazy) -> None:
    """Damage the store of a lazy snapshotter further."""
    daemon = lazy.daemon
    pair = bug.pair(shared=1, own=1, name="lost", kilobytes=16)
    for which, image in (("first", pair.first), ("second", pair.second)):
        lazy.secure.push(image, f"lab/lost:{which}")
        pull(lazy, f"lab/lost:{which}")
    skipped = {("snapshot-without-blob", digest) for digest in pair.skipped if digest not in daemon.blobs()}
    assert skipped or lazy.downloads_all
    report = check(daemon).report
    assert loud(report) == skipped
    if daemon.snapshotter == "nydus":  # CRI told it the blob that each snapshot is made from: the twin's
        (found,) = (finding for finding in report.findings if finding.code == "snapshot-without-blob")
        twin = pair.twins[found.subject.digest]
        assert (built_from(daemon, pair.second.chain_ids[0]), found.cause) == (twin, "missing-blobs-bug")
        assert "recorded by the snapshot's label" in found.message
    top = pair.first.layers[-1].digest
    faults.flip(daemon, top)
    assert loud(check(daemon, "--verify", "digests").report) == {*skipped, ("digest-mismatch", top)}
    faults.remove_record(daemon, pair.first.config_digest)
    assert ("missing-config", pair.first.config_digest) in loud(check(daemon).report)


def built_from(daemon: Containerd, chain_id: str) -> str:
    """Return the blob that CRI says a snapshot is made from."""
    info = daemon.ctr("snapshots", "--snapshotter", daemon.snapshotter, "info", chain_id).stdout
    return str(json.loads(info)["Labels"]["containerd.io/snapshot/cri.layer-digest"])


def pull(lazy: Lazy, name: str) -> None:
    """Pull an image that is not lazy; soci is not given the labels, with which it fetches each layer by itself."""
    if lazy.daemon.snapshotter == "soci":
        lazy.daemon.ctr("images", "pull", "--plain-http", "--snapshotter", "soci", lazy.plain.reference(name))
    else:
        lazy.daemon.cri_pull(lazy.secure.reference(name))


def pulled_by_soci(lazy: Lazy) -> tuple[str, ...]:
    """Pull an image of which one layer has an index and is mounted, and one is fetched by the snapshotter itself."""
    layers = [images.layer(images.files("indexed", kilobytes=256)), images.layer(images.files("small", kilobytes=8))]
    image = images.image(layers)
    reference = lazy.secure.push(image, "lab/soci:1")
    proxies.soci_index(lazy.daemon, reference, lazy.ca, least=50_000)
    proxies.soci_pull(lazy.daemon, reference, lazy.ca)
    snapshots = ("snapshots", "--snapshotter", "soci", "info")
    found = [json.loads(lazy.daemon.ctr(*snapshots, name).stdout)["Labels"] for name in image.chain_ids]
    assert [faults.REMOTE_LABEL in labels for labels in found] == [True, False]
    return tuple(layer.digest for layer in layers)


def pulled_by_nydus(lazy: Lazy) -> tuple[str, ...]:
    """Pull an image of nydus' format; its bootstrap is downloaded, its data is not."""
    image = proxies.nydus_image("nydus")
    lazy.daemon.cri_pull(lazy.secure.push(image, "lab/nydus:1"))
    return (image.layers[0].digest,)


#: Pulls a lazy image, and returns the layers of it that containerd never had.
ABSENT: dict[str, Callable[[Lazy], tuple[str, ...]]] = {"soci": pulled_by_soci, "nydus": pulled_by_nydus}
