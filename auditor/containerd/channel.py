"""Open a gRPC connection; the socket is tried first without gRPC, to name the cause of a failure."""

from __future__ import annotations

import _socket as sockets  # `socket` takes milliseconds to load, for enumerations
import errno
import stat
import threading
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

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
from auditor.containerd.grpc_import import grpc
from auditor.containerd.protobuf_import import Empty
from auditor.containerd.stream_timeout import StallWatch
from auditor.errors import StoreError, StoreTimeout, StoreUnreachable, Unsupported

#: Receive limit in bytes. containerd sends up to 16 MiB by default (pkg/defaults `DefaultMaxSendMsgSize`).
MAX_MESSAGE = 64 << 20
#: Length of `sun_path` without the final zero byte; unix(7).
_MAX_PATH = 107

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    # Go's server rejects the percent-encoded path that gRPC sends as the authority of a Unix socket.
    ("grpc.default_authority", "localhost"),
    ("grpc.enable_http_proxy", 0),
    # No shared subchannels: a restarted daemon is not delayed by the back-off of an earlier connection.
    ("grpc.use_local_subchannel_pool", 1),
)

#: Seconds that open calls get to end when a channel is closed.
_CLOSING: Final = 5.0

Metadata = tuple[tuple[str, str], ...]


def namespaced(namespace: str, *, lease: str = "") -> Metadata:
    """Return the headers for namespace and lease; containerd pkg/namespaces/grpc.go, core/leases/grpc.go."""
    headers = (("containerd-namespace", namespace),)
    return (*headers, ("containerd-lease", lease)) if lease else headers


class Connection(NamedTuple):
    """The stubs of one daemon; thread-safe.

    Attributes:
        timeout: Seconds for a unary call, and for the next message of a stream.
        version: Version that the daemon reports.
        watch: Timeouts of streams.

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
        """Whether the daemon answers a version call now: separates a blocked object from a hung daemon."""
        try:
            version_of(self.channel, timeout=min(self.timeout, 5.0))
        except StoreError:
            return False
        return True

    def close(self) -> None:
        """Close the channel; open calls are cancelled."""
        self.watch.close()
        close_channel(self.channel)


def close_channel(channel: grpc.Channel, *, patience: float = _CLOSING) -> None:
    """Cancel the calls of a channel and close it.

    grpc waits until a thread of its own has ended the calls. A call that a signal interrupted before that thread was
    started is never ended; after `patience` seconds it is left to the end of the process.
    """
    closing = threading.Thread(target=channel.close, name="close", daemon=True)
    closing.start()
    closing.join(patience)


def open_connection(address: Path, *, timeout: float) -> Connection:
    """Connect to the containerd at `address`.

    Args:
        address: Path of the socket.
        timeout: Seconds for a unary call, and for the next message of a stream.

    Raises:
        StoreUnreachable: The socket is absent, not open to this user, without a listener, or of another program; the
            hint names the likely cause.
        StoreTimeout: Nothing answers in time.

    """
    try_socket(address, timeout=timeout)
    channel = grpc.insecure_channel(f"unix:{address}", options=list(_OPTIONS))
    try:
        version = _containerd_version(channel, address, timeout=timeout)
    except BaseException:
        close_channel(channel)
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
    """Return the version that the daemon reports.

    Raises:
        StoreError: The call failed.

    """
    stub = version_pb2_grpc.VersionStub(channel)
    with translated("get the version"):
        return stub.Version(Empty(), timeout=timeout).version


def _containerd_version(channel: grpc.Channel, address: Path, *, timeout: float) -> str:
    try:
        return version_of(channel, timeout=timeout)
    except StoreTimeout:
        raise StoreTimeout(
            f"the program that listens at {address} did not answer within {timeout:g} s",
            hint="containerd may hang, or another program may own the socket; a longer --timeout gives it more time",
        ) from None
    except Unsupported:
        raise StoreUnreachable(
            f"the program that listens at {address} is not containerd",
            hint="it speaks gRPC but does not know containerd's services; give containerd's own socket with --address",
        ) from None
    except StoreError as error:
        raise StoreUnreachable(
            f"the program that listens at {address} does not answer as containerd does",
            hint="dockerd and other programs have sockets of their own; give containerd's with --address",
        ) from error


def try_socket(address: Path, *, timeout: float) -> None:
    """Connect to the socket and close it.

    Raises:
        StoreUnreachable: The socket cannot be opened; the hint names the likely cause.
        StoreTimeout: The connection is not accepted in time.

    """
    try:
        if not stat.S_ISSOCK(address.stat().st_mode):
            raise StoreUnreachable(f"{address} is not a socket", hint="give the path of containerd's socket")
        if len(bytes(address)) > _MAX_PATH:
            raise StoreUnreachable(
                f"the path of the socket is longer than {_MAX_PATH} bytes: {address}",
                hint="create a symbolic link with a shorter path and give that",
            )
        with closing(sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM)) as probe:
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
            what, hint = "permission denied on", "run as root: sudo auditor …"
        case errno.EPROTOTYPE:
            what, hint = "no stream socket is at", "it belongs to another program; give containerd's with --address"
        case _:
            what = f"cannot connect to {str(address)[:200]}: {error.strerror or error}"
            return StoreUnreachable(what, hint="give the path of containerd's socket with --address")
    return StoreUnreachable(f"{what} {address}", hint=hint)
