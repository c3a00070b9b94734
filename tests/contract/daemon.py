"""A small containerd with an image in it, and stores on it."""

from __future__ import annotations

import random
from contextlib import ExitStack
from pathlib import Path

from auditor.containerd import connect
from auditor.containerd._proto import images_pb2, introspection_pb2, types_pb2
from auditor.containerd.channel import open_connection
from auditor.containerd.find_content_root import ContentRootOption
from auditor.containerd.store import ContainerdStore
from auditor.containerd.stream_timeout import StallWatch
from auditor.model.digest import Digest
from auditor.model.oci import OCI_MANIFEST
from tests.contract.small_containerd import SmallContainerd, World

LARGE = random.Random(1).randbytes((3 << 20) + 5)
SMALL = b"a manifest"
BLOBS = {Digest.of(data): data for data in (LARGE, SMALL, b"")}
NAMESPACE = "default"
LAYER = Digest.of(LARGE)


class Daemon:
    """A small containerd with an image in it, and stores on it."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.folder = folder
        self.world = World()
        for digest, data in BLOBS.items():
            self.world.add(digest, data)
        target = types_pb2.Descriptor(media_type=OCI_MANIFEST, digest=Digest.of(SMALL), size=len(SMALL))
        self.world.images.append(images_pb2.Image(name="example/image:1", target=target))
        self.root = folder / "root" / "io.containerd.content.v1.content"
        self.export("io.containerd.content.v1", "content", root=str(self.root))
        self.server = stack.enter_context(SmallContainerd(folder, self.world))
        self._stack = stack

    def export(self, kind: str, name: str, **exports: str) -> None:
        self.world.plugins.append(introspection_pb2.Plugin(type=kind, id=name, exports=exports))

    def store(self, *, content_root: ContentRootOption = "auto") -> ContainerdStore:
        return self._stack.enter_context(connect(self.server.socket, content_root=content_root))

    def impatient(self, seconds: float) -> ContainerdStore:
        """A store that waits `seconds` for the next message of a stream, and for all else as long as it takes."""
        connection = open_connection(self.server.socket, timeout=30)
        self._stack.callback(connection.close)
        watch = StallWatch(seconds)
        self._stack.callback(watch.close)
        return ContainerdStore(connection._replace(watch=watch))

    def put_files(self, *, uuid: str | None = "the-one") -> None:
        for digest, data in BLOBS.items():
            path = self.root / "blobs" / digest.algorithm / digest.hex
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        if uuid is not None:
            identity = self.folder / "root" / "io.containerd.grpc.v1.introspection" / "uuid"
            identity.parent.mkdir()
            identity.write_text(uuid)
