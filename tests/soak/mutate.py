"""Change valid inputs a little, by their structure: JSON values, lists, bytes, tar members."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, MutableMapping, MutableSequence
from typing import Any, Final

#: Values that parsers, formats and terminals may take badly.
VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    0,
    -1,
    2**31,
    2**63,
    2**64,
    -(2**63) - 1,
    1e308,
    -0.0,
    "",
    " ",
    "\x00",
    "\x1b]0;owned\x07\x1b[2J",
    "\x9b31m",
    "\ud800",
    "a\r\nb\u2028c\u202ed\u200be\ufeff",
    "../../../etc/passwd",
    "-rf",
    "--help",
    "<script>alert(1)</script>",
    "`x` | y [z](javascript:1)",
    "sha256:" + "0" * 64,
    "sha256:" + "A" * 64,
    "sha512:" + "0" * 128,
    "x" * 70_000,
    "é漢字🚢" * 50,
    "9999-99-99T99:99:99Z",
    "0001-01-01T00:00:00Z",
    [],
    {},
    [None],
    [[[[[[]]]]]],
    {"": None},
    {"digest": 1},
)


def json_value(value: Any, chance: random.Random, *, changes: int = 1) -> Any:
    """Return a copy of a JSON value with some of its parts replaced, deleted, doubled or moved."""
    made = {"": copy.deepcopy(value)}
    for _ in range(changes):
        places = list(_places(made))
        if not places:
            break
        holder, key = chance.choice(places)
        _change(holder, key, chance, places)
    return made.get("")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container with each of its keys."""
    if isinstance(value, (dict, list)):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys:
            yield value, key
            yield from _places(value[key])


def _change(
    holder: MutableMapping[Any, Any] | MutableSequence[Any], key: Any, chance: random.Random, places: list[Any]
) -> None:
    kind = chance.randrange(6)
    if kind == 0:
        del holder[key]
    elif kind == 1:
        other, place = chance.choice(places)
        holder[key] = copy.deepcopy(other[place])
    elif kind == 2 and isinstance(holder[key], str):
        holder[key] = text(holder[key], chance)
    elif kind == 3 and isinstance(holder, MutableMapping):
        holder[text(str(key), chance)] = holder[key]
    elif kind == 4 and isinstance(holder, MutableSequence):
        holder.extend(copy.deepcopy([holder[key]] * chance.choice((1, 2, 300))))
    else:
        holder[key] = copy.deepcopy(chance.choice(VALUES))


def text(value: str, chance: random.Random) -> str:
    """Return a text with a part replaced or repeated."""
    start = chance.randrange(len(value) + 1)
    end = min(len(value), start + chance.choice((0, 1, 8)))
    other = chance.choice([part for part in VALUES if isinstance(part, str)] + [value * 3, value[start:]])
    return value[:start] + other + value[end:]


def json_bytes(value: Any, chance: random.Random) -> bytes:
    """Return JSON; now and then deep, long, with a byte order mark, a doubled key or bytes that are not UTF-8."""
    raw = json.dumps(value, separators=(",", ":")).encode()
    kind = chance.randrange(40)
    if kind == 0:
        return b"[" * 100_000 + raw
    if kind == 1:
        return b"\xef\xbb\xbf" + raw
    if kind == 2:
        return raw.replace(b'"', b'"\xff', 1)
    if kind == 3:
        return raw[:-1] + b"," + raw[1:] if raw.startswith(b"{") else raw
    return raw


def raw_bytes(data: bytes, chance: random.Random) -> bytes:
    """Return bytes with some flipped, cut out, put in, moved or cut off."""
    made = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 3, 20))):
        at = chance.randrange(len(made) + 1)
        length = chance.choice((1, 2, 4, 8, 512, 4096))
        kind = chance.randrange(6)
        if kind <= 1 and at < len(made):
            made[at] ^= 1 << chance.randrange(8)
        elif kind == 2:
            del made[at : at + length]
        elif kind == 3:
            made[at:at] = chance.choice((bytes(length), b"\xff" * length, chance.randbytes(length)))
        elif kind == 4:
            made[at : at + length] = made[: min(length, len(made))]
        elif chance.randrange(4) == 0:
            del made[at:]
    return bytes(made)
