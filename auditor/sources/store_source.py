"""A store as a source: another namespace of the same daemon, or an archive opened as a `Store`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager

from auditor.digest import Digest
from auditor.source import Hints, Offer
from auditor.sources.stored import Failures, proven_stream
from auditor.store import Store


class StoreSource:
    """The blobs of one namespace of a store; `name` is a label such as `namespace:k8s.io` or `archive:a.tar`.

    The namespace is listed once, at the first question; what came or went since shows when it is opened.
    """

    def __init__(self, store: Store, namespace: str, *, name: str) -> None:
        self._store = store
        self._namespace = namespace
        self._name = name
        self._lock = threading.Lock()
        self._sizes: dict[Digest, int] | None = None
        self._failures = Failures()

    @property
    def name(self) -> str:
        """The label."""
        return self._name

    @property
    def namespace(self) -> str:
        """The namespace that the blobs are in, for a repair that adopts instead of copying."""
        return self._namespace

    def describe(self) -> str:
        """The namespace and the store."""
        info = self._store.info()
        return f"namespace {self._namespace} of {info.kind} {info.address}"

    def offers(self, digest: Digest, *, size: int, media_type: str, hints: Hints) -> Offer | None:
        """Offer what has a record of the right size; whether the bytes are right shows when they are read.

        Raises StoreError, where the store cannot be listed.
        """
        if digest in self._failures or self._listed().get(digest) != size:
            return None
        return Offer(
            source=self._name,
            digest=digest,
            size=size,
            media_type=media_type,
            place=self._name,
            certain=True,
            hints=hints,
        )

    def open(self, offer: Offer) -> AbstractContextManager[Iterator[bytes]]:
        """Give the blob's proven bytes; NotOffered where it has gone, BadBytes where this copy is damaged too."""
        return proven_stream(self._store, self._namespace, offer.digest, offer=offer, failures=self._failures)

    def _listed(self) -> dict[Digest, int]:
        with self._lock:
            if self._sizes is None:
                blobs = self._store.inventory(self._namespace, snapshotters=()).blobs
                self._sizes = {digest: blob.size for digest, blob in blobs.items()}
            return self._sizes
