"""The commands that help with a finding, the safe ones first, in the words of this tool and of ctr and crictl; pure.

Names come from strangers: each is quoted for the shell. What stands behind a # is for the reader, harmless to paste.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from auditor.checks.rule import command
from auditor.model.findings import Finding
from auditor.model.store import SourceKind

_CRI = "k8s.io"
_DOCKER = "moby"
_KERNEL = "dmesg -T | grep -iE 'i/o error|nvme|ata|ext4|xfs|btrfs'  # does the kernel complain of the disk?"
_FETCH = frozenset({"snapshot-without-blob", "shared-config-layers"})
_ABSENT = frozenset({"incomplete-image", "missing-manifest", "missing-config"})
_DAMAGED = frozenset({"blob-file-missing", "size-mismatch", "digest-mismatch"})
_PUBLISHED = frozenset({"malformed-manifest", "layer-count-mismatch", "layer-undecodable", "diffid-mismatch"})


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where commands are to look: `address` is the socket where one was named, `archive` the file where it is one."""

    kind: SourceKind = SourceKind.CONTAINERD
    address: str = ""
    archive: str = ""

    def ours(self, verb: str, *words: str) -> str:
        """A command of this tool."""
        return command("auditor", verb, *(("--address", self.address) if self.address else ()), *words)

    def ctr(self, namespace: str, *words: str) -> str:
        """A command of ctr."""
        return command("ctr", *(("-a", self.address) if self.address else ()), "-n", namespace, *words)

    def crictl(self, *words: str) -> str:
        """A command of crictl."""
        return command("crictl", *(("-r", f"unix://{self.address}") if self.address else ()), *words)

    def pull(self, namespace: str, name: str) -> str:
        """The pull that brings an image where it belongs."""
        if namespace == _CRI:
            return self.crictl("pull", name)
        if namespace == _DOCKER:
            return command("docker", "pull", name)
        return self.ctr(namespace, "images", "pull", name)


def for_finding(finding: Finding, place: Place) -> Iterator[str]:
    """What helps with a finding."""
    image = finding.images[0] if finding.images else None
    if place.kind is SourceKind.ARCHIVE:
        yield from for_archive(place, image.name if image is not None else "")
        return
    if image is None:
        yield place.ours("check", *(("-n", finding.namespace) if finding.namespace else ()))
        yield finding.hint
        return
    yield from _cure(finding, place, image.namespace, image.name)
    yield place.ours("tree", "-n", image.namespace, image.name) + "  # what it is made of, and what is here"


def _cure(finding: Finding, place: Place, namespace: str, name: str) -> Iterator[str]:
    if finding.code in _FETCH:
        yield from _repair(place, namespace, name)
        yield place.ctr(namespace, "content", "fetch", name) + "  # from the registry; fetches what is absent"
    elif finding.code in _ABSENT:
        yield from _repair(place, namespace, name)
        yield place.pull(namespace, name) + "  # does the same, where the registry still has it"
    elif finding.code in _DAMAGED:
        yield from _repair(place, namespace, name, "--verify", "digests")
        yield _KERNEL
    elif finding.code in _PUBLISHED:
        yield command("skopeo", "inspect", "--raw", f"docker://{name}") + "  # what was published; ask its publisher"
    elif finding.code == "broken-snapshot-chain":
        yield from _unpack_again(place, namespace, name)
    elif finding.code == "blob-unreadable":
        yield _KERNEL
    elif finding.hint:
        yield finding.hint


def _repair(place: Place, namespace: str, name: str, *more: str) -> Iterator[str]:
    yield place.ours("repair", "-n", namespace, name, *more, "--dry-run") + "  # shows the plan; writes nothing"
    yield place.ours("repair", "-n", namespace, name, *more)


def _unpack_again(place: Place, namespace: str, name: str) -> Iterator[str]:
    if namespace == _CRI:
        yield place.crictl("ps", "-a", "--image", name) + "  # who uses it?"
        yield f"{place.crictl('rmi', name)} && {place.crictl('pull', name)}  # when no container needs it"
    else:
        remove = place.ctr(namespace, "images", "rm", "--sync", name)
        yield f"{remove} && {place.pull(namespace, name)}  # when no container needs it"


def for_archive(place: Place, name: str) -> Iterator[str]:
    """What helps with an archive that is not whole: nothing mends it, it is made again."""
    yield command("auditor", "verify", "--verify", "layers", place.archive)
    wanted = command(name) if name else "IMAGE"
    yield f"auditor export {wanted} -o FILE  # where the image is whole: makes the archive again, whole or not at all"


def for_design(place: Place, namespace: str, name: str, by_design: str) -> Iterator[str]:
    """What helps with a blob that is absent by design, should somebody need it."""
    if place.kind is SourceKind.ARCHIVE:
        yield from for_archive(place, name)
        return
    yield place.ours("tree", "-n", namespace, name) + "  # shows what is here and what is not"
    if "discards" in by_design:
        yield place.ours("repair", "-n", namespace, name, "--include-discarded", "--dry-run")
        yield place.ours("export", "-n", namespace, name, "-o", "FILE", "--refetch")
        yield place.ctr(namespace, "content", "fetch", name) + "  # from the registry; kept until garbage is collected"
    elif "platform" in by_design:
        yield place.ours("export", "-n", namespace, name, "-o", "FILE") + "  # the platform that is here, alone"
        yield place.ctr(namespace, "images", "export", "--platform", "OS/ARCH", "FILE", name) + "  # the same with ctr"
        yield place.ctr(namespace, "content", "fetch", "--all-platforms", name) + "  # fetches the others too"


def filled(step: str, *, name: str, digest: str, namespace: str, place: Place) -> str:
    """A step of a known message, with what the message names; without a name, checks and repairs look at everything."""
    shown = command(name) if name else ""
    if not shown and step.startswith(("auditor check", "auditor repair")):
        step = step.replace(" {image}", "")
    if step.startswith("auditor ") and place.address and not step.startswith(("auditor verify", "auditor diagnose")):
        verb, _, rest = step.removeprefix("auditor ").partition(" ")
        step = f"{place.ours(verb)} {rest}".rstrip()
    step = step.replace("{image}", shown or "IMAGE").replace("{digest}", digest or "DIGEST")
    return step.replace("{namespace}", command(namespace))
