"""Import gRPC without the modules that are not used here: a quarter of the start of a command that calls a daemon.

`grpc` imports `grpc.aio`, and its compiled core imports asyncio, with ssl, and inspect, all only for `grpc.aio`;
pkgutil reads root certificates, which a Unix socket does not need. What gRPC logs are tracebacks of errors that it also
raises.
"""

from __future__ import annotations

import importlib
import os
from typing import Any, Self

from auditor.containerd import protobuf_import  # noqa: F401 - before gRPC imports protobuf
from auditor.import_stand_ins import stand_ins

#: Modules that synchronous calls do not use.
UNUSED = ("asyncio", "copy", "socket", "grpc.aio", "inspect", "pkgutil", "traceback")
#: Modules whose names gRPC only binds, or uses in annotations: types, and experimental calls without a channel.
BOUND = ("grpc._simple_stubs", "grpc._typing")
#: What imports them.
_IMPORTERS = ("grpc", "grpc._channel", "grpc._utilities")


class _Silent:
    """Takes the place of logging: has every function, each of which does nothing."""

    def __getattr__(self, name: str) -> Self:
        return self

    def __call__(self, *_: object, **__: object) -> Self:
        return self


class _Names:
    """Has every name that is not private; its value is of no meaning."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        return Any


def _import_grpc() -> None:
    # gRPC's core reads this when it is imported; without it, it writes to stderr by itself when a daemon goes away.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with stand_ins(*UNUSED, logging=_Silent(), **dict.fromkeys(BOUND, _Names())):
        for name in _IMPORTERS:
            importlib.import_module(name)


_import_grpc()

import grpc  # noqa: E402 - without the unused modules

__all__ = ["grpc"]
