"""Build the typer program from the declared commands: parses what `arguments.read` leaves, writes help and errors."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Annotated

import typer
from typer.exceptions import TyperException

from auditor.cli.arguments import Option, Parameter, parameters
from auditor.cli.help import SETTINGS, HelpCommand, HelpGroup
from auditor.errors import UsageError
from auditor.version import __version__


def program(commands: Mapping[str, ModuleType]) -> typer.Typer:
    """The program with these commands.

    Args:
        commands: Modules by command name. Each has a function of that name, or an `app` with commands of its own.

    """
    app = typer.Typer(
        name="auditor",
        help="fsck for containerd: audit every image, name the cause of every fault, repair it.",
        cls=HelpGroup,
        context_settings=SETTINGS,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_main)
    for name, module in commands.items():
        if hasattr(module, "app"):
            app.add_typer(_with_help(module.app), cls=HelpGroup, context_settings=SETTINGS)
        else:
            make = app.command(cls=HelpCommand, context_settings=SETTINGS, epilog=getattr(module, "EXAMPLES", None))
            make(annotated(getattr(module, name)))
    return app


def _with_help(app: typer.Typer) -> typer.Typer:
    for command in app.registered_commands:
        command.cls, command.context_settings = HelpCommand, SETTINGS
    return app


def run(commands: Mapping[str, ModuleType], words: list[str], *, command: str) -> object:
    """Parse `words` and run the command that they name.

    Args:
        commands: Modules by command name.
        words: The command line after the name of the program.
        command: The command to name in a hint when typer reports an error without its context.

    Raises:
        UsageError: The command line is not valid.
        typer.Abort: A question was not answered.
        BrokenPipeError: The reader of the output ended early.

    """
    try:
        return program(commands)(args=words, prog_name="auditor", standalone_mode=False)
    except SystemExit:  # typer's answer to EPIPE, with the status of findings
        raise BrokenPipeError from None
    except TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else command
        text, near = _answer(error)
        hint = f"did you mean {' or '.join(near)}?" if near else f"{path} --help lists what it takes"
        raise UsageError(text, hint=hint) from None


def annotated(command: Callable[..., int]) -> Callable[..., int]:
    """A copy of a command with the annotations that typer knows."""
    assert isinstance(command, FunctionType)
    copy = FunctionType(command.__code__, command.__globals__, command.__name__, command.__defaults__)
    copy.__doc__ = command.__doc__
    copy.__annotations__ = {name: _annotation(each) for name, each in parameters(command).items()} | {"return": int}
    return copy


def _annotation(parameter: Parameter) -> object:
    make: Callable[..., object] = typer.Option if isinstance(parameter.declaration, Option) else typer.Argument
    return Annotated[parameter.hint, make(*parameter.declaration.flags, **parameter.declaration.settings)]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"auditor {__version__}")
        raise typer.Exit


def _main(version: bool = typer.Option(False, "--version", callback=_version, help="Print the version.")) -> None:
    """Fsck for containerd: audit every image, name the cause of every fault, repair it."""


#: The texts of typer about an unknown word, and how they list the words that it knows.
_UNKNOWN = (
    re.compile(r"(?P<text>No such option: (?P<word>\S+)) \(Possible options: (?P<known>.*)\)"),
    re.compile(r"(?P<text>No such command '(?P<word>.*)')\. Did you mean (?P<known>.*)\?"),
    re.compile(r"(?P<text>.*: '(?P<word>.*)' is not one of (?P<known>.*))"),
)


def _answer(error: TyperException) -> tuple[str, list[str]]:
    """The sentence of an error, and the words that are spelled almost like an unknown one."""
    text = error.format_message().strip().rstrip(".") or "nothing was asked for"
    text = text.replace("a valid int range", "a whole number").replace("<=x<=", " to ")
    for known in _UNKNOWN:
        found = known.fullmatch(text)
        if found:
            words = found["known"].replace("'", "").split(", ")
            return found["text"], difflib.get_close_matches(found["word"], words, cutoff=0.75)
    return text, []
