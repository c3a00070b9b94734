"""A containerd of a hundred lines: serves what a test puts into it over real gRPC, without root and without disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import grpc

from auditor.containerd._proto import (
    containers_pb2,
    containers_pb2_grpc,
    content_pb2,
    content_pb2_grpc,
    images_pb2,
    images_pb2_grpc,
    introspection_pb2,
    introspection_pb2_grpc,
    leases_pb2,
    leases_pb2_grpc,
    namespaces_pb2,
    namespaces_pb2_grpc,
    snapshots_pb2,
    snapshots_pb2_grpc,
    version_pb2,
    version_pb2_grpc,
)

PIECE = 1 << 20


@dataclass
class World:
    """All that the server knows; tests change it at will. `on_read` may replace the bytes of a read, block or fail."""

    infos: list[content_pb2.Info] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    images: list[images_pb2.Image] = field(default_factory=list)
    snapshots: dict[str, list[snapshots_pb2.Info]] = field(default_factory=dict)
    plugins: list[introspection_pb2.Plugin] = field(default_factory=list)
    namespace: str = "default"
    uuid: str = "the-one"
    on_read: Callable[[bytes, Any], Iterable[bytes]] | None = None
    on_snapshots: Callable[[Any], None] | None = None

    def add(self, digest: str, data: bytes, **labels: str) -> None:
        """Record a blob and keep its bytes."""
        self.infos.append(content_pb2.Info(digest=digest, size=len(data), labels=labels))
        self.blobs[digest] = data

    def here(self, context: Any) -> bool:
        """Whether the call is about our one namespace."""
        return dict(context.invocation_metadata()).get("containerd-namespace") == self.namespace


class _Content(content_pb2_grpc.ContentServicer):
    def __init__(self, world: World) -> None:
        self.world = world

    def _info(self, digest: str, context: Any) -> content_pb2.Info:
        found = [info for info in self.world.infos if info.digest == digest and self.world.here(context)]
        if not found:
            context.abort(grpc.StatusCode.NOT_FOUND, f"content digest {digest}: not found")
        return found[0]

    def Info(self, request: content_pb2.InfoRequest, context: Any) -> content_pb2.InfoResponse:  # noqa: N802
        return content_pb2.InfoResponse(info=self._info(request.digest, context))

    def List(self, request: content_pb2.ListContentRequest, context: Any) -> Any:  # noqa: N802, ARG002
        infos = self.world.infos if self.world.here(context) else []
        for start in range(0, len(infos), 100):
            yield content_pb2.ListContentResponse(info=infos[start : start + 100])

    def ListStatuses(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        return content_pb2.ListStatusesResponse()

    def Read(self, request: content_pb2.ReadContentRequest, context: Any) -> Any:  # noqa: N802
        info = self._info(request.digest, context)
        if request.digest not in self.world.blobs:
            words = f"blob {request.digest} expected at /x/{request.digest}: blob not found: not found"
            context.abort(grpc.StatusCode.NOT_FOUND, words)
        if request.offset > info.size:
            context.abort(grpc.StatusCode.OUT_OF_RANGE, f"read past object length {info.size} bytes")
        end = min(info.size, request.offset + request.size) if request.size else info.size
        data = self.world.blobs[request.digest][request.offset : end]
        pieces = _pieces(data) if self.world.on_read is None else self.world.on_read(data, context)
        for piece in pieces:
            yield content_pb2.ReadContentResponse(data=piece)

    Update = Delete = Write = Abort = cast("Any", None)


def _pieces(data: bytes) -> Iterator[bytes]:
    return (data[start : start + PIECE] for start in range(0, len(data), PIECE))


class _Others(
    containers_pb2_grpc.ContainersServicer,
    introspection_pb2_grpc.IntrospectionServicer,
    version_pb2_grpc.VersionServicer,
):
    def __init__(self, world: World) -> None:
        self.world = world

    def List(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        return containers_pb2.ListContainersResponse()

    def Plugins(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        return introspection_pb2.PluginsResponse(plugins=self.world.plugins)

    def Server(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        return introspection_pb2.ServerResponse(uuid=self.world.uuid)

    def Version(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        return version_pb2.VersionResponse(version="small")


class _Images(images_pb2_grpc.ImagesServicer):
    def __init__(self, world: World) -> None:
        self.world = world

    def List(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        return images_pb2.ListImagesResponse(images=self.world.images if self.world.here(context) else [])

    Get = Create = cast("Any", None)


class _Snapshots(snapshots_pb2_grpc.SnapshotsServicer):
    def __init__(self, world: World) -> None:
        self.world = world

    def List(self, request: snapshots_pb2.ListSnapshotsRequest, context: Any) -> Any:  # noqa: N802
        if self.world.on_snapshots is not None:
            self.world.on_snapshots(context)
        if request.snapshotter not in self.world.snapshots:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"snapshotter not loaded: {request.snapshotter}")
        yield snapshots_pb2.ListSnapshotsResponse(info=self.world.snapshots[request.snapshotter])

    Stat = Prepare = View = Commit = Remove = cast("Any", None)


class _Leases(leases_pb2_grpc.LeasesServicer):
    def List(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        return leases_pb2.ListResponse()

    def ListResources(self, request: Any, context: Any) -> Any:  # noqa: N802
        context.abort(grpc.StatusCode.NOT_FOUND, f'lease "{request.id}": not found')

    Create = Delete = AddResource = cast("Any", None)


class _Namespaces(namespaces_pb2_grpc.NamespacesServicer):
    def __init__(self, world: World) -> None:
        self.world = world

    def List(self, request: Any, context: Any) -> Any:  # noqa: N802, ARG002
        ours = namespaces_pb2.Namespace(name=self.world.namespace, labels={"team": "a"})
        return namespaces_pb2.ListNamespacesResponse(namespaces=[ours])


class SmallContainerd:
    """Serves `world` on a socket in `folder`; a context manager."""

    def __init__(self, folder: Path, world: World) -> None:
        self.socket = folder / "c.sock"
        self._server = grpc.server(ThreadPoolExecutor(8))
        others = _Others(world)
        containers_pb2_grpc.add_ContainersServicer_to_server(others, self._server)
        introspection_pb2_grpc.add_IntrospectionServicer_to_server(others, self._server)
        version_pb2_grpc.add_VersionServicer_to_server(others, self._server)
        content_pb2_grpc.add_ContentServicer_to_server(_Content(world), self._server)
        images_pb2_grpc.add_ImagesServicer_to_server(_Images(world), self._server)
        snapshots_pb2_grpc.add_SnapshotsServicer_to_server(_Snapshots(world), self._server)
        leases_pb2_grpc.add_LeasesServicer_to_server(_Leases(), self._server)
        namespaces_pb2_grpc.add_NamespacesServicer_to_server(_Namespaces(world), self._server)
        self._server.add_insecure_port(f"unix:{self.socket}")

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.stop(grace=None).wait()
