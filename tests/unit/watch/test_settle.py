"""When an image settles: the orders of events that releases send, with times worked out by hand."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from auditor.model.store_event import EventKind, StoreEvent
from auditor.watch.settle import QUIET, RESTLESS, UNPACKING, Settling

SPACE = "k8s.io"


class At(NamedTuple):
    """An event at a time; `name` is the image, or the number of an extraction."""

    time: float
    kind: EventKind
    name: str
    namespace: str = SPACE


def image(time: float, name: str = "app", *, namespace: str = SPACE) -> At:
    return At(time, EventKind.IMAGE, name, namespace)


def begun(time: float, number: int = 1, *, namespace: str = SPACE) -> At:
    return At(time, EventKind.PREPARED, f"extract-{number}-x sha256:{number}", namespace)


def ended(time: float, number: int = 1, kind: EventKind = EventKind.COMMITTED) -> At:
    return At(time, kind, f"extract-{number}-x sha256:{number}")


def settles(*events: At, name: str = "app", until: float = 1000) -> float | None:
    """The time at which an image is due, looked at every 50 ms."""
    waiting, settling, at = sorted(events), Settling(), 0.0
    while at <= until:
        while waiting and waiting[0].time <= at:
            event = waiting.pop(0)
            settling.take(StoreEvent(event.kind, event.namespace, event.name, "overlayfs"), event.time)
        if (SPACE, name) in settling.due(at):
            return round(at, 2)
        at = round(at + 0.05, 2)
    return None


ORDERS = {
    "a tag": ([image(1)], 1 + QUIET),
    "CRI: layers first, then three records": ([begun(1), ended(2), image(2.1), image(2.2)], 2.2 + QUIET),
    "ctr of 1.7: the record first": ([image(1), begun(1.1), ended(1.4), begun(1.5, 2), ended(3, 2)], 3 + QUIET),
    "a large layer": ([image(1), begun(1.1), ended(61.1)], 61.1 + QUIET),
    "an unpacking that was removed": ([image(1), begun(1.1), ended(5, kind=EventKind.REMOVED)], 5 + QUIET),
    "a killed pull never ends its unpacking": ([image(1), begun(1.1)], 1 + UNPACKING),
    "an unpacking of an earlier killed pull": ([begun(0.1), image(100)], 0.1 + UNPACKING),
    "the same image again and again": ([image(n / 2) for n in range(2, 12)], 5.5 + QUIET),
    "another namespace is busy": ([image(1), begun(1, namespace="moby")], 1 + QUIET),
    "a container's snapshot": ([image(1), At(1.5, EventKind.PREPARED, "container-1")], 1 + QUIET),
    "no end of commits of other images": (
        [image(1), *(each for n in range(2, 400) for each in (begun(n / 2, n), ended(n / 2 + 0.05, n)))],
        1 + 2 * RESTLESS,
    ),
    "an image that was removed is looked at too": ([At(1, EventKind.IMAGE_DELETED, "app")], 1 + QUIET),
}


@pytest.mark.parametrize("name", ORDERS)
def test_an_image_settles(name: str) -> None:
    events, when = ORDERS[name]
    found = settles(*events)
    assert found is not None
    assert abs(found - when) < 0.4


def test_each_image_is_due_once() -> None:
    settling = Settling()
    for name in ("a", "b", "a"):
        settling.take(StoreEvent(EventKind.IMAGE, SPACE, name), 1)
    assert settling.due(1.5) == ()
    assert set(settling.due(2.1)) == {(SPACE, "a"), (SPACE, "b")}
    assert settling.due(3) == ()


def test_names_that_settle_within_a_moment_are_due_together_and_others_wait() -> None:
    settling = Settling()
    for name, at in (("a", 1.0), ("b", 1.04), ("c", 1.5)):
        settling.take(StoreEvent(EventKind.IMAGE, SPACE, name), at)
    assert settling.due(0.99 + QUIET) == ()
    assert set(settling.due(1 + QUIET)) == {(SPACE, "a"), (SPACE, "b")}
    assert settling.due(1.6 + QUIET) == ((SPACE, "c"),)


def test_the_wait_ends_when_the_next_image_may_settle() -> None:
    settling = Settling()
    assert settling.wait(0, most=30) == 30
    settling.take(StoreEvent(EventKind.IMAGE, SPACE, "a"), 10)
    assert settling.wait(10.4, most=30) == pytest.approx(0.6)
    assert 0 < settling.wait(99, most=30) < 1
