"""The missing-blobs bug, reproduced with nothing but two pulls: same layers, compressed twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from tests import images
from tests.lab.kit.daemon import CRI_NAMESPACE, Containerd
from tests.lab.kit.dockerd import MOBY_NAMESPACE, Dockerd
from tests.lab.kit.registry import Registry


@dataclass(frozen=True)
class Pair:
    """Two images whose lowest `shared` layers have the same content in different blobs."""

    first: images.BuiltImage
    second: images.BuiltImage
    shared: int

    @property
    def skipped(self) -> tuple[str, ...]:
        """The blobs of the second image that a store with the first one unpacked does not download."""
        return tuple(layer.digest for layer in self.second.layers[: self.shared])

    @property
    def twins(self) -> dict[str, str]:
        """Each skipped blob, with the blob of the first image that holds the same layer."""
        low = self.first.layers[: self.shared]
        return dict(zip(self.skipped, (layer.digest for layer in low), strict=True))


@dataclass(frozen=True)
class Reproduction:
    """A store in which `second` is broken: `skipped` are the blobs it lacks, bottom layer first."""

    namespace: str
    first: str
    second: str
    pair: Pair

    @property
    def skipped(self) -> tuple[str, ...]:
        return self.pair.skipped


@cache
def pair(
    *,
    shared: int = 2,
    own: int = 1,
    name: str = "bug",
    first: images.Compression = "gzip",
    second: images.Compression = "gzip",
    kilobytes: int = 64,
) -> Pair:
    """Build the two images; both at gzip by default, at levels 1 and 9. `own=0` leaves the second no layer to fetch."""

    def build(which: str, compression: images.Compression, level: int) -> images.BuiltImage:
        low = [f"{name}-base-{number}" for number in range(shared)]
        top = [f"{name}-{which}-{number}" for number in range(own)]
        mixes = [images.files(seed, kilobytes=kilobytes) for seed in (*low, *top)]
        layers = [images.layer(mix, compression=compression, level=level) for mix in mixes]
        return images.image(layers, config_extra={"author": which})

    return Pair(build("first", first, 1), build("second", second, 9), shared)


def reproduce(daemon: Containerd, registry: Registry, *, built: Pair | None = None, name: str = "bug") -> Reproduction:
    """Pull both images as a kubelet does. Every release has the bug this way."""

    def pull(reference: str) -> None:
        daemon.cri_pull(reference)

    return _reproduce(pull, registry, built=built or pair(name=name), name=name, namespace=CRI_NAMESPACE)


def reproduce_transfer(
    daemon: Containerd,
    registry: Registry,
    *,
    built: Pair | None = None,
    name: str = "bug",
    namespace: str = "default",
) -> Reproduction:
    """Pull both with `ctr images pull`. From 2.0 on this goes through the transfer service, which has the bug too."""

    def pull(reference: str) -> None:
        daemon.ctr("images", "pull", "--plain-http", reference, namespace=namespace)

    return _reproduce(pull, registry, built=built or pair(name=name), name=name, namespace=namespace)


def reproduce_docker(
    dockerd: Dockerd, registry: Registry, *, built: Pair | None = None, name: str = "bug"
) -> Reproduction:
    """Pull both with the Docker engine on containerd's image store."""
    return _reproduce(dockerd.pull, registry, built=built or pair(name=name), name=name, namespace=MOBY_NAMESPACE)


def reproduce_shared_config(daemon: Containerd, registry: Registry, *, name: str = "shared-config") -> Reproduction:
    """Pull an index with two manifests of one platform and one config, gzip and zstd: the separate, second bug.

    From 2.0 on both manifests are there and the layers of one, by chance either, are not: that one is `pair.second`.
    Before, the CRI takes the first manifest and nothing of the other.
    """
    mixes = [images.files(f"{name}-{number}") for number in range(2)]
    kinds: tuple[images.Compression, ...] = ("gzip", "zstd")
    packed = [images.image([images.layer(mix, compression=kind) for mix in mixes]) for kind in kinds]
    reference = registry.push(images.index(packed), f"lab/{name}:1")
    daemon.cri_pull(reference)
    blobs = daemon.blobs()
    whole, lacking = sorted(packed, key=lambda one: one.layers[0].digest not in blobs)
    return Reproduction(CRI_NAMESPACE, reference, reference, Pair(whole, lacking, len(mixes)))


def _reproduce(
    pull: Callable[[str], None], registry: Registry, *, built: Pair, name: str, namespace: str
) -> Reproduction:
    first = registry.push(built.first, f"lab/{name}-first:1")
    second = registry.push(built.second, f"lab/{name}-second:1")
    pull(first)
    pull(second)
    return Reproduction(namespace, first, second, built)
