"""The program: run a command, print errors, map them to exit statuses."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from auditor.cli.arguments import read
from auditor.cli.output import print_error, print_message
from auditor.cli.signals import INTERRUPTED, TERMINATED, Handlers, Terminated, prompt_signals
from auditor.errors import AuditorError, ExportRefused, UsageError

REFUSED = 1
USAGE = 2
COULD_NOT = 3

_INSTALL = "install it again; if that does not help, check its disk (dmesg)"
#: Set by a shell that asks typer for completions.
_COMPLETION = "_AUDITOR_COMPLETE"
#: In the order of `--help`. Each is a module of `cli.commands` with a function of that name, or a typer `app`.
COMMANDS = (
    "check",
    "watch",
    "scrub",
    "repair",
    "tree",
    "export",
    "recover",
    "verify",
    "diagnose",
    "rules",
    "report",
    "fleet",
    "quarantine",
    "health",
)


def main(arguments: Sequence[str] | None = None, *, ends: bool = False) -> int:
    """Run a command line and return its exit status; raises nothing, except with AUDITOR_DEBUG.

    Args:
        arguments: The words after the name of the program; those of the process by default.
        ends: The process ends afterwards: a signal after the command ends it at once.

    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    handlers = Handlers(ends=ends)
    try:
        status = _run(given, handlers)
    except Terminated:
        status = TERMINATED
    except KeyboardInterrupt:
        status = INTERRUPTED
    handlers.over = handlers.ends  # before any call, in which another signal could be raised
    if status in (INTERRUPTED, TERMINATED):
        print_message("auditor: interrupted")
    return status


def _run(given: list[str], handlers: Handlers) -> int:
    # The protocols of `health` have other statuses for invalid usage and for failures.
    usage, could_not = _unanswered(given) or (USAGE, COULD_NOT)
    try:
        with prompt_signals(handlers):
            result = _dispatch(given)
            sys.stdout.flush()
        if not given:
            return USAGE
    except ExportRefused as error:
        print_error(error)
        return REFUSED
    except AuditorError as error:
        print_error(error)
        return usage if isinstance(error, UsageError) else could_not
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        print_message("auditor: the reader of the output ended early")
        return could_not
    except Exception as error:
        if _aborted(error):
            return INTERRUPTED
        # An extension module whose initialization a second signal interrupts raises ImportError instead.
        if handlers.raised is not None:
            raise handlers.raised from error
        if os.environ.get("AUDITOR_DEBUG"):
            raise
        _print_unexpected(error)
        return could_not
    return result if isinstance(result, int) else 0


def _print_unexpected(error: Exception) -> None:
    if _not_loaded(error):
        print_error(AuditorError(f"a part of the program cannot be loaded: {error}", hint=_INSTALL))
    elif isinstance(error, OSError):
        print_error(_refusal(error))
    else:
        print_message(f"auditor: a bug in auditor itself: {type(error).__name__}: {error}")
        print_message("hint: please report it; AUDITOR_DEBUG=1 shows where it happened")


def _not_loaded(error: Exception) -> bool:
    """Whether a module is missing, damaged or cannot be read; Python itself reports such errors of the disk."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    inside = trace is not None and trace.tb_frame.f_code.co_filename.startswith("<frozen importlib")
    # Python 3.11.2 raises ValueError for NUL in a source file, from outside of the import system.
    null = isinstance(error, ValueError) and str(error) == "source code string cannot contain null bytes"
    return inside or null or isinstance(error, ImportError | SyntaxError)


def _refusal(error: OSError) -> AuditorError:
    """The error to print where the system refused an operation that no command expects to fail."""
    words = error.strerror or str(error)
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return AuditorError(f"the output could not be written: {words}")
    what = "the system" if error.filename is None else os.fsdecode(error.filename)
    return AuditorError(
        f"{what}: {words}", hint="check the path, its mode and its disk; AUDITOR_DEBUG=1 shows where it happened"
    )


def _unanswered(given: Sequence[str]) -> tuple[int, int] | None:
    """The exit statuses of invalid usage and of a failure for `health`: unknown in the protocol asked for."""
    if given[:1] != ["health"]:
        return None
    return (3, 3) if given[1:2] == ["nagios"] else (2, 2)


def _command(given: Sequence[str]) -> str:
    """The command to name in a hint."""
    return f"auditor {given[0]}" if given and given[0] in COMMANDS else "auditor"


def _dispatch(given: Sequence[str]) -> object:
    """Run the command that is given, by typer where the command line is not plain."""
    commands = _modules(given[:1] if given and given[0] in COMMANDS else COMMANDS)
    if len(commands) == 1 and _COMPLETION not in os.environ:
        command = getattr(commands[given[0]], given[0], None)
        plain = read(command, given[1:], os.environ) if command is not None else None
        if command is not None and plain is not None:
            return command(**plain)
    from auditor.cli import program

    return program.run(commands, list(given) or ["--help"], command=_command(given))


def _modules(names: Sequence[str]) -> dict[str, ModuleType]:
    return {name: importlib.import_module(f"auditor.cli.commands.{name}") for name in names}


def _aborted(error: Exception) -> bool:
    """Whether typer reports that a question was not answered."""
    typer = sys.modules.get("typer")
    return typer is not None and isinstance(error, typer.Abort)
