"""The connection: a socket that was tried by hand first, so that what is wrong with it can be said, then gRPC."""

from __future__ import annotations

import errno
import socket as sockets
import stat
from pathlib import Path

import grpc
import msgspec
from google.protobuf.empty_pb2 import Empty

from auditor.containerd._proto import (
    containers_pb2_grpc,
    content_pb2_grpc,
    images_pb2_grpc,
    introspection_pb2_grpc,
    leases_pb2_grpc,
    namespaces_pb2_grpc,
    snapshots_pb2_grpc,
    version_pb2_grpc,
)
from auditor.containerd.grpc_errors import translated
from auditor.containerd.stream_timeout import StallWatch
from auditor.errors import StoreError, StoreTimeout, StoreUnreachable, Unsupported

#: Largest answer that we take, in bytes. containerd sends up to 16 MiB unless its configuration says more.
MAX_MESSAGE = 64 << 20
#: Length of `sun_path` less the final zero byte; unix(7).
_MAX_PATH = 107

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    # Go's server refuses the percent-encoded path that gRPC would send as the authority of a Unix socket.
    ("grpc.default_authority", "localhost"),
    ("grpc.enable_http_proxy", 0),
    # Each connection is its own: a daemon that was restarted on the same path is not judged by an old back-off.
    ("grpc.use_local_subchannel_pool", 1),
)

Metadata = tuple[tuple[str, str], ...]


def namespaced(namespace: str, *, lease: str = "") -> Metadata:
    """The headers that name the namespace and, for writes, the lease; containerd pkg/namespaces/grpc.go."""
    headers = (("containerd-namespace", namespace),)
    return (*headers, ("containerd-lease", lease)) if lease else headers


class Connection(msgspec.Struct, frozen=True):
    """The stubs of one daemon, shared by all threads.

    `timeout` is in seconds: the deadline of unary calls and the longest wait for the next message of a stream.
    """

    address: Path
    timeout: float
    version: str
    channel: grpc.Channel
    watch: StallWatch
    containers: containers_pb2_grpc.ContainersStub
    content: content_pb2_grpc.ContentStub
    images: images_pb2_grpc.ImagesStub
    introspection: introspection_pb2_grpc.IntrospectionStub
    leases: leases_pb2_grpc.LeasesStub
    namespaces: namespaces_pb2_grpc.NamespacesStub
    snapshots: snapshots_pb2_grpc.SnapshotsStub

    def answers(self) -> bool:
        """Whether the daemon answers its simplest call now: tells one blocked object from a daemon that hangs."""
        try:
            version_of(self.channel, timeout=min(self.timeout, 5.0))
        except StoreError:
            return False
        return True

    def close(self) -> None:
        """Close the channel; calls under way end."""
        self.watch.close()
        self.channel.close()


def open_connection(address: Path, *, timeout: float) -> Connection:
    """Connect to the containerd at `address`; `timeout` in seconds.

    Raises StoreUnreachable, with the likely cause as a hint, where nothing is there, nothing listens, it is not ours to
    open, or something else answers; StoreTimeout where nothing answers in time.
    """
    try_socket(address, timeout=timeout)
    channel = grpc.insecure_channel(f"unix:{address}", options=list(_OPTIONS))
    try:
        version = _containerd_version(channel, address, timeout=timeout)
    except BaseException:
        channel.close()
        raise
    return Connection(
        address=address,
        timeout=timeout,
        version=version,
        channel=channel,
        watch=StallWatch(timeout),
        containers=containers_pb2_grpc.ContainersStub(channel),
        content=content_pb2_grpc.ContentStub(channel),
        images=images_pb2_grpc.ImagesStub(channel),
        introspection=introspection_pb2_grpc.IntrospectionStub(channel),
        leases=leases_pb2_grpc.LeasesStub(channel),
        namespaces=namespaces_pb2_grpc.NamespacesStub(channel),
        snapshots=snapshots_pb2_grpc.SnapshotsStub(channel),
    )


def version_of(channel: grpc.Channel, *, timeout: float) -> str:
    """The version that the daemon reports. Raises StoreError and its kinds."""
    stub = version_pb2_grpc.VersionStub(channel)
    with translated("ask for the version"):
        return stub.Version(Empty(), timeout=timeout).version


def _containerd_version(channel: grpc.Channel, address: Path, *, timeout: float) -> str:
    try:
        return version_of(channel, timeout=timeout)
    except StoreTimeout:
        raise StoreTimeout(
            f"what listens at {address} did not answer within {timeout:g} s",
            hint="containerd may hang, or another program may own the socket; a longer --timeout gives it more time",
        ) from None
    except Unsupported:
        raise StoreUnreachable(
            f"what listens at {address} is not containerd",
            hint="it speaks gRPC but does not know containerd's services; give containerd's own socket with --address",
        ) from None
    except StoreError as error:
        raise StoreUnreachable(
            f"what listens at {address} does not answer as containerd does",
            hint="dockerd and other programs have sockets of their own; give containerd's with --address",
        ) from error


def try_socket(address: Path, *, timeout: float) -> None:
    """Connect as any program would and hang up; raises StoreUnreachable or StoreTimeout with what is wrong."""
    try:
        if not stat.S_ISSOCK(address.stat().st_mode):
            raise StoreUnreachable(f"{address} is not a socket", hint="give the path of containerd's socket")
        if len(bytes(address)) > _MAX_PATH:
            raise StoreUnreachable(
                f"the path of the socket is longer than {_MAX_PATH} bytes: {address}",
                hint="make a symbolic link with a shorter path and give that",
            )
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
            probe.settimeout(timeout)
            probe.connect(str(address))
    except (TimeoutError, BlockingIOError):
        raise StoreTimeout(
            f"{address} accepts no connection",
            hint="the daemon hangs: its queue of waiting clients is full",
        ) from None
    except OSError as error:
        raise _unreachable(address, error) from None


def _unreachable(address: Path, error: OSError) -> StoreUnreachable:
    match error.errno:
        case errno.ENOENT | errno.ENOTDIR:
            what, hint = "there is no socket at", "is containerd running? Give its socket with --address"
        case errno.ECONNREFUSED:
            what, hint = "nothing listens at", "a daemon that ended left its socket: start containerd"
        case errno.EACCES | errno.EPERM:
            what, hint = "we may not open", "run as root: sudo auditor …"
        case errno.EPROTOTYPE:
            what, hint = "no stream socket is at", "it belongs to another program; give containerd's with --address"
        case _:
            what = f"cannot connect to {str(address)[:200]}: {error.strerror or error}"
            return StoreUnreachable(what, hint="give the path of containerd's socket with --address")
    return StoreUnreachable(f"{what} {address}", hint=hint)
