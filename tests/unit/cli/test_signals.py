"""Signals reach the main thread though it waits, whichever thread the kernel gave them to."""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from auditor.cli import app
from auditor.cli.runs.every import stoppable
from auditor.cli.signals import INTERRUPTED, TERMINATED, Handlers, Terminated, prompt_signals


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it is ignored where the tests run under nohup
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def wait(begin: Callable[[], object]) -> None:
    """Wait without end; only a signal gets out of here."""
    with prompt_signals():
        begin()
        threading.Event().wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_termination_is_raised(number: signal.Signals) -> None:
    with pytest.raises(Terminated):
        wait(lambda: os.kill(os.getpid(), number))


def test_the_end_of_a_session_is_ignored_under_nohup() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with prompt_signals():
        os.kill(os.getpid(), signal.SIGHUP)


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_that_another_thread_took_ends_a_wait_without_end(
    number: signal.Signals, raised: type[BaseException]
) -> None:
    """Such a one interrupts no system call of the main thread, as one that comes just before the wait does not."""

    def take() -> None:
        time.sleep(0.1)
        signal.pthread_kill(threading.get_ident(), number)

    with pytest.raises(raised):
        wait(threading.Thread(target=take).start)


def test_everything_is_as_before_afterwards() -> None:
    nudged, others = signal.getsignal(signal.SIGURG), set(threading.enumerate())
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    with prompt_signals():
        (mine,) = set(threading.enumerate()) - others
    assert signal.getsignal(signal.SIGURG) == nudged
    assert signal.set_wakeup_fd(before) == before
    mine.join()


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_during_an_import_is_raised_after_it(
    number: signal.Signals, raised: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"import os\nos.kill(os.getpid(), {int(number)})\nsum(range(2_000_000))\ndone = True\n"
    (tmp_path / "signalled_module.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(raised):
        wait(lambda: importlib.import_module("signalled_module"))
    assert sys.modules.pop("signalled_module").done


def test_a_signal_during_the_last_import_is_raised_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "last_module.py").write_text(f"import os\nos.kill(os.getpid(), {int(signal.SIGINT)})\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(KeyboardInterrupt), prompt_signals():
        importlib.import_module("last_module")
    assert "last_module" in sys.modules


def signals(count: int, pause: float) -> str:
    """The code of a module that gets signals while it is imported."""
    kill = f"os.kill(os.getpid(), {int(signal.SIGINT)})"
    return f"import os, time\nfor _ in range({count}):\n    {kill}\n    time.sleep({pause})\n"


def test_further_signals_at_once_wait_for_the_import_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shaken_module.py").write_text(signals(5, 0.002) + "done = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(KeyboardInterrupt), prompt_signals():
        wait(lambda: importlib.import_module("shaken_module"))
    assert sys.modules.pop("shaken_module").done


def test_a_signal_that_comes_later_does_not_wait_for_the_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "slow_module.py").write_text(signals(2, 0.6) + "time.sleep(60)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(KeyboardInterrupt), prompt_signals():
        importlib.import_module("slow_module")
    assert "slow_module" not in sys.modules


class Signalled:
    """A lock of which one method sends a signal in C code, so that what the signal interrupts is the condition."""

    def __init__(self, number: signal.Signals, method: str) -> None:
        self.restored: list[object] = []
        for name in ("acquire", "release", "__enter__", "__exit__"):
            setattr(self, name, lambda *_: None)
        self._is_owned = lambda: True
        self._acquire_restore = self.restored.append
        setattr(self, method, functools.partial(signal.raise_signal, number))


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGTERM, Terminated), (signal.SIGINT, KeyboardInterrupt)])
def test_a_condition_takes_its_lock_again_before_a_signal_is_raised(
    number: signal.Signals, raised: type[BaseException]
) -> None:
    lock = Signalled(number, "_release_save")
    condition = threading.Condition(lock)  # type: ignore[arg-type]
    with pytest.raises(raised), prompt_signals():
        condition.wait()
    assert lock.restored == [None]


@pytest.mark.parametrize("method", ["__enter__", "__exit__"])
def test_a_lock_that_changes_hands_is_not_interrupted(method: str) -> None:
    """The lock is taken or free after the call in these methods, and their caller does not know it yet."""
    condition = threading.Condition(Signalled(signal.SIGTERM, method))  # type: ignore[arg-type]
    handlers = Handlers()
    signal.signal(signal.SIGTERM, handlers.terminate)
    getattr(condition, method)()
    assert handlers.pending is Terminated


def test_a_second_signal_waits_for_the_lock_too() -> None:
    condition = threading.Condition(Signalled(signal.SIGTERM, "__exit__"))  # type: ignore[arg-type]
    handlers = Handlers()
    handlers.pending = Terminated  # the first one
    signal.signal(signal.SIGTERM, handlers.terminate)
    condition.__exit__()  # type: ignore[call-arg]
    assert handlers.pending is Terminated


def test_a_signal_after_the_command_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "_exit", sys.exit)
    monkeypatch.setattr(app, "print_message", lambda _: signal.raise_signal(signal.SIGTERM))
    monkeypatch.setattr(app, "_dispatch", lambda _: signal.raise_signal(signal.SIGHUP))
    with pytest.raises(SystemExit, match=str(TERMINATED)):
        app.main(["rules"], ends=True)


def test_an_error_that_a_signal_caused_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_words: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except Terminated:
            raise ImportError("cannot initialise module strings") from None

    monkeypatch.setattr(app, "_dispatch", interrupted)
    assert app.main(["rules"]) == TERMINATED
    assert capfd.readouterr().err == "auditor: interrupted\n"


def test_an_interrupted_loop_waits_for_the_lock_too() -> None:
    lock = Signalled(signal.SIGTERM, "_release_save")
    with prompt_signals(), stoppable(), pytest.raises(Terminated):
        threading.Condition(lock).wait()  # type: ignore[arg-type]
    assert lock.restored == [None]


def test_a_signal_in_a_finalizer_is_raised_after_it() -> None:
    class Finalized:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Terminated):
        wait(Finalized)


def test_other_errors_of_a_finalizer_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    class Finalized:
        def __del__(self) -> None:
            raise OSError

    seen: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    with prompt_signals():
        Finalized()
    assert len(seen) == 1


class Ended(Exception):
    """The process would have ended."""


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt, INTERRUPTED), (Terminated, TERMINATED)])
def test_what_is_pending_after_the_command_ends_the_process(
    error: type[BaseException], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []

    def end(number: int) -> None:
        ended.append(number)
        raise Ended

    monkeypatch.setattr(os, "_exit", end)
    handlers = Handlers(ends=True)
    handlers.over = True
    handlers.pending = error
    with pytest.raises(Ended):
        handlers.nudge(signal.SIGURG, None)
    with pytest.raises(Ended):
        (handlers.terminate if error is Terminated else handlers.interrupt)(signal.SIGTERM, None)
    assert ended == [status, status]
