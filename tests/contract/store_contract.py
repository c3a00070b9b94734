"""The contract of `auditor.model.store.Store`: every store passes this suite over content that the test put there.

A test module makes a class of it and says with a fixture `known` which store and which content:

    class TestArchive(StoreContract):
        @pytest.fixture
        def known(self) -> Known: ...
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from auditor.errors import MalformedDocument, NoRecord
from auditor.model.digest import Digest, measure
from auditor.model.store import FileKind, Store

LIMIT = 8 << 20
UNKNOWN = Digest.of(b"nobody has this")


@dataclass(frozen=True)
class Known:
    """One image in one namespace, all its blobs sound, one of them of more than two pieces of 1 MiB."""

    store: Store
    namespace: str
    name: str
    target: Digest
    blobs: Mapping[Digest, bytes]

    @property
    def large(self) -> Digest:
        return max(self.blobs, key=lambda digest: len(self.blobs[digest]))


class StoreContract:
    def test_it_is_a_store(self, known: Known) -> None:
        assert isinstance(known.store, Store)
        assert known.store.info() == known.store.info()
        assert known.store.info().address

    def test_namespaces_are_sorted_and_hold_ours(self, known: Known) -> None:
        names = known.store.namespaces()
        assert list(names) == sorted(names)
        assert known.namespace in names

    def test_the_inventory_has_the_image(self, known: Known) -> None:
        inventory = known.store.inventory(known.namespace)
        image = next(i for i in inventory.images if i.name == known.name)
        assert image.namespace == known.namespace
        assert (image.target.digest, image.target.size) == (known.target, len(known.blobs[known.target]))
        assert inventory.gaps == ()

    def test_the_inventory_has_exactly_the_blobs(self, known: Known) -> None:
        blobs = known.store.inventory(known.namespace).blobs
        assert {digest: blob.size for digest, blob in blobs.items()} == {d: len(b) for d, b in known.blobs.items()}
        assert all(blob.digest == digest and blob.namespace == known.namespace for digest, blob in blobs.items())

    def test_times_are_aware(self, known: Known) -> None:
        blobs = known.store.inventory(known.namespace).blobs
        times = [blob.created_at for blob in blobs.values()]
        assert all(time is None or time.tzinfo is not None for time in times)

    def test_a_namespace_without_anything_has_an_empty_inventory(self, known: Known) -> None:
        inventory = known.store.inventory("nothing-here")
        assert [*inventory.images, *inventory.blobs, *inventory.leases] == []
        assert inventory.gaps == ()
        assert "nothing-here" not in known.store.namespaces()

    def test_an_unknown_lease_holds_nothing(self, known: Known) -> None:
        assert known.store.resources(known.namespace, "no-such-lease") == ()

    def test_small_blobs_are_read_whole(self, known: Known) -> None:
        assert known.store.read(known.namespace, known.target, limit=LIMIT) == known.blobs[known.target]

    def test_the_limit_is_the_last_size_that_is_read(self, known: Known) -> None:
        data = known.blobs[known.target]
        assert known.store.read(known.namespace, known.target, limit=len(data)) == data
        with pytest.raises(MalformedDocument):
            known.store.read(known.namespace, known.target, limit=len(data) - 1)

    @pytest.mark.parametrize("fresh", [False, True])
    def test_streams_give_every_byte(self, known: Known, *, fresh: bool) -> None:
        for digest, data in known.blobs.items():
            with known.store.stream(known.namespace, digest, fresh=fresh) as pieces:
                assert measure(pieces, algorithm=digest.algorithm).matches(digest, len(data))

    def test_pieces_stay_as_they_are(self, known: Known) -> None:
        with known.store.stream(known.namespace, known.large) as pieces:
            kept = list(pieces)
        assert len(kept) > 1
        assert b"".join(kept) == known.blobs[known.large]

    def test_a_stream_may_be_left_early(self, known: Known) -> None:
        with known.store.stream(known.namespace, known.large) as pieces:
            assert next(pieces)
        with known.store.stream(known.namespace, known.large):
            pass
        assert known.store.read(known.namespace, known.target, limit=LIMIT)

    def test_an_unknown_digest_has_no_record(self, known: Known) -> None:
        with pytest.raises(NoRecord):
            known.store.read(known.namespace, UNKNOWN, limit=LIMIT)
        with pytest.raises(NoRecord), known.store.stream(known.namespace, UNKNOWN) as pieces:
            next(pieces)
        with pytest.raises(NoRecord):
            known.store.probe(known.namespace, UNKNOWN, 1)

    def test_probes_find_the_files(self, known: Known) -> None:
        for digest, data in known.blobs.items():
            state = known.store.probe(known.namespace, digest, len(data))
            assert (state.kind, state.size, state.error) == (FileKind.REGULAR, len(data), "")

    def test_visible_files_are_those_of_the_blobs(self, known: Known) -> None:
        states = known.store.files()
        if states is None:
            assert known.store.info().content_root is None
            return
        found = {digest: (states[digest].kind, states[digest].size) for digest in known.blobs}
        assert found == {digest: (FileKind.REGULAR, len(data)) for digest, data in known.blobs.items()}
        assert UNKNOWN not in states

    def test_threads_may_share_it(self, known: Known) -> None:
        def verified(digest: Digest) -> bool:
            with known.store.stream(known.namespace, digest) as pieces:
                return measure(pieces, algorithm=digest.algorithm).matches(digest)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(verified, [digest for digest in known.blobs for _ in range(8)]))

    def test_what_it_has_proven_is_of_its_blobs(self, known: Known) -> None:
        verifications = known.store.verifications()
        assert set(verifications) <= set(known.blobs)
        assert all(verification.digest == digest for digest, verification in verifications.items())
