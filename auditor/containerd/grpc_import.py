"""Import gRPC and protobuf without the modules that are not used here: a quarter of the start of a check.

`grpc` imports `grpc.aio`, and its compiled core imports asyncio, with ssl, and inspect, all only for `grpc.aio`;
pkgutil reads root certificates, which a Unix socket does not need. logging imports traceback to format exceptions.
protobuf imports its implementation in Python beside the compiled one, and calendar, which imports locale, to set
timestamps from datetimes.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from auditor.import_stand_ins import stand_ins

#: Modules that synchronous calls and the compiled protobuf do not use.
UNUSED = (
    "asyncio",
    "copy",
    "socket",
    "grpc.aio",
    "inspect",
    "pkgutil",
    "traceback",
    "google.protobuf.descriptor_database",
    "google.protobuf.internal.python_edition_defaults",
    "google.protobuf.internal.python_message",
    "google.protobuf.text_encoding",
    "calendar",
)


#: Modules whose names gRPC only binds, or uses in annotations: types, and experimental calls without a channel.
BOUND = ("grpc._simple_stubs", "grpc._typing")
#: What imports them.
_IMPORTERS = (
    "grpc",
    "grpc._channel",
    "grpc._utilities",
    "google.protobuf.internal.builder",
    "google.protobuf.internal.well_known_types",
)


class _Names:
    """Has every name that is not private; its value is of no meaning."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        return Any


def import_grpc() -> None:
    """Import gRPC and protobuf without the unused modules."""
    # gRPC's core reads this when it is imported; without it, it writes to stderr by itself when a daemon goes away.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    with stand_ins(*UNUSED, **dict.fromkeys(BOUND, _Names())):
        for name in _IMPORTERS:
            importlib.import_module(name)


import_grpc()
