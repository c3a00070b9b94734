"""The files of snapshots: directories that are missing, and files that differ from their layer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from auditor.checks.evidence import Evidence, NamespaceView, image_ref
from auditor.checks.rule import Hit, Rule
from auditor.model.findings import Fact, ImageRef, Severity, Subject
from auditor.model.plural import plural
from auditor.model.snapshot_files import Difference, Differences, Kind, SnapshotFiles, Usage

_REBUILD: Final = (
    "`auditor repair --snapshots` rebuilds the files from the layer while containers run, and lists the containers to "
    "restart. Pulling again changes nothing while the snapshot exists."
)
#: Hint for what `auditor repair --snapshots` refuses: other snapshotters, and committed snapshots.
_PULL_AGAIN: Final = (
    "Pulling again changes nothing while the snapshot exists. Remove all containers and images that use it in every "
    "namespace, then pull; or drain the node and do it there."
)
SNAPSHOT_DIRECTORY_MISSING = Rule(
    code="snapshot-directory-missing",
    severity=Severity.CRITICAL,
    means="The snapshot has its record; its directory does not exist (confirmed by a second look).",
    impact="Containers of the image do not start: `failed to stat parent`, `no such file or directory`.",
    remedy=_REBUILD,
)
SNAPSHOT_EMPTY = Rule(
    code="snapshot-empty",
    severity=Severity.CRITICAL,
    means="The snapshot's directory is empty; its layer, or its recorded usage, has files.",
    impact="Containers of the image do not start or miss files: `exec: no such file or directory`.",
    remedy=_REBUILD,
)
SNAPSHOT_DAMAGED = Rule(
    code="snapshot-damaged",
    severity=Severity.CRITICAL,
    means="Unpacked files are missing, or differ from their layer in content, size, type or link target. The layer's "
    "blob matches its diffID.",
    impact="Containers run damaged files: `exec format error`, missing libraries, crashes, or no sign at all.",
    remedy=_REBUILD,
)
SNAPSHOT_WHITEOUTS_LOST = Rule(
    code="snapshot-whiteouts-lost",
    severity=Severity.ERROR,
    means="Marks of deleted files (whiteouts or opaque directories) are missing, nothing else is.",
    impact="Containers see files that the image has deleted. Known cause: unpacking layers in parallel, containerd "
    "issue 13030.",
    remedy=_REBUILD,
)
SNAPSHOT_ATTRIBUTES = Rule(
    code="snapshot-attributes",
    severity=Severity.WARNING,
    means="Unpacked files have another mode, owner, time, xattr or hard link than in their layer.",
    impact="Programs may lack permissions or capabilities, or have too many.",
    remedy=_REBUILD,
)
SNAPSHOT_EXTRA_FILES = Rule(
    code="snapshot-extra-files",
    severity=Severity.WARNING,
    means="The snapshot has files that its layer does not have.",
    impact="Containers see files that the image does not have: something wrote to the snapshot's directory.",
    remedy=_REBUILD,
)
SNAPSHOT_USAGE_DIFFERS = Rule(
    code="snapshot-usage-differs",
    severity=Severity.WARNING,
    means="The snapshot's files take other space, or are of another number, than when it was unpacked.",
    impact="Files may be truncated or missing, as after a power cut.",
    remedy="Compare the files: `auditor check --verify snapshots`.",
)
SNAPSHOT_UNVERIFIABLE = Rule(
    code="snapshot-unverifiable",
    severity=Severity.INFO,
    means="The snapshot's files cannot be compared with their layer, or not in all respects: its blob is absent or "
    "damaged, the snapshotter is not supported, or the process lacks a capability.",
    impact="No fault is known.",
    remedy="Where the blob is absent or damaged: `auditor repair`, then check again.",
)
RULES = (
    SNAPSHOT_DIRECTORY_MISSING,
    SNAPSHOT_EMPTY,
    SNAPSHOT_DAMAGED,
    SNAPSHOT_WHITEOUTS_LOST,
    SNAPSHOT_ATTRIBUTES,
    SNAPSHOT_EXTRA_FILES,
    SNAPSHOT_USAGE_DIFFERS,
    SNAPSHOT_UNVERIFIABLE,
)
#: The codes of findings about files that are damaged, missing or hidden no more.
DAMAGED_FILES: Final = frozenset(
    rule.code for rule in (SNAPSHOT_DIRECTORY_MISSING, SNAPSHOT_EMPTY, SNAPSHOT_DAMAGED, SNAPSHOT_WHITEOUTS_LOST)
)

_SHOWN: Final = 20
#: Allocated bytes by which an intact snapshot may differ from its record.
_BLOCK: Final = 4096
_DAMAGE: Final = (
    Kind.EMPTY,
    Kind.TRUNCATED,
    Kind.ZEROED,
    Kind.MISSING,
    Kind.CONTENT,
    Kind.LONGER,
    Kind.TYPE,
    Kind.TARGET,
    Kind.DEVICE,
    Kind.OPAQUE_EXTRA,
    Kind.UNREADABLE,
)
_WHITEOUTS: Final = (Kind.WHITEOUT_MISSING, Kind.OPAQUE_MISSING)
_ATTRIBUTES: Final = (Kind.MODE, Kind.OWNER, Kind.CAPABILITY, Kind.XATTR, Kind.HARD_LINK, Kind.MTIME)
_POWER_LOSS: Final = frozenset({Kind.EMPTY, Kind.TRUNCATED})


def condition(files: SnapshotFiles) -> str:
    """Return the state of a snapshot's files in one or two words; empty where only their directory was looked at."""
    if files.missing:
        return "directory missing"
    if files.reason:
        return "not compared"
    if files.differences is None:
        recorded, counted = files.recorded, files.counted
        return "disk usage differs" if recorded and counted and _usage_differs(recorded, counted) else ""
    return _compared(files.differences)


