"""Convert the answers to the list calls of a namespace to its records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from auditor.containerd import convert
from auditor.errors import AuditorError, InvalidDigest, StoreTimeout, StoreUnreachable
from auditor.model.store import Inventory, Snapshot

if TYPE_CHECKING:
    from auditor.containerd.relay import Answer, ListCalls

_Row = TypeVar("_Row")
_Noun = TypeVar("_Noun")
#: Records of a listing, and its gaps, one sentence each.
_Listed = tuple[list[_Noun], tuple[str, ...]]


def inventory(namespace: str, calls: ListCalls) -> Inventory:
    """Return the records of a namespace. Kinds that cannot be listed are gaps, except images and content.

    Args:
        namespace: Name of the namespace.
        calls: Its list calls.

    Raises:
        StoreError: Images or content cannot be listed.

    """
    images, odd_images = _listed(
        calls.images(),
        partial(convert.images, namespace),
        lambda row: f"image {row[0]!r} of {namespace} points to {row[2][1]!r}",
    )
    blobs, odd_blobs = _listed(
        calls.content(),
        partial(convert.blobs, namespace),
        lambda row: f"a content record of {namespace} is named {row[0]!r}",
    )
    leases, no_leases = _or_gap(calls, calls.leases, partial(convert.leases, namespace))
    ingests, no_ingests = _or_gap(calls, calls.ingests, partial(convert.ingests, namespace))
    containers, no_containers = _or_gap(calls, calls.containers, partial(convert.containers, namespace))
    labels, no_labels = _or_gap(calls, calls.namespaces, lambda rows: [dict(rows).get(namespace, {})])
    snapshots: dict[str, dict[str, Snapshot]] = {}
    no_snapshots: tuple[str, ...] = ()
    for name, answer in calls.snapshots.items():
        held, gaps = _or_gap(calls, answer, partial(convert.snapshots, namespace, name))
        no_snapshots += gaps
        if not gaps:  # else unknown, not empty
            snapshots[name] = {snapshot.name: snapshot for snapshot in held}
    return Inventory(
        namespace=namespace,
        images=tuple(images),
        blobs={blob.digest: blob for blob in blobs},
        snapshots=snapshots,
        leases=tuple(leases),
        ingests=tuple(ingests),
        containers=tuple(containers),
        labels=next(iter(labels), {}),
        gaps=(*odd_images, *odd_blobs, *no_leases, *no_ingests, *no_containers, *no_labels, *no_snapshots),
    )


def _or_gap(calls: ListCalls, answer: Answer[_Row], converted: Callable[[list[_Row]], list[_Noun]]) -> _Listed[_Noun]:
    """Wait for an optional listing; its failure is a gap, unless the daemon itself does not answer.

    A proxy snapshotter is a process of its own: it can fail while the daemon works.
    """
    try:
        return converted(list(chain.from_iterable(answer()))), ()
    except (StoreUnreachable, StoreTimeout) as error:
        if not calls.daemon_answers():
            raise
        return [], (error.message,)
    except AuditorError as error:
        return [], (error.message,)


def _listed(
    answer: Iterable[list[_Row]], converted: Callable[[Sequence[_Row]], list[_Noun]], named: Callable[[_Row], str]
) -> _Listed[_Noun]:
    """Convert an answer batch by batch; rows with an invalid digest are a gap, whose example is `named`."""
    bad: list[_Row] = []
    found: list[_Noun] = []
    for rows in answer:
        found += _well_formed(rows, converted, bad)
    return found, _gap(bad, named)


def _well_formed(
    rows: Sequence[_Row], converted: Callable[[Sequence[_Row]], list[_Noun]], bad: list[_Row]
) -> list[_Noun]:
    """Convert rows; those with an invalid digest are left out, and appended to `bad`."""
    try:
        return converted(rows)
    except InvalidDigest:
        found = []
        for row in rows:
            try:
                found += converted([row])
            except InvalidDigest:
                bad.append(row)
        return found


def _gap(bad: Sequence[_Row], named: Callable[[_Row], str]) -> tuple[str, ...]:
    """Return the gap of rows that were left out, with one example."""
    if not bad:
        return ()
    others = f", and {len(bad) - 1} more like it" if len(bad) > 1 else ""
    return (f"{named(bad[0])}, which is not a digest{others}: not audited",)
