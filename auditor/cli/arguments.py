"""Declare the parameters of commands, and read plain command lines without typer.

Importing typer and building a command from its functions takes as long as checking some hundred images. A command line
of known flags and plain values does not need it. Everything else is left to typer: help, errors, environment variables,
numbers, combined short flags.
"""

from __future__ import annotations

import enum
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, get_args, get_type_hints


class Option:
    """An option of a command: its flags, and keyword arguments of `typer.Option`.

    `group` is the title under which `--help` lists it; without one, it is among the command's own options.
    """

    def __init__(self, *flags: str, group: str = "", **settings: object) -> None:
        self.flags = flags
        self.settings = settings | ({"rich_help_panel": group} if group else {})


class Argument:
    """A positional argument of a command: keyword arguments of `typer.Argument`."""

    flags = ()

    def __init__(self, **settings: object) -> None:
        self.settings = settings


class Parameter(NamedTuple):
    """A parameter of a command: its whole type, the type of one value, and the declaration."""

    hint: object
    item: object
    many: bool
    declaration: Option | Argument

    @property
    def from_environment(self) -> str:
        """The environment variable that sets it; empty for none."""
        return str(self.declaration.settings.get("envvar", ""))


def parameters(command: Callable[..., int]) -> dict[str, Parameter]:
    """The parameters of a command by name, as its annotations declare them."""
    hints = get_type_hints(command, include_extras=True)
    return {name: _parameter(*get_args(hint)) for name, hint in hints.items() if name != "return"}


def _parameter(hint: object, declaration: Option | Argument) -> Parameter:
    kind = get_args(hint)[0] if isinstance(hint, types.UnionType) else hint  # `T | None`
    many = isinstance(kind, types.GenericAlias)
    return Parameter(hint, get_args(kind)[0] if many else kind, many, declaration)


def read(command: Callable[..., int], words: Sequence[str], environ: Mapping[str, str]) -> dict[str, object] | None:
    """Read the words after the name of a command.

    Returns:
        The keyword arguments to call `command` with, or None if typer has to read the words.

    """
    known = parameters(command)
    if any(environ.get(parameter.from_environment) for parameter in known.values()):
        return None
    flags = {_first(flag): name for name, parameter in known.items() for flag in parameter.declaration.flags}
    positional = next((name for name, each in known.items() if isinstance(each.declaration, Argument)), "")
    given: dict[str, object] = {}
    rest = iter(words)
    for word in rest:
        name, text = _option(word, flags) if word.startswith("-") else (positional, word)
        if name not in known or (name == positional and name in given and not known[name].many):
            return None
        value = _value(known[name], rest, text)
        if value is None:
            return None
        given[name] = [*_list(given.get(name)), value] if known[name].many else value
    required = list(known)[: len(known) - len(command.__defaults__ or ())]
    return given if given.keys() >= set(required) else None


def _first(flag: str) -> str:
    """Return the flag that sets, of a pair such as `--digest/--no-digest`; the other one is left to typer."""
    return flag.partition("/")[0]


def _option(word: str, flags: Mapping[str, str]) -> tuple[str, str | None]:
    """Split `--name=text` into parameter and text; no text if the next word may be the value."""
    flag, equals, text = word.partition("=") if word.startswith("--") else (word, "", "")
    return flags.get(flag, ""), text if equals else None


def _value(parameter: Parameter, rest: Iterator[str], text: str | None) -> object:
    """Convert `text`, or the next word; None for what typer has to judge."""
    kind = parameter.item
    if kind is bool:
        return True if text is None else None
    text = next(rest, "") if text is None else text
    if not text or text.startswith("-"):
        return None
    if kind is str:
        return text
    if kind is Path:
        return Path(text)
    if isinstance(kind, type) and issubclass(kind, enum.StrEnum):
        return next((member for member in kind if member == text), None)
    return None


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
