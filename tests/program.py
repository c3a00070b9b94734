"""Run the program as a process of its own that costs a fork: a server has imported it once for all tests.

The process has the environment and standard streams that it is given, runs in the checkout and ends by itself, as after
`python -m auditor`; only the imports are made before. The server never opens a channel, because gRPC's state does not
survive a fork. The watchdog of a repair can be such a process too.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any, Final, NoReturn, Self

from auditor.cli import repair_watchdog
from auditor.sources import http

ROOT: Final = Path(__file__).resolve().parents[1]
#: Bytes of a call at most, arguments and environment.
_LARGEST: Final = 1 << 20
#: Variables that may differ from the server's: nothing reads them while it is imported.
_READ_LATE: Final = ("AUDITOR_", "CONTAINERD_", "COLUMNS", "HOME", "XDG_", "PYTEST_")
#: Modules that the program imports when it needs them.
_LAZY: Final = (
    *("grpc._channel", "grpc._interceptor", "grpc.experimental", "encodings.ascii", "encodings.idna"),
    *("rich.console", "rich.progress", "typer", "typer.core", "jinja2", "tabulate"),
)
#: Of these only one command in a hundred needs one, and they are large.
_RARE: Final = ("auditor.__main__", "auditor.fleet.parquet")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment less what would steer the auditor, or keep Python from having its bytecode."""
    foreign = ("CONTAINERD_", "AUDITOR_", "PYTHONDONTWRITEBYTECODE")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
    return {**kept, "PYTHONPATH": str(ROOT), **(extra or {})}


def command(*arguments: str | bytes | Path) -> list[str]:
    """The command line of the program."""
    return [sys.executable, "-m", "auditor", *map(os.fsdecode, arguments)]


def run(
    *arguments: str | bytes | Path,
    env: Mapping[str, str] | None = None,
    stdin: IO[Any] | int = subprocess.DEVNULL,
    stdout: IO[Any] | int = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """Run the program to its end.

    Args:
        arguments: Its arguments.
        env: Variables to add to `environment()`; where Python or a library reads one at its start, Python is started.
        stdin: A file.
        stdout: A file; a pipe that is read by default.

    """
    wanted = environment(env)
    if not _differ_late(wanted, _server().env):
        return subprocess.run(
            command(*arguments), stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False,
            cwd=ROOT, env=wanted,
        )  # fmt: skip
    return _server().run([os.fsdecode(each) for each in arguments], wanted, stdin, stdout)


def _differ_late(wanted: Mapping[str, str], usual: Mapping[str, str]) -> bool:
    changed = {name for name in {*wanted, *usual} if wanted.get(name) != usual.get(name)}
    return all(name.startswith(_READ_LATE) for name in changed)


class _Server:
    """The server, from the side of the tests."""

    def __init__(self) -> None:
        self._calls, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.env = environment()
        self._calls.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.program", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd=ROOT,
                env=self.env,
                pass_fds=[theirs.fileno()],
            )

    def run(
        self, arguments: Sequence[str], env: Mapping[str, str], stdin: IO[Any] | int, stdout: IO[Any] | int
    ) -> subprocess.CompletedProcess[str]:
        with _Pipe() as out, _Pipe() as err, _Pipe() as answer, Path(os.devnull).open("rb") as nothing:
            self.call(
                {"arguments": arguments, "env": dict(env)},
                nothing if stdin == subprocess.DEVNULL else stdin,
                out.writing if stdout == subprocess.PIPE else stdout,
                err.writing,
                answer.writing,
            )
            for each in (out, err, answer):
                each.writing.close()
            pid = int(answer.reading.readline())
            try:
                reader = threading.Thread(target=err.read)
                reader.start()
                out.read()
                reader.join()
                status = int(answer.reading.readline())
            except BaseException:
                os.kill(pid, signal.SIGKILL)
                raise
        return subprocess.CompletedProcess(command(*arguments), status, out.text, err.text)

    def call(self, call: Mapping[str, Any], *files: IO[Any] | int) -> None:
        """Send a call with its standard streams and the file for the answer."""
        numbers = [each if isinstance(each, int) else each.fileno() for each in files]
        socket.send_fds(self._calls, [json.dumps(call).encode()], numbers)

    def stop(self) -> None:
        self._calls.close()
        self._process.wait()


