"""Read what the daemon's plugins export; fields that older releases lack are noted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from auditor.containerd import convert, find_content_root
from auditor.containerd.content_root import ContentRoot
from auditor.containerd.find_content_root import ContentRootOption
from auditor.containerd.relay import SNAPSHOTTER
from auditor.errors import StoreError
from auditor.model.command_line import command
from auditor.model.platforms import Platform, host
from auditor.model.store import Snapshotter, SourceKind, StoreInfo

if TYPE_CHECKING:
    from auditor.containerd.rows import PlatformRow, PluginRow

_CONTENT = ("io.containerd.content.v1", "content")
_METADATA = ("io.containerd.metadata.v1", "bolt")
#: Exports DiscardUnpackedLayers from 2.4 on; containerd plugins/cri/images/plugin.go.
_CRI_IMAGES = ("io.containerd.cri.v1", "images")
#: containerd core/transfer/local/pull.go reads this export of a (proxy) snapshotter.
_REMOTE = "enable_remote_snapshot_annotations"
_DIFFERS = "io.containerd.differ.v1"
_DIFFER = (_DIFFERS, "walking")

#: In the errors of snapshotters that the node has no file system or no configuration for (1.6 to 2.1).
_UNUSED = "skip plugin|not configured"

NO_DISCARD = "this containerd does not say whether it discards unpacked layers"


class SelfDescription(msgspec.Struct, frozen=True):
    """The exports of plugins that an audit uses; empty or None where the release lacks them."""

    content_root: Path | None = None
    snapshotters: tuple[Snapshotter, ...] = ()
    platform: Platform | None = None
    differs: tuple[str, ...] = ()
    policy: str = ""
    discards_layers: bool | None = None
    #: Id of the daemon, stored in a file below its root.
    uuid: str = ""
    notes: tuple[str, ...] = ()
    #: Snapshotters that failed to start, one sentence each.
    gaps: tuple[str, ...] = ()


class _Plugin(msgspec.Struct, frozen=True):
    """A plugin, as its row has it; `error` is None where it started."""

    type: str
    id: str
    exports: Mapping[str, str]
    error: str | None
    platforms: tuple[PlatformRow, ...]


def read_plugins(rows: Iterable[PluginRow], *, uuid: str = "") -> SelfDescription:
    """Read the exports of the plugins that started; other plugins with an error than the database are ignored.

    Args:
        rows: The plugins.
        uuid: The daemon's id; empty where it is unknown.

    Raises:
        StoreError: The metadata database did not open; containerd then runs without the services that an audit needs.

    """
    plugins = [_Plugin(*row) for row in rows]
    for plugin in plugins:
        if (plugin.type, plugin.id) == _METADATA and plugin.error is not None:
            raise _without_database(plugin.error, plugins)
    running = {(p.type, p.id): p for p in plugins if p.error is None}
    root = _export(running, _CONTENT, "root")
    discards = _export(running, _CRI_IMAGES, "DiscardUnpackedLayers")
    return SelfDescription(
        content_root=Path(root) if root else None,
        snapshotters=tuple(sorted(map(_snapshotter, _of_type(running, SNAPSHOTTER)), key=lambda s: s.name)),
        platform=_platform(running),
        differs=tuple(sorted(plugin.id for plugin in _of_type(running, _DIFFERS))),
        policy=_export(running, _METADATA, "policy"),
        discards_layers=discards.lower() == "true" if discards else None,
        uuid=uuid,
        notes=() if discards else (NO_DISCARD,),
        gaps=tuple(_failed_snapshotters(plugins)),
    )


def store_info(
    description: SelfDescription, address: str, *, version: str, root: ContentRoot | None, option: ContentRootOption
) -> StoreInfo:
    """Return the description of a store.

    Args:
        description: What the daemon says of itself.
        address: Path of its socket.
        version: Version that it reports.
        root: Its content root, where it is visible.
        option: What was asked for; None: the API alone.

    """
    unseen = () if root is not None or option is None else (find_content_root.explain(description.content_root),)
    return StoreInfo(
        kind=SourceKind.CONTAINERD,
        address=address,
        version=version,
        id=description.uuid,
        platform=description.platform,
        content_root=root.path if root is not None else None,
        snapshotters=description.snapshotters,
        differs=description.differs,
        policy=description.policy,
        discards_layers=description.discards_layers,
        notes=(*description.notes, *unseen),
        gaps=description.gaps,
    )


def _snapshotter(plugin: _Plugin) -> Snapshotter:
    """Convert a snapshotter: lazy if its exports request remote annotations, proxy if they have an address."""
    lazy = plugin.exports.get(_REMOTE, "") == "true"
    return Snapshotter(plugin.id, plugin.exports.get("root", ""), lazy, proxy=bool(plugin.exports.get("address")))


def _failed_snapshotters(plugins: Sequence[_Plugin]) -> Iterator[str]:
    """Yield a sentence for each snapshotter that failed; those that this node is not made for are no failures."""
    for plugin in plugins:
        if plugin.type == SNAPSHOTTER and plugin.error is not None and not re.search(_UNUSED, plugin.error):
            yield f"the snapshotter {plugin.id} did not start, its snapshots are not known: {plugin.error}"


def _without_database(words: str, plugins: Sequence[_Plugin]) -> StoreError:
    """Return the error for a daemon whose metadata plugin failed."""
    content = next((p.exports.get("root", "") for p in plugins if (p.type, p.id) == _CONTENT), "")
    root = str(Path(content).parent) if content else "/var/lib/containerd"
    return StoreError(
        f"containerd runs without its metadata database, which is damaged or in use: {words}",
        hint=f"do not delete meta.db; stop containerd, then: {command('auditor', 'check', '--root', root)}",
    )


_Plugins = dict[tuple[str, str], _Plugin]


def _of_type(running: _Plugins, kind: str) -> list[_Plugin]:
    return [plugin for (of_kind, _), plugin in running.items() if of_kind == kind]


def _export(running: _Plugins, key: tuple[str, str], name: str) -> str:
    plugin = running.get(key)
    return plugin.exports.get(name, "") if plugin is not None else ""


def _platform(running: _Plugins) -> Platform:
    """Return the node's platform: that of the differ, else of a snapshotter, else of this machine."""
    preferred = [plugin for key, plugin in running.items() if key == _DIFFER]
    for plugin in (*preferred, *_of_type(running, SNAPSHOTTER)):
        for platform in plugin.platforms:
            return convert.platform(platform)
    return host()
