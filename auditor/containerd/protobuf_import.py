"""Import protobuf without the modules that are not used here.

protobuf imports its implementation in Python beside the compiled one, and calendar, which imports locale, to set
timestamps from datetimes.
"""

from __future__ import annotations

import importlib

from auditor.import_stand_ins import stand_ins

#: Modules that the compiled protobuf does not use.
UNUSED = (
    "calendar",
    "copy",
    "inspect",
    "google.protobuf.descriptor_database",
    "google.protobuf.internal.python_edition_defaults",
    "google.protobuf.internal.python_message",
    "google.protobuf.text_encoding",
)
#: What imports them.
_IMPORTERS = ("google.protobuf.internal.builder", "google.protobuf.internal.well_known_types")


def _import_protobuf() -> None:
    with stand_ins(*UNUSED):
        for name in _IMPORTERS:
            importlib.import_module(name)


_import_protobuf()

from google.protobuf.empty_pb2 import Empty  # noqa: E402 - without the unused modules
from google.protobuf.field_mask_pb2 import FieldMask  # noqa: E402
from google.protobuf.timestamp_pb2 import Timestamp  # noqa: E402

__all__ = ["Empty", "FieldMask", "Timestamp"]
