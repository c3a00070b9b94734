"""List a daemon's records in a process of its own, while this one imports what an audit needs and looks at files.

The interpreter lock gives threads one core. gRPC alone takes a tenth of a check to import and to connect, and only the
other process does so: it sends the answers as rows, see `relay`, and this one makes records of them.

The process is forked as early as possible, when this one has no other threads, and gets its task later.
"""

from __future__ import annotations

import fcntl
import gc
import marshal
import os
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from auditor.containerd import relay
from auditor.errors import AuditorError

if TYPE_CHECKING:
    import signal

    from auditor.containerd.documents_ahead import DocumentsAhead
else:
    import _signal as signal  # the same functions; `signal` takes a millisecond to load, for enumerations

#: Bytes that a pipe holds at most without privileges: the other process need not wait until they are read.
_PIPE = 1 << 20
_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
#: Seconds between looks whether a killed process has ended: one that waits for a disk does not end.
_ENDS = tuple(0.001 * 2**number for number in range(10))


class ListingProcess:
    """The process: sends plugins, version and id, and namespaces of the daemon, then the answers of `relay.send`.

    Args:
        process: Its id.
        tasks: The pipe that it reads, without a buffer.
        file: The pipe that it writes to.

    """

    def __init__(self, process: int, tasks: FileIO, file: BinaryIO) -> None:
        self._process = process
        self._tasks = tasks
        self._file = file
        self.answers = relay.Answers(file)

    def start(self, address: Path, *, timeout: float, namespaces: Sequence[str]) -> None:
        """Begin to list the records of namespaces, by default of all.

        Args:
            address: Path of containerd's socket.
            timeout: Seconds for a unary call, and for the next message of a stream.
            namespaces: Names of the namespaces.

        """
        with suppress(OSError):  # where the process has ended, its answers tell
            self._tasks.write(marshal.dumps((os.fspath(address), timeout, tuple(namespaces))))

    def read_documents(self, root: Path | None) -> DocumentsAhead | None:
        """Have the documents of the images read, too; what is returned is to be used after all that was listed.

        Args:
            root: The content root; None: the process ends when it has listed.

        """
        from auditor.containerd.documents_ahead import DocumentsAhead  # noqa: PLC0415 - for this function alone

        with suppress(OSError), self._tasks:
            if root is not None:
                self._tasks.write(marshal.dumps(os.fspath(root)))
        return DocumentsAhead(self.answers) if root is not None else None

    def close(self) -> None:
        """End the process, first of all: another thread may wait for what it sends."""
        with suppress(ProcessLookupError):
            os.kill(self._process, signal.SIGKILL)
        with suppress(OSError):
            self._tasks.close()
            self._file.close()
        with suppress(ChildProcessError):
            for pause in _ENDS:
                if os.waitpid(self._process, os.WNOHANG)[0]:
                    return
                time.sleep(pause)


def fork() -> ListingProcess | None:
    """Fork the process.

    Returns:
        None where it would save nothing, as there is one core, or where no process can be made.

    """
    if len(os.sched_getaffinity(0)) < 2:  # noqa: PLR2004 - one core
        return None
    # Otherwise the id of a process that has ended could be that of another one when it is killed.
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    ends: list[int] = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        ends += os.pipe2(os.O_CLOEXEC)
        ends += os.pipe2(os.O_CLOEXEC)
        process = os.fork()
    except OSError:
        for end in ends:
            os.close(end)
        return None
    else:
        tasks, task, reading, writing = ends
        if process == 0:
            _run(tasks, writing, mask)
        os.close(tasks)
        os.close(writing)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return ListingProcess(process, FileIO(task, "wb"), os.fdopen(reading, "rb"))


def _run(tasks: int, writing: int, mask: Iterable[int]) -> NoReturn:
    """Be the other process: send everything and end, by a signal without a word."""
    try:
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _close_others(tasks, writing)
        gc.disable()
        with os.fdopen(tasks, "rb") as file, os.fdopen(writing, "wb") as output:
            _work(file, output)
    except Exception:  # noqa: BLE001 - the other process then does the work, and meets the error
        if os.environ.get("AUDITOR_DEBUG"):
            sys.excepthook(*sys.exc_info())
    finally:
        os._exit(0)


def _close_others(*kept: int) -> None:
    """Close all other files: who waits for their end, or for a lock, waits for the first process alone."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1) if os.environ.get("AUDITOR_DEBUG") else (0, 1, 2):
        os.dup2(null, standard)
    with suppress(OSError):  # without /proc
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - iterdir makes a path of each name
            if int(name) > 2 and int(name) not in kept:  # noqa: PLR2004 - standard error
                with suppress(OSError):
                    os.close(int(name))


def _work(tasks: BinaryIO, output: BinaryIO) -> None:
    """Do the task."""
    from auditor.containerd import list_calls  # noqa: PLC0415 - imports gRPC
    from auditor.containerd.channel import open_connection  # noqa: PLC0415 - imports gRPC
    from auditor.containerd.introspection import Introspection  # noqa: PLC0415 - imports gRPC

    with suppress(OSError):
        fcntl.fcntl(output, fcntl.F_SETPIPE_SZ, _PIPE)
    address, timeout, namespaces = marshal.load(tasks)  # noqa: S302 - written by the parent
    try:
        connection = open_connection(Path(address), timeout=timeout)
    except AuditorError as error:
        relay.send_error(output, error)
        return
    asked, listed = Introspection(connection), list_calls.namespaces(connection)
    try:
        plugins = asked.plugins()
        relay.send_answer(output, lambda: [plugins])
        relay.send_answer(output, lambda: [[connection.version, asked.uuid()]])
        (present,) = listed()
        relay.send_answer(output, lambda: [present])
    except AuditorError as error:
        relay.send_error(output, error)
        return
    snapshotters = relay.snapshotters_to_list(plugins)
    targets: list[str] = []
    labels: dict[str, dict[str, str]] = {}
    for name in relay.namespaces_to_list(present, namespaces):
        with list_calls.list_calls(connection, name, snapshotters=snapshotters) as calls:
            images, content = relay.send(output, calls)
        targets += [target[1] for _, _, target in images]
        labels |= {row[0]: row[2] for row in content}
    from auditor.containerd.documents_ahead import read_ahead  # noqa: PLC0415 - after all that is waited for

    root = marshal.load(tasks)  # noqa: S302 - written by the parent; ends here without a task
    relay.send_answer(output, lambda: read_ahead(root, targets, labels))
