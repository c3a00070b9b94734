"""Answers reach another process as they are: rows, gaps and errors; an end too early is noticed wherever it comes."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from auditor.containerd import listing, relay
from auditor.containerd.relay import Answer, Answers, Ended, ListCalls
from auditor.containerd.rows import PluginRow
from auditor.errors import AuditorError, NoRecord, StoreError, StoreTimeout, StoreUnreachable, Unsupported
from auditor.model.digest import Digest
from auditor.model.store import Inventory

ONE, TWO = Digest.of(b"1"), Digest.of(b"2")
TARGET = ("application/json", str(ONE), 7, (("a", "b"),))
SNAPSHOTTERS = ("native", "overlayfs")
KINDS = ("images", "content", "leases", "ingests", "containers", "namespaces")


def answered(*batches: list[Any]) -> Answer[Any]:
    return lambda: batches


def failed(error: AuditorError, *before: list[Any]) -> Answer[Any]:
    def answer() -> Iterator[list[Any]]:
        yield from before
        raise error

    return answer


def calls(*, daemon_answers: bool = True, **changed: Answer[Any]) -> ListCalls:
    snapshots = {name: answered([(f"on-{name}", "", "committed", {})]) for name in SNAPSHOTTERS}
    snapshots |= {name: answer for name, answer in changed.items() if name in SNAPSHOTTERS}
    others: dict[str, Any] = {name: answer for name, answer in changed.items() if name not in SNAPSHOTTERS}
    return ListCalls(
        images=answered([("i:1", {"k": "v"}, TARGET), ("i:2", {}, TARGET)]),
        content=answered([(str(ONE), 7, {"k": "v"}, 1_700_000_000_000_000_001, 0)], [], [(str(TWO), 8, {}, 0, 1)]),
        leases=answered([("l", {"k": "v"}, 5_000)]),
        ingests=answered([("r", 1, 2, str(TWO), 3_000, 4_000)]),
        containers=answered([("c", "i:1", "overlayfs", "key", "web/shop")]),
        namespaces=answered([("default", {"team": "a"}), ("other", {})]),
        snapshots=snapshots,
        daemon_answers=lambda: daemon_answers,
    )._replace(**others)


def sent(made: ListCalls) -> bytes:
    file = io.BytesIO()
    relay.send(file, made)
    return file.getvalue()


def received(data: bytes, snapshotters: Sequence[str] = SNAPSHOTTERS) -> Inventory:
    return listing.inventory("default", Answers(io.BytesIO(data)).calls(snapshotters=snapshotters))


def outcome(work: Callable[[], Inventory]) -> object:
    """The records, or the class, message and hint of the error."""
    try:
        return work()
    except AuditorError as error:
        return type(error), error.message, error.hint


def test_the_records_are_the_same() -> None:
    found = received(sent(calls()))
    assert found == listing.inventory("default", calls())
    assert [image.name for image in found.images] == ["i:1", "i:2"]
    assert found.images[0].target is found.images[1].target
    assert list(found.blobs) == [ONE, TWO]
    assert {name: list(held) for name, held in found.snapshots.items()} == {n: [f"on-{n}"] for n in SNAPSHOTTERS}
    assert (found.labels, found.gaps) == ({"team": "a"}, ())


def test_sending_returns_the_rows_of_images_and_content() -> None:
    images, content = relay.send(io.BytesIO(), calls())
    assert [name for name, _, _ in images] == ["i:1", "i:2"]
    assert [digest for digest, *_ in content] == [ONE, TWO]


@pytest.mark.parametrize("kind", [*KINDS, *SNAPSHOTTERS])
@pytest.mark.parametrize("daemon_answers", [True, False])
@pytest.mark.parametrize(
    "error",
    [
        StoreError("it failed", hint="a hint"),
        StoreTimeout("no answer"),
        StoreUnreachable("it is gone", hint="start it"),
        Unsupported("not here"),
        NoRecord("nothing"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_what_it_would_have_been_here(kind: str, error: AuditorError, *, daemon_answers: bool) -> None:
    made = calls(daemon_answers=daemon_answers, **{kind: failed(error)})
    here = outcome(lambda: listing.inventory("default", made))
    assert outcome(lambda: received(sent(made))) == here
    fatal = kind in ("images", "content") or (isinstance(error, StoreTimeout | StoreUnreachable) and not daemon_answers)
    assert isinstance(here, Inventory) is not fatal
    if isinstance(here, Inventory):
        assert here.gaps == (error.message,)


def test_rows_before_an_error_do_not_count() -> None:
    found = received(sent(calls(overlayfs=failed(StoreError("cut"), [("half", "", "committed", {})]))))
    assert list(found.snapshots) == ["native"]
    assert found.gaps == ("cut",)


def test_an_end_too_early_is_noticed_at_every_byte() -> None:
    whole = sent(calls())
    assert received(whole) == listing.inventory("default", calls())
    for length in range(len(whole)):
        with pytest.raises(Ended):
            received(whole[:length])


@pytest.mark.parametrize("data", [b"nonsense", b"\xff" * 100, b"z" * 3])
def test_bytes_of_something_else_are_an_end_too(data: bytes) -> None:
    with pytest.raises(Ended):
        received(data)


@pytest.mark.parametrize(
    ("wanted", "listed"),
    [((), ("a", "b")), (("b",), ("b",)), (("b", "a", "b"), ("b", "a")), (("absent", "a"), ("a",)), (("absent",), ())],
)
def test_both_ends_know_which_namespaces_are_sent(wanted: tuple[str, ...], listed: tuple[str, ...]) -> None:
    assert relay.namespaces_to_list([("b", {}), ("a", {"k": "v"})], wanted) == listed


def test_both_ends_know_which_snapshotters_are_sent() -> None:
    plugins: list[PluginRow] = [
        (relay.SNAPSHOTTER, "zfs", {}, "skip plugin", ()),
        (relay.SNAPSHOTTER, "overlayfs", {}, None, ()),
        ("io.containerd.content.v1", "content", {}, None, ()),
        (relay.SNAPSHOTTER, "native", {}, None, ()),
    ]
    assert relay.snapshotters_to_list(plugins) == ("native", "overlayfs")
