"""The expected files of a snapshot: its layer, or on `native` all layers up to it, read from the store and played."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Final

from auditor.checks.evidence import Evidence
from auditor.model.digest import Digest
from auditor.model.snapshot_files import SnapshotKey
from auditor.model.store import Store, Verification
from auditor.snapshots.beside import Admit, Beside, at_once
from auditor.snapshots.play_blob import play_blob, usable
from auditor.snapshots.presence import EROFS, Needed, needed
from auditor.snapshots.tree import Node, copied

#: The snapshotter whose directories have the files of all layers up to the snapshot's own.
MERGED: Final = "native"
#: The snapshotters whose files are compared.
COMPARED: Final = frozenset(("overlayfs", MERGED, EROFS))


class Layers:
    """Plays layers of a store; keeps the verifications of those that are intact.

    Args:
        store: The store that has the layers.
        evidence: The first look of an audit.
        admit: Called before bytes of a layer or a file are read; what it raises ends the comparison.
        max_layer: Largest decompressed size of a layer, in bytes, that is compared.

    """

    def __init__(
        self, store: Store, evidence: Evidence, *, admit: Admit = at_once, max_layer: int | None = None
    ) -> None:
        self.evidence = evidence
        self.verifications: dict[Digest, Verification] = {}
        self.admit = admit
        self._store = store
        self._max_layer = max_layer
        #: The last merged tree, with its snapshot: most often the next one's parent.
        self._merged: tuple[SnapshotKey, bool, Node] | None = None

    def chain(self, top: Needed) -> tuple[Needed, ...]:
        """Return a snapshot and those below it, the lowest one last; cut off where one is not known."""
        found = [top]
        while found[-1].index and (parent := self._parent(found[-1])) is not None:
            found.append(parent)
        return tuple(found)

    def expected(self, of: Needed, *, contents: bool, beside: Path | None = None) -> Node | str:
        """Return the files that a snapshot should have, or why they cannot be told.

        Args:
            of: The snapshot.
            contents: Whether the content of files is compared.
            beside: The directory that it was unpacked into: content that equals that of its files is not hashed. Not
                used where the tree is that of several layers.

        Raises:
            Unsettled: Content differs from that of the files in `beside`; to be repeated without it.
            StoreError: The layer cannot be read.
            ObjectError: The same.

        """
        if of.snapshot.snapshotter != MERGED:
            files = Beside(beside, admit=self.admit) if beside is not None and contents else nullcontext()
            with files as opened:
                return self._played(of, contents=contents, files=opened)
        chain = self.chain(of)
        if chain[-1].index:
            return "a snapshot below it is not known"
        missing = next((each for each in reversed(chain) if self.holder(each) is None), None)
        if missing is not None:
            return "its layer's blob is absent" if missing is of else "the blob of a layer below it is absent"
        return self._merge(chain, contents=contents)

    def _merge(self, chain: tuple[Needed, ...], *, contents: bool) -> Node | str:
        """Apply the layers of a chain to the tree that was kept, if it is one below, else to an empty one."""
        waiting: list[Needed] = []
        kept, self._merged = self._merged, None
        tree: Node | None = None
        for each in chain:
            if kept is not None and kept[:2] == (each.key, contents):
                tree = kept[2]
                break
            waiting.append(each)
        for each in reversed(waiting):
            found = self._played(each, contents=contents, base=copied(tree) if tree is not None else None)
            if isinstance(found, str):
                return found if each is chain[0] else f"a layer below it: {found}"
            tree = found
        assert tree is not None
        self._merged = (chain[0].key, contents, tree)
        return tree

    def _played(
        self, of: Needed, *, contents: bool, base: Node | None = None, files: Beside | None = None
    ) -> Node | str:
        holder = self.holder(of)
        if holder is None:
            return "its layer's blob is absent"
        digest = of.layer.descriptor.digest
        with self._store.stream(holder, digest) as chunks:
            played, verification = play_blob(
                chunks,
                digest,
                lowest=of.index == 0,
                contents=contents,
                base=base,
                files=files,
                max_size=self._max_layer,
                admit=self.admit,
            )
        if verification is not None:
            self.verifications[digest] = verification
        return usable(played, of.layer.diff_id)

    def holder(self, of: Needed) -> str | None:
        """Return a namespace that has the layer's blob: the snapshot's own where it does."""
        names = [view.name for view in self.evidence.views if view.has(of.layer.descriptor.digest)]
        own = of.snapshot.namespace
        return own if own in names else next(iter(names), None)

    def _parent(self, of: Needed) -> Needed | None:
        """Return the snapshot below, if it belongs to the layer below."""
        snapshot = of.snapshot
        found = self._needed.get((snapshot.namespace, snapshot.snapshotter, snapshot.parent))
        return found if found is not None and found.index == of.index - 1 else None

    @cached_property
    def _needed(self) -> dict[SnapshotKey, Needed]:
        return dict(needed(self.evidence))
