"""Call the introspection service: the daemon's plugins and its id."""

from __future__ import annotations

from auditor.containerd import rows
from auditor.containerd._proto import introspection_pb2
from auditor.containerd.channel import Connection
from auditor.containerd.grpc_errors import translated
from auditor.containerd.protobuf_import import Empty
from auditor.containerd.rows import PluginRow
from auditor.errors import AuditorError, StoreTimeout, StoreUnreachable


class Introspection:
    """The calls, which are sent when it is made; each method waits for an answer."""

    def __init__(self, connection: Connection) -> None:
        service, timeout = connection.introspection, connection.timeout
        self._plugins = service.Plugins.future(introspection_pb2.PluginsRequest(), timeout=timeout)
        self._server = service.Server.future(Empty(), timeout=timeout)

    def plugins(self) -> list[PluginRow]:
        """Return the plugins, also those that failed.

        Raises:
            StoreError: They cannot be listed.

        """
        with translated("list the plugins"):
            return rows.plugins(self._plugins.result().plugins)

    def uuid(self) -> str:
        """Return the daemon's id; empty where it has none.

        Raises:
            StoreUnreachable: The daemon is gone.
            StoreTimeout: The daemon does not answer.

        """
        try:
            with translated("get the daemon's id"):
                return self._server.result().uuid
        except (StoreUnreachable, StoreTimeout):
            raise
        except AuditorError:
            return ""