def _compared(found: Differences) -> str:
    if _empty(found):
        return "empty"
    if found.of(_DAMAGE):
        return "damaged"
    if found.of(_WHITEOUTS):
        return "whiteouts lost"
    if found.of((Kind.EXTRA,)):
        return "extra files"
    return "attributes differ" if any(_attributes(found.items, ())) else "intact"


def _empty(found: Differences) -> bool:
    return bool(found.expected) and found.missing == found.expected and not found.of((Kind.EXTRA,))


def _usage_differs(recorded: Usage, counted: Usage) -> bool:
    return bool(recorded.inodes) and (counted.inodes != recorded.inodes or abs(counted.size - recorded.size) > _BLOCK)


def check(evidence: Evidence) -> Iterator[Hit]:
    """Judge the files of each snapshot that was examined and still has its record."""
    for view in evidence.views if evidence.snapshot_files else ():
        for graph, node in view.manifests():
            inside = view.content(node.digest)
            if inside is None:
                continue
            for snapshotter, held in view.inventory.snapshots.items():
                if not inside.chain or inside.chain[-1] not in held:
                    continue
                for index, name in enumerate(inside.chain):
                    files = evidence.snapshot_files.get((view.name, snapshotter, name))
                    if files is not None and name in held:
                        image = image_ref(graph.group, "snapshot", node=node, layer=index)
                        layer = str(inside.layers[index].descriptor.digest) if index < len(inside.layers) else ""
                        yield from _Judge(view, snapshotter, str(name), files, image=image, layer=layer).hits()