class Watchdog:
    """The watchdog of a repair, in place of the `subprocess.Popen` of `start_isolated`."""

    def __init__(self, _script: str, address: str) -> None:
        self._stdin, self._answer, out = _Pipe(), _Pipe(), _Pipe()
        self.stdout = out.reading
        with Path(os.devnull).open("wb") as nothing:
            call = {"arguments": [address], "env": environment(), "watchdog": True}
            _server().call(call, self._stdin.reading, out.writing, nothing, self._answer.writing)
        for end in (self._stdin.reading, out.writing, self._answer.writing):
            end.close()

    def communicate(self, data: bytes = b"") -> None:
        """Send `data` and wait for the end."""
        self._stdin.writing.write(data)
        self._stdin.writing.close()
        self._answer.read()
        self._answer.reading.close()
        self.stdout.close()


class _Pipe:
    """A pipe; `text` is what was read of it."""

    def __init__(self) -> None:
        reading, writing = os.pipe()
        self.reading = os.fdopen(reading, "rb")
        self.writing = os.fdopen(writing, "wb")
        self.text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reading.close()
        self.writing.close()

    def read(self) -> None:
        self.text = self.reading.read().decode()


@cache
def _server() -> _Server:
    started = _Server()
    atexit.register(started.stop)
    return started


def serve(calls: socket.socket) -> None:
    """Fork for each call; write the process's number to the call's fourth file, and its exit status once it ends."""
    import_everything()
    gc.collect()
    gc.freeze()
    with selectors.DefaultSelector() as selector:
        selector.register(calls, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is not calls:
                    selector.unregister(key.fileobj)
                    _report(key.fd, *key.data)
                elif (started := _fork(calls)) is None:
                    return
                else:
                    selector.register(os.pidfd_open(started[0]), selectors.EVENT_READ, started)


def import_everything() -> None:
    """Import what the program may need, so that forks of this process have it."""
    package = importlib.import_module("auditor")
    for module in pkgutil.walk_packages(package.__path__, "auditor."):
        if module.name not in _RARE:
            importlib.import_module(module.name)
    for name in _LAZY:
        importlib.import_module(name)
    http._context((), (), skip_verify=False)  # the system's authorities, which take as long to read as all of the rest


def _fork(calls: socket.socket) -> tuple[int, int] | None:
    message, files, _, _ = socket.recv_fds(calls, _LARGEST, 4)
    if not message:
        return None
    *streams, answer = files
    pid = os.fork()
    if pid == 0:
        _become(json.loads(message), streams)
    for each in streams:
        os.close(each)
    os.write(answer, f"{pid}\n".encode())
    return pid, answer


def _report(handle: int, pid: int, answer: int) -> None:
    os.close(handle)
    _, status = os.waitpid(pid, 0)
    os.write(answer, f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os.close(answer)


def _become(call: dict[str, Any], streams: Sequence[int]) -> NoReturn:
    """Be the program, or the watchdog: what Python does after its own start."""
    try:
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        os.environ.clear()
        # The program sets it before it imports gRPC, which reads it when its first channel is opened.
        os.environ.update({"GRPC_VERBOSITY": "NONE", **call["env"]})
        if call.get("watchdog"):
            os.setsid()
            os.chdir("/")
            os._exit(repair_watchdog.main(call["arguments"]))
        sys.argv[1:] = call["arguments"]
        runpy.run_module("auditor", run_name="__main__", alter_sys=True)
    finally:
        os._exit(70)


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])))
