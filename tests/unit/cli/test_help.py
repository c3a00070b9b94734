"""`--help`, the examples in it, the man pages and the completions: from one source, within 80 columns."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from auditor.cli import help as pages
from auditor.cli.app import COMMANDS
from auditor.cli.program import program

ROOT = Path(__file__).resolve().parents[3]
MODULES = {name: import_module(f"auditor.cli.commands.{name}") for name in COMMANDS}
EXAMPLES = [line for module in MODULES.values() for line in getattr(module, "EXAMPLES", "").splitlines()]


def walk(command: pages.Command, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], pages.Command]]:
    yield words, command
    if isinstance(command, TyperGroup):
        for name, each in command.commands.items():
            yield from walk(each, (*words, name))  # type: ignore[arg-type]


ROOT_COMMAND = typer.main.get_command(program(MODULES))
EVERY = dict(walk(ROOT_COMMAND))  # type: ignore[arg-type]


def page(words: tuple[str, ...], width: int = 78) -> str:
    command = EVERY[words]
    ctx = typer.Context(command, info_name=" ".join(("auditor", *words)), **command.context_settings)
    return pages.page(command, ctx, width)


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_a_page_of_help_fits_80_columns_and_breaks_no_word(words: tuple[str, ...]) -> None:
    lines = page(words).splitlines()
    assert [line for line in lines if len(line) > 80] == []
    assert [line for line in lines if re.search(r"\w-$", line)] == []
    assert "…" not in page(words).partition("Examples:")[0]


def test_several_arguments_are_shown_as_such() -> None:
    assert page(("check",)).startswith("Usage: auditor check [OPTIONS] [IMAGE...]\n")
    assert page(("export",)).startswith("Usage: auditor export [OPTIONS] IMAGE...\n")
    assert page(("rules",)).startswith("Usage: auditor rules [OPTIONS] [CODE]\n")


def test_options_are_grouped_with_values_defaults_and_variables() -> None:
    told = " ".join(page(("check",)).split())
    titles = re.findall(r"^(\w+):$", page(("check",)), re.MULTILINE)
    assert titles == [
        "Arguments",
        "Options",
        "Repetition",
        "Readiness",
        "Selection",
        "Reading",
        "Store",
        "Output",
        "Examples",
    ]
    assert "presence, snapshots-quick, digests, layers or snapshots. [default: presence]" in told
    assert "[env: CONTAINERD_ADDRESS]" in told
    assert "[1 to 256]" in told


def test_each_command_is_listed_with_its_first_clause() -> None:
    listed = page(()).partition("Commands:\n")[2].partition("\n\n")[0]
    assert re.findall(r"^  (\w+)  ", listed, re.MULTILINE) == list(COMMANDS)
    assert "..." not in listed


def test_h_is_help() -> None:
    done = subprocess.run([sys.executable, "-m", "auditor", "tree", "-h"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: auditor tree ")


@pytest.mark.parametrize("line", EXAMPLES)
def test_an_example_is_a_valid_command_line(line: str) -> None:
    words = next(part for part in line.split(" | ") if part.startswith("auditor "))
    _, name, *rest = shlex.split(words)
    command = EVERY[name,]
    command.make_context(name, rest)
    assert len(line) <= 76


# Completions, as bash asks for them.


def completed(*words: str) -> list[str]:
    quoted = shlex.join(words)
    script = f"""
        . {shlex.quote(str(ROOT / "deploy" / "completions" / "auditor.bash"))}
        COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _auditor; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["ch"], ["check"]),
        (["check", "--form"], ["--format"]),
        (["check", "--verify", "s"], ["snapshots-quick", "snapshots"]),
        (["check", "--verify", "=", "d"], ["digests"]),
        (["health", "n"], ["nagios", "npd"]),
        (["health", "nagios", "--crit"], ["--critical"]),
        (["verify", "pypr"], ["pyproject.toml"]),
        (["check", "--output", "pypr"], ["pyproject.toml"]),
        (["check", "--namespace", ""], []),
        (["repair", "--from", "a"], ["archive:"]),
    ],
)
def test_bash_completes(words: list[str], found: list[str]) -> None:
    assert completed("auditor", *words) == found


def test_every_command_has_a_man_page() -> None:
    names = {"-".join(("auditor", *words)) for words in EVERY}
    assert {path.stem for path in (ROOT / "docs" / "man").iterdir()} == names