class _Judge:
    """The snapshot of one layer of one image."""

    def __init__(
        self, view: NamespaceView, snapshotter: str, name: str, files: SnapshotFiles, *, image: ImageRef, layer: str
    ) -> None:
        self._view = view
        self._files = files
        self._image = image
        self._subject = Subject(kind="snapshot", name=f"{snapshotter}/{name}")
        self._rebuildable = snapshotter == "overlayfs" and files.unpacked
        users = _containers(view, snapshotter, name)
        self._facts: dict[str, Fact] = {
            "snapshotter": snapshotter,
            "chain_id": name,
            "layer": layer or None,
            "directory": files.path or None,
            "containers": ", ".join(users) or None,
        }

    def hits(self) -> Iterator[Hit]:
        files = self._files
        if files.missing:
            what = "file" if self._facts["snapshotter"] == "erofs" else "directory"
            yield self._hit(SNAPSHOT_DIRECTORY_MISSING, f"{what} {files.path} does not exist")
        elif files.reason:
            yield self._hit(SNAPSHOT_UNVERIFIABLE, f"unpacked files not compared: {files.reason}")
        elif files.differences is not None:
            yield from self._differences()
            if files.differences.skipped:
                skipped = "; ".join(files.differences.skipped)
                yield self._hit(SNAPSHOT_UNVERIFIABLE, f"not all was compared: {skipped}")
        elif files.recorded is not None and files.counted is not None:
            yield from self._usage(files.recorded, files.counted)

    def _usage(self, recorded: Usage, counted: Usage) -> Iterator[Hit]:
        facts: dict[str, Fact] = {
            "recorded_bytes": recorded.size,
            "recorded_inodes": recorded.inodes,
            "counted_bytes": counted.size,
            "counted_inodes": counted.inodes,
        }
        if recorded.inodes > 1 and counted.inodes == 1:
            text = f"its directory is empty; unpacked were {plural(recorded.inodes - 1, 'file')}"
            yield self._hit(SNAPSHOT_EMPTY, text, facts=facts)
        elif _usage_differs(recorded, counted):
            text = (
                f"its files take {counted.size} bytes in {counted.inodes} inodes; "
                f"{recorded.size} bytes in {recorded.inodes} inodes were unpacked"
            )
            yield self._hit(SNAPSHOT_USAGE_DIFFERS, text, facts=facts)

    def _differences(self) -> Iterator[Hit]:
        found = self._files.differences
        assert found is not None
        damage, lost = found.of(_DAMAGE), found.of(_WHITEOUTS)
        if _empty(found):
            yield self._hit(SNAPSHOT_EMPTY, f"its directory is empty; its layer has {plural(found.expected, 'file')}")
            return
        if damage or (lost and len(lost) != len([item for item in found.items if item.kind is not Kind.MTIME])):
            shown = (*damage, *lost)
            yield self._listed(
                SNAPSHOT_DAMAGED, "differs from its layer", shown, cause=_cause(shown, found.missing, found.expected)
            )
        elif lost:
            yield self._listed(SNAPSHOT_WHITEOUTS_LOST, "lost marks of deleted files", lost, cause="parallel-unpack")
        attributes = tuple(_attributes(found.items, damage))
        if attributes:
            yield self._listed(SNAPSHOT_ATTRIBUTES, "has other attributes than its layer", attributes)
        if extra := found.of((Kind.EXTRA,)):
            yield self._listed(SNAPSHOT_EXTRA_FILES, "has files that its layer does not have", extra)

    def _listed(self, rule: Rule, words: str, items: tuple[Difference, ...], *, cause: str | None = None) -> Hit:
        counts = Counter(item.kind for item in items)
        numbers = ", ".join(f"{number} {kind}" for kind, number in counts.most_common())
        facts: dict[str, Fact] = {"differences": numbers, "paths": "\n".join(map(_shown, items[:_SHOWN]))}
        return self._hit(rule, f"{words}: {numbers}; first: {_shown(items[0])}", facts=facts, cause=cause)

    def _hit(self, rule: Rule, text: str, *, facts: dict[str, Fact] | None = None, cause: str | None = None) -> Hit:
        where = f"snapshot of layer {(self._image.layer or 0) + 1}"
        return rule.hit(
            self._view.name,
            self._subject,
            text,
            part=where,
            images=(self._image,),
            facts={**self._facts, **(facts or {})},
            cause=cause,
            hint="" if self._rebuildable or not rule.level else _PULL_AGAIN,
            repairable=self._rebuildable and bool(rule.level),
        )


def _cause(items: tuple[Difference, ...], missing: int, expected: int) -> str:
    """Return the likely cause of damage, else the kind of most of it."""
    kinds = {item.kind for item in items}
    if missing * 2 > expected:
        return "other-files"
    if kinds & _POWER_LOSS:
        return "power-loss"
    if kinds == {Kind.MISSING}:
        return "missing"
    return Counter(item.kind for item in items).most_common(1)[0][0].value.replace(" ", "-")


def _attributes(items: tuple[Difference, ...], damage: tuple[Difference, ...]) -> Iterator[Difference]:
    """Yield the differences in attributes that do not follow from damage: a replaced file breaks its hard links."""
    damaged = {item.path for item in damage}
    for item in items:
        follows = item.path in damaged or (bool(damage) and item.kind is Kind.HARD_LINK)
        if item.kind in _ATTRIBUTES and not follows and not _moved(item, items):
            yield item


def _moved(item: Difference, items: tuple[Difference, ...]) -> bool:
    """Return whether only a directory's time differs, because one of its entries was added, removed or replaced."""
    return item.kind is Kind.MTIME and any(
        other.kind in (Kind.MISSING, Kind.EXTRA, Kind.TYPE, Kind.WHITEOUT_MISSING, Kind.TARGET, Kind.HARD_LINK)
        and other.path.rpartition(b"/")[0] == item.path
        for other in items
    )


def _shown(item: Difference) -> str:
    path = item.path.decode("utf-8", "backslashreplace").encode("unicode_escape").decode()
    below = f" and {item.below} below" if item.below else ""
    return f"{path or '.'}: {item.kind}{below}" + (f" ({item.detail})" if item.detail else "")


def _containers(view: NamespaceView, snapshotter: str, name: str) -> list[str]:
    """Return the containers whose snapshot lies on this one."""
    held = view.inventory.snapshots.get(snapshotter, {})
    found = []
    for container in view.inventory.containers:
        key = container.snapshot_key if container.snapshotter == snapshotter else ""
        while key and key != name:
            key = held[key].parent if key in held else ""
        if key:
            found.append(container.id)
    return sorted(found)
