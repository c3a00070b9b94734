"""Import gRPC and protobuf without the modules that are not used here: a quarter of the start of a check.

`grpc` imports `grpc.aio`, and its compiled core imports asyncio, with ssl, and inspect, all only for `grpc.aio`.
protobuf imports its implementation in Python beside the compiled one, and calendar, which imports locale, to set
timestamps from datetimes. During the imports, stand-ins take their place.
A stand-in forwards every attribute to the real module, which it imports at the first access.
"""

from __future__ import annotations

import importlib
import os
import sys
from types import ModuleType

#: Modules that synchronous calls and the compiled protobuf do not use.
UNUSED = ("asyncio", "grpc.aio", "inspect", "google.protobuf.internal.python_message", "calendar")
#: What imports them.
_IMPORTERS = ("grpc", "google.protobuf.internal.builder", "google.protobuf.internal.well_known_types")


class _StandIn(ModuleType):
    """Forwards to the module of the same name, imported at the first access to an attribute."""

    def __getattr__(self, name: str) -> object:
        _remove(self)
        return getattr(importlib.import_module(self.__name__), name)


def _remove(stand_in: ModuleType) -> None:
    if sys.modules.get(stand_in.__name__) is stand_in:
        del sys.modules[stand_in.__name__]


def import_grpc() -> None:
    """Import gRPC and protobuf; afterwards `sys.modules` holds no stand-in: later imports get the real modules."""
    # gRPC's core reads this when it is imported; without it, it writes to stderr by itself when a daemon goes away.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    stand_ins = [_StandIn(name) for name in UNUSED if name not in sys.modules]
    sys.modules.update({each.__name__: each for each in stand_ins})
    try:
        for name in _IMPORTERS:
            importlib.import_module(name)
    finally:
        for each in stand_ins:
            _remove(each)


import_grpc()
