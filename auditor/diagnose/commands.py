"""Shell commands that help with a finding: auditor, ctr, crictl; the safest first; pure.

Names of images are untrusted input: each is quoted for the shell. Explanations are shell comments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from auditor.checks.rule import UNPACKED, selector
from auditor.model import reference
from auditor.model.command_line import clients_at, command, is_command
from auditor.model.findings import Finding
from auditor.model.store import SourceKind

_CRI = "k8s.io"
_DOCKER = "moby"
_KERNEL = "dmesg -T | grep -iE 'i/o error|nvme|ata|ext4|xfs|btrfs'  # kernel errors of the disk?"
_FETCH = frozenset({"snapshot-without-blob", "shared-config-layers"})
_ABSENT = frozenset({"incomplete-image", "missing-manifest", "missing-config"})
_DAMAGED = frozenset({"blob-file-missing", "size-mismatch", "digest-mismatch"})
#: Commands of auditor with an option `--platform`.
_BY_PLATFORM = frozenset({"check", "export", "repair", "tree"})
#: Commands of auditor with an option `--root`.
_BY_ROOT = frozenset({"check", "diagnose", "export", "recover", "scrub", "tree"})
#: Beginnings of commands that need a running daemon.
_LIVE = ("auditor repair ", "crictl ", "ctr ", "docker ", "nsenter ")
#: Maximum of platforms that are named in commands.
_PLATFORMS = 2
_PUBLISHED = frozenset(
    "malformed-manifest malformed-descriptor layer-count-mismatch layer-undecodable diffid-mismatch".split()
)


class CommandTarget(msgspec.Struct, frozen=True, kw_only=True):
    """The store that the commands act on.

    Attributes:
        kind: Kind of the store.
        address: Path of the socket, if the user named one.
        archive: Path of the archive, if the store is one.
        root: Root of the stopped daemon, if the store is its disk.
        while_running: A daemon may use the root.
        platforms: Platforms that the user asked about, for commands that take `--platform`.

    """

    kind: SourceKind = SourceKind.CONTAINERD
    address: str = ""
    archive: str = ""
    root: str = ""
    while_running: bool = False
    platforms: tuple[str, ...] = ()

    def auditor(self, verb: str, *words: str) -> str:
        """Return an auditor command."""
        place = ("--address", self.address) if self.address else ()
        if self.root and verb in _BY_ROOT:
            place = ("--root", self.root, *(("--while-running",) if self.while_running and verb != "recover" else ()))
        return command("auditor", verb, *place, *(self._for_platforms() if verb in _BY_PLATFORM else ()), *words)

    def ctr(self, namespace: str, *words: str) -> str:
        """Return a ctr command."""
        return command("ctr", *(("-a", self.address) if self.address else ()), "-n", namespace, *words)

    def crictl(self, *words: str) -> str:
        """Return a crictl command."""
        return command("crictl", *(("-r", f"unix://{self.address}") if self.address else ()), *words)

    def pull(self, namespace: str, name: str) -> str:
        """Return the pull of an image by the client that owns the namespace."""
        if namespace == _CRI:
            return self.crictl("pull", name)
        if namespace == _DOCKER:
            return command("docker", "pull", *self._for_platforms(), name)
        return self.ctr(namespace, "images", "pull", *self._for_platforms(), name)

    def fetch(self, namespace: str, name: str) -> str:
        """Return the fetch of an image's absent blobs by ctr."""
        return self.ctr(namespace, "content", "fetch", *self._for_platforms(), name)

    def _for_platforms(self) -> tuple[str, ...]:
        return tuple(word for platform in self.platforms for word in ("--platform", platform))


