"""The program: the commands, and the one place where errors become sentences and exit statuses."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import typer
from typer.exceptions import TyperException

from auditor.cli.output import complain, say
from auditor.cli.signals import Terminated, hearing
from auditor.errors import AuditorError, ExportRefused, UsageError
from auditor.version import __version__

REFUSED = 1
USAGE = 2
COULD_NOT = 3
INTERRUPTED = 130
TERMINATED = 143

#: In the order of `--help`. Each is a function of its name, or an `app` of its own, in a module of its name.
COMMANDS = ("check", "scrub", "repair", "tree", "export", "verify", "diagnose", "rules", "report", "health")


def program(given: Sequence[str]) -> typer.Typer:
    """The program with the command that is given, or with all where none is: each takes a while to be put together."""
    app = typer.Typer(
        name="auditor",
        help="fsck for containerd: audit every image, name the cause of every fault, prove it.",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_main)
    for name in given[:1] if given and given[0] in COMMANDS else COMMANDS:
        module = importlib.import_module(f"auditor.cli.commands.{name}")
        if hasattr(module, "app"):
            app.add_typer(module.app)
        else:
            app.command()(getattr(module, name))
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"auditor {__version__}")
        raise typer.Exit


def _main(version: bool = typer.Option(False, "--version", callback=_version, help="Print the version.")) -> None:
    """Fsck for containerd: audit every image, name the cause of every fault, prove it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status; no exception leaves this function."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with hearing():
            status = _run(given)
    except (Terminated, KeyboardInterrupt) as error:
        status = TERMINATED if isinstance(error, Terminated) else INTERRUPTED
    if status in (INTERRUPTED, TERMINATED):
        say("auditor: interrupted")
    return status


def _run(given: list[str]) -> int:
    # The protocols of `health` have numbers of their own for a question that cannot be answered.
    usage, could_not = _unanswered(given) or (USAGE, COULD_NOT)
    try:
        result = program(given)(args=given or ["--help"], prog_name="auditor", standalone_mode=False)
        sys.stdout.flush()
        if not given:
            return USAGE
    except ExportRefused as error:
        complain(error)
        return REFUSED
    except AuditorError as error:
        complain(error)
        return usage if isinstance(error, UsageError) else could_not
    except TyperException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else _command(given)
        complain(UsageError(_sentence(error.format_message()), hint=f"{command} --help lists what it takes"))
        return usage
    except typer.Abort:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        say("auditor: whatever read the output ended early")
        return could_not
    except Exception as error:
        if os.environ.get("AUDITOR_DEBUG"):
            raise
        say(f"auditor: a bug in auditor itself: {type(error).__name__}: {error}")
        say("hint: please report it; AUDITOR_DEBUG=1 shows where it happened")
        return could_not
    return result if isinstance(result, int) else 0


def _unanswered(given: Sequence[str]) -> tuple[int, int] | None:
    """What wrong usage and a failure of ours are in the protocol of `health` that is asked for: its unknown."""
    if given[:1] != ["health"]:
        return None
    return (3, 3) if given[1:2] == ["nagios"] else (2, 2)


def _command(given: Sequence[str]) -> str:
    """The command that was meant, for a hint; some errors come without it."""
    return f"auditor {given[0]}" if given and given[0] in COMMANDS else "auditor"


def _sentence(text: str) -> str:
    return text.strip().rstrip(".") or "nothing was asked for"
