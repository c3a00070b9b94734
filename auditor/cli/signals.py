"""Deliver signals promptly even if the main thread blocks in a system call, and not where they would break something.

CPython records a signal and runs its handler between two bytecode instructions. A signal that arrives after the last
instruction before a blocking call is handled when the call returns: under load that is one Ctrl-C in ten, and a
response of the daemon may take minutes. A thread therefore interrupts the main thread after each signal.

An exception that interrupts the initialization of an extension module may crash it (msgspec, gRPC), so a signal during
an import is raised after it. So is one that arrives while `threading.Condition` takes its lock or gives it back: the
lock would be given back twice ("cannot release un-acquired lock"), or never. CPython drops an exception that is raised
in a finalizer; one of a signal is raised again after it.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # the same functions; `signal` takes a millisecond to load, for enumerations

#: Interrupts the main thread. Its default action is to be ignored.
_NUDGE = signal.SIGURG
#: Seconds after a signal at which the main thread is interrupted; repeated, as the first may come too early.
_DELAYS = (0.02, 0.1, 0.5)
#: Seconds between interruptions while a signal waits, at first and at most. gRPC begins its wait of 0.2 s, after which
#: it lets handlers run, anew at each interruption.
_POLL, _LONGEST_POLL = 0.005, 0.5
#: Seconds after which a further signal interrupts an import: it may hang, as on a dead disk.
_IMPATIENCE = 0.5
_IMPORT = "<frozen importlib._bootstrap>"
#: Methods of `threading.Condition` in which its lock changes hands.
_LOCKING = frozenset({"__enter__", "__exit__", "_release_save", "_acquire_restore"})


#: Exit statuses of a process that a signal ended, as shells give them.
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived; raised in the main thread so that leases and temporary files are cleaned up."""


@contextmanager
def prompt_signals(handlers: Handlers | None = None) -> Iterator[None]:
    """Raise Terminated for SIGTERM and SIGHUP, and deliver signals promptly; to be called from the main thread.

    The handlers of both stay after the block, for the rest of the process. SIGHUP, which the end of a session sends,
    stays ignored under nohup, and SIGINT where a shell started the process in the background.
    """
    handlers = handlers or Handlers()
    signal.signal(signal.SIGTERM, handlers.terminate)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, handlers.terminate)
    interrupted = signal.getsignal(signal.SIGINT)
    mine = interrupted is not signal.SIG_IGN
    if mine:
        signal.signal(signal.SIGINT, handlers.interrupt)
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(reading, True)
    nudged = signal.signal(_NUDGE, handlers.nudge)
    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    unraisable, sys.unraisablehook = sys.unraisablehook, handlers.unraisable
    arguments = (reading, threading.get_ident(), handlers)
    threading.Thread(target=_wake, args=arguments, name="signals", daemon=True).start()
    try:
        yield
    finally:
        if not handlers.ends:
            sys.unraisablehook = unraisable
        signal.set_wakeup_fd(before)
        signal.signal(_NUDGE, nudged)
        if mine and not handlers.ends:
            signal.signal(signal.SIGINT, interrupted)
        os.close(writing)
        handlers.raise_pending()


class Handlers:
    """Signal handlers.

    `pending` is the exception of a signal that could not be raised yet, `raised` the last one that was, `handled` the
    number of signals whose handler has run.

    Args:
        ends: The process ends after the block; the handlers stay. Once `over` is set, a signal ends it at once: its
            exception would have no handler any more.

    """

    def __init__(self, *, ends: bool = False) -> None:
        self._report = sys.unraisablehook
        self.pending: type[BaseException] | None = None
        self.raised: type[BaseException] | None = None
        self.handled = 0
        self._since = 0.0
        self.ends = ends
        self.over = False

    def terminate(self, _signal: int, frame: FrameType | None) -> None:
        """Handle SIGTERM and SIGHUP."""
        self._raise(Terminated, frame)

    def interrupt(self, _signal: int, frame: FrameType | None) -> None:
        """Handle SIGINT."""
        self._raise(KeyboardInterrupt, frame)

    def nudge(self, _signal: int, frame: FrameType | None) -> None:
        """Raise what is pending, unless it still has to wait."""
        if not _must_finish(frame):
            self.raise_pending()

    def unraisable(self, dropped: sys.UnraisableHookArgs) -> None:
        """Keep the exception of a signal that CPython dropped, as it was raised in a finalizer; report others."""
        if issubclass(dropped.exc_type, (Terminated, KeyboardInterrupt)):
            self.pending = dropped.exc_type
        else:
            self._report(dropped)

    def raise_pending(self) -> None:
        """Raise what is pending."""
        error, self.pending = self.pending, None
        if error is not None:
            self._end_if_over(error)
            self.raised = error
            raise error

    def _end_if_over(self, error: type[BaseException]) -> None:
        if self.over:
            os._exit(TERMINATED if error is Terminated else INTERRUPTED)

    def _raise(self, error: type[BaseException], frame: FrameType | None) -> None:
        """Raise the exception now, or as soon as it breaks nothing; after a while no signal waits for an import."""
        self._end_if_over(error)
        self.handled += 1
        now = time.monotonic()
        waits = self.pending is None or now - self._since < _IMPATIENCE
        if _locking(frame) or (waits and _importing(frame)):
            self._since = now if self.pending is None else self._since
            self.pending = error
            return
        self.pending, self.raised = None, error
        raise error


def _must_finish(frame: FrameType | None) -> bool:
    """Whether an exception must not be raised in a frame."""
    return _locking(frame) or _importing(frame)


def _locking(frame: FrameType | None) -> bool:
    """Whether a frame takes or gives back the lock of a condition, or keeps the exception of an earlier signal.

    `Condition.wait` restores the lock whatever happens once its variable `gotit` is set, which is before it blocks.
    """
    if frame is not None and frame.f_code is Handlers.unraisable.__code__:
        return True
    if frame is None or frame.f_globals.get("__name__") != threading.__name__:
        return False
    name = frame.f_code.co_name
    return name in _LOCKING or (name == "wait" and "gotit" not in frame.f_locals)


def _importing(frame: FrameType | None) -> bool:
    """Whether a frame runs for an import statement."""
    while frame is not None and frame.f_code.co_filename != _IMPORT:
        frame = frame.f_back
    return frame is not None


def _wake(reading: int, thread: int, handlers: Handlers) -> None:
    """Interrupt a thread after each signal until its handler has run; end when the other end of the pipe is closed.

    A signal whose exception is on its way through C code must not be followed by another: CPython would call the
    handler of that one with the exception set, and raise SystemError.
    """
    seen = 0
    with suppress(ProcessLookupError), os.fdopen(reading, "rb", buffering=0) as signals:
        while numbers := signals.read(1):
            if numbers[0] == _NUDGE:
                continue
            seen += 1
            for delay in _DELAYS:
                pause = _POLL
                while handlers.pending is not None:
                    time.sleep(pause)
                    signal.pthread_kill(thread, _NUDGE)
                    pause = min(2 * pause, _LONGEST_POLL)
                time.sleep(delay)
                if handlers.pending is not None or handlers.handled < seen:
                    signal.pthread_kill(thread, _NUDGE)