def for_finding(finding: Finding, target: CommandTarget, *, named: Sequence[str] = ()) -> Iterator[str]:
    """Yield the commands for a finding; `named` are the images in the message, which may be the origin of a blob."""
    image = finding.images[0] if finding.images else None
    if target.kind is SourceKind.ARCHIVE:
        yield from for_archive(target, image.name if image is not None else "")
        return
    if image is None and finding.subject.digest and finding.code in _ABSENT | _DAMAGED:
        origin = ("--from", f"registry:{named[0]}") if named else ()
        yield from _repair(target, finding.namespace, finding.subject.digest, "--verify", "digests", *origin)
        return
    if image is None:
        yield target.auditor("check", *(("-n", finding.namespace) if finding.namespace else ()))
        yield _remedy(finding)
        return
    name = selector(image)
    by_code = _other_platforms if finding.code == "no-matching-platform" else _commands_by_code
    found = by_code(finding, target, image.namespace, name)
    # Other clients take no digest in place of the name.
    yield from (each for each in found if name == image.name or each.startswith("auditor "))
    yield target.auditor("tree", "-n", image.namespace, name) + "  # its blobs, and which are present"


def _commands_by_code(finding: Finding, target: CommandTarget, namespace: str, name: str) -> Iterator[str]:
    if finding.code in _FETCH:
        yield from _repair(target, namespace, name)
        yield target.fetch(namespace, name) + "  # fetches absent blobs from the registry"
    elif finding.code in _ABSENT:
        yield from _repair(target, namespace, name)
        yield target.pull(namespace, name) + "  # does the same, if the registry still has it"
    elif finding.code == "layers-not-fetched":
        yield target.pull(namespace, name) + "  # fetches its layers"
    elif finding.code in _DAMAGED and finding.cause != "records-disagree":
        yield from _repair(target, namespace, name, "--verify", "digests")
        yield _KERNEL
    elif finding.code in _PUBLISHED:
        yield command("skopeo", "inspect", "--raw", _remote(name)) + "  # as published; report it"
    elif finding.code in UNPACKED and finding.hint.startswith("auditor repair "):
        yield from _repair(target, namespace, name, "--snapshots")
    elif finding.code == "broken-snapshot-chain":
        yield from _unpack_again(target, namespace, name)
    elif finding.code == "blob-unreadable":
        yield _KERNEL
    elif finding.hint:
        yield _remedy(finding)


def _other_platforms(finding: Finding, target: CommandTarget, namespace: str, name: str) -> Iterator[str]:
    yield from for_platforms(
        target, namespace, name, [each for each in str(finding.facts.get("found", "")).split(", ") if each]
    )
    yield target.pull(namespace, name) + "  # if its tag has the platform by now"


def _remedy(finding: Finding) -> str:
    """Return what a finding prints as its remedy, a sentence as a comment; empty where it has none."""
    return finding.hint if not finding.hint or is_command(finding.hint) else f"# {finding.hint}"


def _remote(name: str) -> str:
    """Return an image of a registry as skopeo takes it, which refuses a tag beside a digest."""
    found = reference.find(name)
    return f"docker://{name}" if found is None or found.digest is None else f"docker://{found.name}@{found.digest}"


def _repair(target: CommandTarget, namespace: str, name: str, *more: str) -> Iterator[str]:
    yield target.auditor("repair", "-n", namespace, name, *more, "--dry-run") + "  # shows the plan; writes nothing"
    yield target.auditor("repair", "-n", namespace, name, *more)


def _unpack_again(target: CommandTarget, namespace: str, name: str) -> Iterator[str]:
    if namespace == _CRI:
        yield target.crictl("ps", "-a", "--image", name) + "  # what uses it?"
        yield f"{target.crictl('rmi', name)} && {target.crictl('pull', name)}  # when no container needs it"
    else:
        remove = target.ctr(namespace, "images", "rm", "--sync", name)
        yield f"{remove} && {target.pull(namespace, name)}  # when no container needs it"


def for_archive(target: CommandTarget, name: str) -> Iterator[str]:
    """Yield the commands for an incomplete archive: verify it, export it again."""
    yield command("auditor", "verify", "--verify", "layers", target.archive)
    wanted = command(name) if name and not name.startswith("-") else "IMAGE"
    yield f"auditor export {wanted} -o FILE  # exports again, atomically, where the image is complete"


