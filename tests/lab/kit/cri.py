"""Pulling images as a kubelet does: a client of the image half of the container runtime interface."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from tests.lab.kit._proto import cri_pb2, cri_pb2_grpc


@dataclass(frozen=True)
class CriImage:
    """An image as a kubelet sees it; `id` is the digest of its config."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]


class ImageService:
    """The image service on containerd's own socket; a context manager that closes the channel."""

    def __init__(self, socket: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix://{socket}", options=[("grpc.default_authority", "localhost")])
        self._stub = cri_pb2_grpc.ImageServiceStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    def wait(self, *, seconds: float = 20) -> None:
        """Return when the service answers: containerd opens its socket before the plugin has loaded its images."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.images()
            except grpc.RpcError as error:
                # Unimplemented means that the plugin was not loaded, which no waiting mends; the log says why.
                if error.code() == grpc.StatusCode.UNIMPLEMENTED or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
            else:
                return

    def images(self) -> tuple[CriImage, ...]:
        """List the images."""
        answer = self._stub.ListImages(cri_pb2.ListImagesRequest(), timeout=20)
        return tuple(CriImage(i.id, tuple(i.repo_tags), tuple(i.repo_digests)) for i in answer.images)

    def pull(self, reference: str, *, username: str = "", password: str = "") -> str:
        """Pull an image and return what the kubelet would remember it by: the digest of its config."""
        request = cri_pb2.PullImageRequest(image=cri_pb2.ImageSpec(image=reference))
        if username:
            request.auth.CopyFrom(cri_pb2.AuthConfig(username=username, password=password))
        return str(self._stub.PullImage(request, timeout=120).image_ref)

    def remove(self, reference: str) -> None:
        """Remove an image with all its names."""
        self._stub.RemoveImage(cri_pb2.RemoveImageRequest(image=cri_pb2.ImageSpec(image=reference)), timeout=60)
