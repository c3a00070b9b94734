"""gRPC is imported without asyncio and ssl; who uses them gets the real modules."""

from __future__ import annotations

import subprocess
import sys

import pytest

from auditor.containerd import protobuf_import
from auditor.containerd.grpc_import import BOUND, UNUSED

ASYNCHRONOUS = """
import asyncio, grpc
async def call():
    async with grpc.aio.insecure_channel('unix:/none') as channel:
        try:
            await channel.unary_unary('/a/b', lambda m: m, lambda m: m)(b'', timeout=5)
        except grpc.aio.AioRpcError as error:
            return 7 if error.code() is grpc.StatusCode.UNAVAILABLE else error
print(asyncio.run(call()))
"""
TIMESTAMP = """
import datetime
from google.protobuf.timestamp_pb2 import Timestamp
made = Timestamp()
made.FromDatetime(datetime.datetime(1970, 1, 1, 0, 0, 7))
print(made.seconds)
"""
THREADS = """
import threading, grpc._cython.cygrpc as core
found = []
threads = [threading.Thread(target=lambda: found.append(core.asyncio.run)) for _ in range(7)]
[t.start() for t in threads]; [t.join() for t in threads]
print(len(found))
"""


def run(code: str) -> str:
    """Run Python code after the adapter was imported in a process of its own."""
    program = f"import sys\nimport auditor.containerd.channel\n{code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_what_synchronous_calls_do_not_need_is_not_loaded() -> None:
    unused = {*UNUSED, *BOUND, *protobuf_import.UNUSED, "ssl", "logging"} - {"copy", "inspect", "traceback"}
    assert run(f"print(sorted({unused!r} & set(sys.modules)))") == "[]"


def test_protobuf_in_python_works_where_the_compiled_one_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
    code = (
        "from auditor.containerd._proto.content_pb2 import InfoRequest as R\n"
        "from google.protobuf.internal import api_implementation as a\n"
        "print(a.Type(), R.FromString(R(digest='x').SerializeToString()).digest)"
    )
    assert run(code) == "python x"


@pytest.mark.parametrize(
    "code",
    [
        "import logging\nprint(7 if logging.getLogger('grpc').name == 'grpc' else 0)",
        "import asyncio\nasync def f(): return 7\nprint(asyncio.run(f()))",
        "from asyncio import run\nasync def f(): return 7\nprint(run(f()))",
        "import asyncio.events as e, asyncio\nprint(7 if e.AbstractEventLoop is asyncio.AbstractEventLoop else 0)",
        "from grpc.aio import insecure_channel\nprint(7 if insecure_channel else 0)",
        ASYNCHRONOUS,
        "import asyncio\nprint(getattr(asyncio, 'nothing', 7))",
        "import grpc\nprint(7 if grpc.aio.insecure_channel else 0)",
        "import socket\nprint(7 if socket.socketpair() else 0)",
        "import grpc._typing\nprint(7 if grpc._typing.MetadataType else 0)",
        "from grpc._simple_stubs import unary_unary\nprint(7 if unary_unary.__doc__ else 0)",
        "from google.protobuf.text_encoding import CUnescape as c\nprint(int(c('7')))",
        THREADS,
        TIMESTAMP,
    ],
)  # fmt: skip
def test_the_deferred_modules_load_when_they_are_used(code: str) -> None:
    assert run(code) == "7"


def test_modules_that_are_loaded_stay_as_they_are() -> None:
    after = "import auditor.containerd.channel\nprint(sys.modules['asyncio'] is before)"
    code = f"import sys, asyncio\nbefore = asyncio\n{after}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "True\n"