def for_design(
    target: CommandTarget, namespace: str, name: str, by_design: str, *, platforms: Sequence[str] = ()
) -> Iterator[str]:
    """Yield the commands that fetch or export around a blob that is absent by design.

    Args:
        target: The store.
        namespace: Namespace of the image.
        name: Name of the image.
        by_design: Why the blob is absent.
        platforms: Platforms of the image that are complete.

    """
    if target.kind is SourceKind.ARCHIVE:
        yield from for_archive(target, name)
        return
    yield target.auditor("tree", "-n", namespace, name) + "  # shows which blobs are present"
    if "discards" in by_design:
        yield target.auditor("repair", "-n", namespace, name, "--include-discarded", "--dry-run")
        yield target.auditor("export", "-n", namespace, name, "-o", "FILE", "--refetch")
        yield (target.fetch(namespace, name) + "  # kept until the next garbage collection")
    elif "platform" in by_design:
        yield from for_platforms(target, namespace, name, platforms)
        yield (target.ctr(namespace, "content", "fetch", "--all-platforms", name) + "  # fetches all platforms")


def for_platforms(target: CommandTarget, namespace: str, name: str, platforms: Sequence[str]) -> Iterator[str]:
    """Yield the commands that export the platforms of an image that are complete."""
    target = msgspec.structs.replace(target, platforms=())
    for platform in platforms[:_PLATFORMS]:
        yield target.auditor("export", "-n", namespace, name, "--platform", platform, "-o", "FILE")
        shown = target.ctr(namespace, "images", "export", "--platform", platform, "FILE", name)
        yield f"{shown}  # the same with ctr"


def without_daemon(steps: Sequence[str], target: CommandTarget) -> tuple[str, ...]:
    """Return the commands that need no running daemon, and the one that lists what can be recovered."""
    kept = [step for step in steps if step and not step.startswith(_LIVE) and "--refetch" not in step]
    if any(step.startswith("auditor recover ") for step in kept):
        return tuple(kept)
    recover = target.auditor("recover", "--dry-run") + "  # lists the images that can be taken elsewhere"
    return tuple(dict.fromkeys((*kept, recover)))


def for_folder(folder: str) -> Iterator[str]:
    """Yield the commands that compare what this shell and containerd see of a snapshot's folder."""
    yield command("ls", "-ld", folder)
    yield f'nsenter -t "$(pidof containerd)" -m {command("ls", "-ld", folder)}  # what containerd sees'


def filled(step: str, *, name: str, digest: str, namespace: str, target: CommandTarget) -> str:
    """Return a step of a known message with its placeholders replaced.

    Args:
        step: The step; messages.toml.
        name: Image name in the message; without one, check and repair examine every image.
        digest: Digest in the message.
        namespace: Namespace of the image.
        target: The store.

    """
    # A name that begins with a dash would be taken for an option.
    shown = command(name) if name and not name.startswith("-") else ""
    if not shown and step.startswith(("auditor check", "auditor repair")):
        step = step.replace(" {image}", "")
    if (
        step.startswith("auditor ")
        and (target.address or target.root or target.platforms)
        and not step.startswith(("auditor verify", "auditor diagnose"))
        and "--root " not in step
    ):
        verb, _, rest = step.removeprefix("auditor ").partition(" ")
        step = f"{target.auditor(verb)} {rest}".rstrip()
    if target.root:
        step = step.replace("/var/lib/containerd", command(target.root))
    if target.address:
        step = clients_at(step, target.address)
    step = step.replace("docker://{image}", command(_remote(name)) if shown else "docker://IMAGE")
    step = step.replace("{image}", shown or "IMAGE").replace("{digest}", digest or "DIGEST")
    return step.replace("{namespace}", command(namespace))
