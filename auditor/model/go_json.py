"""The object keys of a JSON document as Go's encoding/json reads them, by which containerd decides what it holds.

A key matches a field exactly, or else without regard to case. Each occurrence of a key is decoded on top of the
earlier ones: objects and lists are merged, `null` changes no string, number or embedded object. Every wrong type is an
error, also one that a later occurrence replaces or removes.
Source: Go src/encoding/json/decode.go (`object`, `array`, `literalStore`) and fold.go.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from itertools import chain, repeat
from typing import Final

import msgspec
from msgspec import inspect

from auditor.model.oci_json import fold

#: An object: its keys and values in their order, repeated keys too. A tuple, since lists are JSON arrays.
_Pairs = tuple[tuple[str, object], ...]
#: The value of a field that did not occur.
_ABSENT: Final = object()
_SCALARS: Final[Mapping[type[inspect.Type], tuple[type, ...]]] = {
    inspect.StrType: (str,),
    inspect.CustomType: (str,),
    inspect.BytesType: (str,),
    inspect.IntType: (int,),
    inspect.BoolType: (bool,),
    inspect.ListType: (list,),
    inspect.StructType: (tuple,),
    inspect.DictType: (tuple,),
}
#: What `null` makes empty; it changes no other value.
_EMPTIED: Final = (inspect.BytesType, inspect.DictType, inspect.ListType)


def as_go_reads(text: str, kind: type[msgspec.Struct], *, pointers: frozenset[str]) -> bytes:
    """Return a document with each known field once, under its own name, and no others.

    Args:
        text: The document.
        kind: The structure that it is decoded to.
        pointers: The fields of objects that `null` removes; other objects stay as they are.

    Raises:
        ValueError: The text is not JSON, or a value has another type than its field.
        RecursionError: It is nested too deeply.

    """
    found = json.loads(text, object_pairs_hook=tuple, parse_constant=_refuse)
    return json.dumps(_merged("the document", inspect.type_info(kind), None, found, pointers)).encode()


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def _merged(name: str, kind: inspect.Type, old: object, new: object, pointers: frozenset[str]) -> object:
    """Return the value of a field after another occurrence of its key."""
    kind = _without_null(kind)
    wanted = _SCALARS.get(type(kind))
    if wanted is None:
        return _plain(new)
    if new is None:
        return None if name in pointers or isinstance(kind, _EMPTIED) else old
    if not isinstance(new, wanted) or (isinstance(new, bool) and bool not in wanted):
        raise ValueError(f"{name} has a wrong type")
    match kind, new:
        case inspect.StructType(), tuple():
            return _struct(kind, old if isinstance(old, dict) else {}, new, pointers)
        case inspect.DictType(), tuple():
            merged = dict(old) if isinstance(old, dict) else {}
            for key, value in new:
                merged[key] = _merged(name, kind.value_type, None, value, pointers)
            return merged
        case inspect.ListType(), list():
            before = chain(old if isinstance(old, list) else [], repeat(None))
            return [_merged(name, kind.item_type, a, b, pointers) for a, b in zip(before, new, strict=False)]
    return new


def _struct(
    kind: inspect.StructType, old: dict[str, object], new: _Pairs, pointers: frozenset[str]
) -> dict[str, object]:
    fields = _fields(kind.cls)
    merged = dict(old)
    for key, value in new:
        field = fields.get(fold(key))
        if field is None:
            continue
        name = field.encode_name
        result = _merged(name, field.type, merged.get(name, _ABSENT), value, pointers)
        if result is not _ABSENT:
            merged[name] = result
    return merged


@cache
def _fields(kind: type) -> dict[str, inspect.Field]:
    """Return the fields of a structure by their folded names, of which no two are equal."""
    info = inspect.type_info(kind)
    found = info.fields if isinstance(info, inspect.StructType) else ()
    return {fold(field.encode_name): field for field in found}


def _without_null(kind: inspect.Type) -> inspect.Type:
    if not isinstance(kind, inspect.UnionType):
        return kind
    return next(each for each in kind.types if not isinstance(each, inspect.NoneType))


def _plain(value: object) -> object:
    """Return a value that is no field of a structure, with its objects as dictionaries."""
    if isinstance(value, tuple):
        return {key: _plain(each) for key, each in value}
    return [_plain(each) for each in value] if isinstance(value, list) else value
