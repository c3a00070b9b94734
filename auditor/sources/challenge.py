"""The `WWW-Authenticate` header: what a server wants to see, by RFC 9110 section 11 and RFC 6750 section 3."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - RFC 9110's word for a word
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))', re.ASCII | re.DOTALL)
_SCHEME = re.compile(rf"({_TOKEN})(?:[ \t]+|(?=,)|\Z)", re.ASCII)
_SEPARATOR = re.compile(r"[ \t,]*", re.ASCII)
#: A header longer than this is not parsed further.
_MAX_LENGTH = 8192


@dataclass(frozen=True)
class Challenge:
    """One challenge: the scheme in lower case, its parameters under lower-case names."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Read all challenges of all such headers; what cannot be understood ends its header."""
    return tuple(challenge for header in headers for challenge in _parse(header[:_MAX_LENGTH]))


def _parse(header: str) -> list[Challenge]:
    found: list[Challenge] = []
    at = _skip(header, 0)
    while match := _SCHEME.match(header, at):
        parameters, at = _parameters(header, match.end())
        found.append(Challenge(match[1].lower(), parameters))
    return found


def _parameters(header: str, at: int) -> tuple[dict[str, str], int]:
    parameters: dict[str, str] = {}
    at = _skip(header, at)
    while match := _PARAMETER.match(header, at):
        quoted, bare = match[2], match[3]
        parameters[match[1].lower()] = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
        at = _skip(header, match.end())
    return parameters, at


def _skip(header: str, at: int) -> int:
    match = _SEPARATOR.match(header, at)
    return match.end() if match else at
