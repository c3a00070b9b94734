"""The text of `--help`: usage, options in groups with defaults and environment variables, examples; 80 columns."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeAlias

from typer import Context
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from auditor.errors import UsageError

Command: TypeAlias = TyperCommand | TyperGroup
Parameter: TypeAlias = TyperArgument | TyperOption
Section: TypeAlias = tuple[str, list[Parameter]]
#: Titles of the arguments, and of the options without a group.
ARGUMENTS, OWN = "Arguments", "Options"
#: Titles of the groups that several commands share; they follow the others, in this order.
SHARED = ("Selection", "Reading", "Sources", "Store", "Output")
#: Settings of every command: a short flag for help.
SETTINGS = {"help_option_names": ["-h", "--help"]}
#: Longest words beside which an explanation begins.
_BESIDE = 26


class _Formatter(Protocol):
    """The part of click's formatter that is used here; typer has click as a private module."""

    width: int

    def write(self, string: str) -> None: ...


class HelpCommand(TyperCommand):
    """A command whose `--help` is `page`; `epilog` holds its examples, one a line."""

    def format_help(self, ctx: Context, formatter: _Formatter) -> None:  # type: ignore[override]
        """Write the page."""
        formatter.write(page(self, ctx, formatter.width))

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse the words. Raises UsageError for an empty value: with an unset variable, the default would be taken."""
        given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
        for option in self.params:
            value = given.get(option.name or "")
            if isinstance(option, TyperOption) and "" in (value if isinstance(value, list) else [value]):
                raise UsageError(f"the value of {names(option)[-1]} is empty", hint="give one, or leave the option out")
        return super().parse_args(ctx, args)


class HelpGroup(TyperGroup):
    """A command with commands of its own, whose `--help` is `page`."""

    def format_help(self, ctx: Context, formatter: _Formatter) -> None:  # type: ignore[override]
        """Write the page."""
        formatter.write(page(self, ctx, formatter.width))


def page(command: Command, ctx: Context, width: int) -> str:
    """The help of a command, at most `width` columns wide."""
    parts = [f"Usage: {' '.join((ctx.command_path, *usage(command)))}"]
    parts += [_filled(paragraph, width, "  ") for paragraph in paragraphs(command.help or "")]
    if isinstance(command, TyperGroup):
        parts.append(
            _listed("Commands", ((name, summary(each.help or "")) for name, each in command.commands.items()), width)
        )
    for title, found in sections(command, ctx):
        parts.append(_listed(title, ((flags(each), explained(each)) for each in found), width))
    if command.epilog:
        parts.append("Examples:\n" + textwrap.indent(command.epilog, "  "))
    return "\n\n".join(parts) + "\n"


def usage(command: Command) -> Iterator[str]:
    """The words after the name of a command."""
    yield "[OPTIONS]"
    if isinstance(command, TyperGroup):
        yield "COMMAND ..."
    for each in command.params:
        if isinstance(each, TyperArgument):
            yield metavar(each) if each.required else f"[{metavar(each)}]"


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a description, their lines joined."""
    return [" ".join(part.split()) for part in text.split("\n\n")]


def summary(text: str) -> str:
    """The first clause of a description."""
    return paragraphs(text)[0].split(". ")[0].split(": ")[0].split("; ")[0].rstrip(".")


def sections(command: Command, ctx: Context) -> Iterator[Section]:
    """The parameters of a command by the title of their group, in the order of the page."""
    by: dict[str, list[Parameter]] = {ARGUMENTS: [], OWN: []}
    for each in command.get_params(ctx):
        if isinstance(each, TyperArgument):
            by[ARGUMENTS].append(each)
        elif isinstance(each, TyperOption) and not each.hidden:
            by.setdefault(each.rich_help_panel or OWN, []).append(each)
    titles = (*(title for title in by if title not in SHARED), *SHARED)
    yield from ((title, by[title]) for title in titles if by.get(title))


def metavar(parameter: Parameter) -> str:
    """The word that stands for a value; with `...` for an argument that may be repeated; empty for a flag."""
    if isinstance(parameter, TyperArgument):
        return f"{parameter.human_readable_name}{'...' if parameter.nargs != 1 else ''}"
    if parameter.is_flag:
        return ""
    return parameter.metavar or max(parameter.opts, key=len).lstrip("-").upper()


def flags(parameter: Parameter) -> str:
    """An option's flags, the short one first, and its value; an argument's name."""
    if isinstance(parameter, TyperArgument):
        return metavar(parameter)
    return f"{', '.join(names(parameter))} {metavar(parameter)}".rstrip()


def names(option: Parameter) -> list[str]:
    """The flags of an option, the short one first."""
    return sorted([*option.opts, *option.secondary_opts], key=lambda flag: (flag.startswith("--"), flag))


def explained(parameter: Parameter) -> str:
    """The help of a parameter with its values, range, default and environment variable."""
    text = (parameter.help or "").rstrip(".")
    values = choices(parameter)
    words = f": {', '.join(values[:-1])} or {values[-1]}" if values else ""
    return " ".join((f"{text}{words}.", *_notes(parameter)))


def choices(parameter: Parameter) -> tuple[str, ...]:
    """The words that a parameter takes; empty if it takes others."""
    return tuple(str(getattr(word, "value", word)) for word in getattr(parameter.type, "choices", ()))


def _notes(parameter: Parameter) -> Iterator[str]:
    lowest, highest = getattr(parameter.type, "min", None), getattr(parameter.type, "max", None)
    if lowest is not None:
        yield f"[{lowest} to {highest}]" if highest is not None else f"[at least {lowest}]"
    if isinstance(parameter.show_default, str):
        yield f"[default: {parameter.show_default}]"
    elif parameter.show_default and parameter.default not in (None, False, True):
        yield f"[default: {getattr(parameter.default, 'value', parameter.default)}]"
    if parameter.envvar:
        yield f"[env: {parameter.envvar}]"


def _listed(title: str, rows: Iterable[tuple[str, str]], width: int) -> str:
    """A section: each row's words on the left, its explanation beside or below them."""
    rows = list(rows)
    column = min(max(len(left) for left, _ in rows), _BESIDE)
    lines = [f"{title}:"]
    for left, right in rows:
        text = _filled(right, width, " " * (column + 4))
        fits = len(left) <= column
        lines.append(f"  {left:{column}}  {text.lstrip()}" if fits else f"  {left}\n{text}")
    return "\n".join(lines)


def _filled(text: str, width: int, indent: str) -> str:
    """Wrapped text; words are not broken, nor the notes in brackets."""
    kept = re.sub(r"\[[^]]*\]", lambda note: note[0].replace(" ", "\0"), text)
    filled = textwrap.fill(
        kept, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
    return filled.replace("\0", " ")
