"""Read the daemon's plugins and id from the introspection service; fields that older releases lack are noted."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from google.protobuf.empty_pb2 import Empty

from auditor.containerd import convert
from auditor.containerd._proto import introspection_pb2
from auditor.containerd.channel import Connection
from auditor.containerd.grpc_errors import translated
from auditor.errors import AuditorError, StoreError, StoreTimeout, StoreUnreachable
from auditor.model.command_line import command
from auditor.model.platforms import Platform, host
from auditor.model.store import Snapshotter

_CONTENT = ("io.containerd.content.v1", "content")
_METADATA = ("io.containerd.metadata.v1", "bolt")
#: Exports DiscardUnpackedLayers from 2.4 on; containerd plugins/cri/images/plugin.go.
_CRI_IMAGES = ("io.containerd.cri.v1", "images")
_SNAPSHOTTER = "io.containerd.snapshotter.v1"
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


def describe(connection: Connection) -> SelfDescription:
    """Return the plugins' exports and the daemon's id.

    Raises:
        StoreError: The plugins cannot be listed.

    """
    with translated("list the plugins"):
        request = introspection_pb2.PluginsRequest()
        plugins = connection.introspection.Plugins(request, timeout=connection.timeout).plugins
    return read_plugins(list(plugins), uuid=_uuid(connection))


def read_plugins(plugins: Sequence[introspection_pb2.Plugin], *, uuid: str = "") -> SelfDescription:
    """Read the exports of the plugins that started; other plugins with an error than the database are ignored.

    Raises:
        StoreError: The metadata database did not open; containerd then runs without the services that an audit needs.

    """
    for plugin in plugins:
        if (plugin.type, plugin.id) == _METADATA and plugin.HasField("init_err"):
            raise _without_database(plugin.init_err.message, plugins)
    running = {(p.type, p.id): p for p in plugins if not p.HasField("init_err")}
    root = _export(running, _CONTENT, "root")
    discards = _export(running, _CRI_IMAGES, "DiscardUnpackedLayers")
    return SelfDescription(
        content_root=Path(root) if root else None,
        snapshotters=tuple(sorted(map(convert.snapshotter, _of_type(running, _SNAPSHOTTER)), key=lambda s: s.name)),
        platform=_platform(running),
        differs=tuple(sorted(plugin.id for plugin in _of_type(running, _DIFFERS))),
        policy=_export(running, _METADATA, "policy"),
        discards_layers=discards.lower() == "true" if discards else None,
        uuid=uuid,
        notes=() if discards else (NO_DISCARD,),
        gaps=tuple(_failed_snapshotters(plugins)),
    )


def _failed_snapshotters(plugins: Sequence[introspection_pb2.Plugin]) -> Iterator[str]:
    """Yield a sentence for each snapshotter that failed; those that this node is not made for are no failures."""
    for plugin in plugins:
        words = plugin.init_err.message
        if plugin.type == _SNAPSHOTTER and plugin.HasField("init_err") and not re.search(_UNUSED, words):
            yield f"the snapshotter {plugin.id} did not start, its snapshots are not known: {words}"


def _without_database(words: str, plugins: Sequence[introspection_pb2.Plugin]) -> StoreError:
    """Return the error for a daemon whose metadata plugin failed."""
    content = next((p.exports.get("root", "") for p in plugins if (p.type, p.id) == _CONTENT), "")
    root = str(Path(content).parent) if content else "/var/lib/containerd"
    return StoreError(
        f"containerd runs without its metadata database, which is damaged or in use: {words}",
        hint=f"do not delete meta.db; stop containerd, then: {command('auditor', 'check', '--root', root)}",
    )


_Plugins = dict[tuple[str, str], introspection_pb2.Plugin]


def _of_type(running: _Plugins, kind: str) -> list[introspection_pb2.Plugin]:
    return [plugin for (of_kind, _), plugin in running.items() if of_kind == kind]


def _export(running: _Plugins, key: tuple[str, str], name: str) -> str:
    plugin = running.get(key)
    return plugin.exports.get(name, "") if plugin is not None else ""


def _platform(running: _Plugins) -> Platform:
    """Return the node's platform: that of the differ, else of a snapshotter, else of this machine."""
    preferred = [plugin for key, plugin in running.items() if key == _DIFFER]
    for plugin in (*preferred, *_of_type(running, _SNAPSHOTTER)):
        for platform in plugin.platforms:
            return convert.platform(platform)
    return host()


def _uuid(connection: Connection) -> str:
    try:
        with translated("get the daemon's id"):
            return connection.introspection.Server(Empty(), timeout=connection.timeout).uuid
    except (StoreUnreachable, StoreTimeout):
        raise
    except AuditorError:
        return ""
