"""The answers to list calls, and their way from one process to another.

An answer is a number of batches of rows. It is sent as a frame for each batch, then one for its end; that of a call
that failed ends with its error. Frames are written with `marshal`, which both ends have in the same version: one is a
fork of the other.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

from auditor import errors
from auditor.errors import AuditorError

if TYPE_CHECKING:
    from auditor.containerd.rows import (
        BlobRow,
        ContainerRow,
        ImageRow,
        IngestRow,
        LeaseRow,
        NamespaceRow,
        PluginRow,
        SnapshotRow,
    )

_Row = TypeVar("_Row")
#: Waits for an answer, and yields it in batches.
Answer = Callable[[], Iterable[list[_Row]]]
#: Bytes of the length of a frame, which stands before it.
_LENGTH = 8
#: The plugin type of snapshotters.
SNAPSHOTTER = "io.containerd.snapshotter.v1"


class ListCalls(NamedTuple):
    """The list calls of a namespace, which have been sent; each attribute waits for an answer, in this order.

    Attributes:
        images: Image records.
        content: Content records.
        leases: Leases, without their resources.
        ingests: Unfinished writes.
        containers: Containers.
        namespaces: All namespaces, with their labels.
        snapshots: Snapshots, by the names of their snapshotters.
        daemon_answers: Whether the daemon itself answers, where a call did not.

    """

    images: Answer[ImageRow]
    content: Answer[BlobRow]
    leases: Answer[LeaseRow]
    ingests: Answer[IngestRow]
    containers: Answer[ContainerRow]
    namespaces: Answer[NamespaceRow]
    snapshots: Mapping[str, Answer[SnapshotRow]]
    daemon_answers: Callable[[], bool]


class Ended(Exception):
    """The other process ended before it had sent everything."""


def namespaces_to_list(present: Iterable[NamespaceRow], wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the namespaces whose records are sent, in this order: the wanted ones, by default all."""
    names = sorted(name for name, _ in present)
    return tuple(name for name in dict.fromkeys(wanted or names) if name in names)


def snapshotters_to_list(plugins: Iterable[PluginRow]) -> tuple[str, ...]:
    """Return the snapshotters whose snapshots are sent, in this order: all that started."""
    return tuple(sorted(name for kind, name, _, error, _ in plugins if kind == SNAPSHOTTER and error is None))


def send(file: BinaryIO, calls: ListCalls) -> tuple[list[ImageRow], list[BlobRow]]:
    """Write all answers.

    Returns:
        The rows of images and of content.

    Raises:
        OSError: Nobody reads what is written.

    """

    def sent(answer: Answer[_Row]) -> list[_Row]:
        return send_answer(file, answer, daemon_answers=calls.daemon_answers)

    images, content = sent(calls.images), sent(calls.content)
    others: tuple[Answer[Any], ...] = (calls.leases, calls.ingests, calls.containers, calls.namespaces)
    for answer in (*others, *calls.snapshots.values()):
        sent(answer)
    return images, content


def send_answer(
    file: BinaryIO, answer: Answer[_Row], *, daemon_answers: Callable[[], bool] | None = None
) -> list[_Row]:
    """Write the batches of an answer, and how it ended.

    Args:
        file: What to write to.
        answer: Waits for the answer.
        daemon_answers: Whether the daemon itself answers, where this call fails.

    Returns:
        Its rows.

    Raises:
        OSError: Nobody reads what is written.

    """
    rows: list[_Row] = []
    try:
        for batch in answer():
            _write(file, batch)
            rows += batch
    except AuditorError as error:
        send_error(file, error, daemon_answers=daemon_answers is not None and daemon_answers())
    else:
        _write(file, None)
    return rows


def send_error(file: BinaryIO, error: AuditorError, *, daemon_answers: bool = False) -> None:
    """Write the error of a call. Raises OSError where nobody reads it."""
    _write(file, (type(error).__name__, error.message, error.hint, daemon_answers))


def _write(file: BinaryIO, frame: list[Any] | tuple[str, str, str, bool] | None) -> None:
    data = marshal.dumps(frame)
    file.write(len(data).to_bytes(_LENGTH, "little") + data)
    file.flush()


class Answers:
    """What a process wrote, in the order in which it did."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._daemon_answered = False

    def next(self) -> Iterator[list[Any]]:
        """Read the next answer, batch by batch. Raises the error of its call, or Ended."""
        while (batch := self._frame()) is not None:
            yield batch

    def calls(self, *, snapshotters: Sequence[str]) -> ListCalls:
        """Return calls whose answers are those that `send` wrote; they have to be waited for in the order there."""
        return ListCalls(
            images=self.next,
            content=self.next,
            leases=self.next,
            ingests=self.next,
            containers=self.next,
            namespaces=self.next,
            snapshots=dict.fromkeys(snapshotters, self.next),
            daemon_answers=lambda: self._daemon_answered,
        )

    def _frame(self) -> list[Any] | None:
        try:
            # `marshal.load` would read each object from the file, which takes several times as long.
            length = int.from_bytes(self._file.read(_LENGTH), "little")
            frame: list[Any] | tuple[Any, ...] | None = marshal.loads(self._file.read(length))  # noqa: S302 - of a fork
        except (EOFError, OSError, ValueError, TypeError, OverflowError) as error:
            raise Ended from error
        if isinstance(frame, tuple):
            name, message, hint, self._daemon_answered = frame
            kind: type[AuditorError] = getattr(errors, name)
            raise kind(message, hint=hint)
        return frame
