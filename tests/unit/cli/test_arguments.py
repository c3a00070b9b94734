"""Plain command lines are read as typer reads them; every other one is left to typer."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.exceptions import TyperException

from auditor.cli.app import COMMANDS
from auditor.cli.arguments import parameters, read
from auditor.cli.choices import ReportFormat, Verify
from auditor.cli.commands.check import check
from auditor.cli.program import program

NAMES = [name for name in COMMANDS if name not in ("health", "quarantine")]
VALUES = [
    "",
    "-",
    "--",
    "-1",
    "0",
    "4",
    "1.5",
    "digests",
    "LAYERS",
    "json",
    "table",
    "markdown",
    "none",
    "a",
    "a=b",
    "é",
]


def command(name: str) -> Callable[..., int]:
    found: Callable[..., int] = getattr(importlib.import_module(f"auditor.cli.commands.{name}"), name)
    return found


def by_typer(name: str, words: Sequence[str]) -> dict[str, object] | None:
    """The arguments that typer calls the command with; None where it does not call it."""
    seen: list[dict[str, object]] = []

    def recorder(**values: object) -> None:
        seen.append(values)

    app = program({name: importlib.import_module(f"auditor.cli.commands.{name}")})
    registered = app.registered_commands[0]
    assert registered.callback is not None
    recorder.__name__ = name
    recorder.__annotations__ = registered.callback.__annotations__
    recorder.__signature__ = inspect.signature(registered.callback)  # type: ignore[attr-defined]
    registered.callback = recorder
    try:
        app(args=[name, *words], prog_name="auditor", standalone_mode=False)
    except TyperException:
        return None
    return seen[0] if seen else None


def called(name: str, words: Sequence[str]) -> dict[str, object] | None:
    """The arguments that the command gets from a plain command line, defaults included."""
    plain = read(command(name), words, {})
    if plain is None:
        return None
    bound = inspect.signature(command(name)).bind(**plain)
    bound.apply_defaults()
    return dict(bound.arguments)


@st.composite
def lines(draw: st.DrawFn) -> tuple[str, list[str]]:
    name = draw(st.sampled_from(NAMES))
    flags = [flag for each in parameters(command(name)).values() for flag in each.declaration.flags]
    word = st.sampled_from([*flags, *VALUES, "--help", "--nonsense", "-qv"])
    joined = st.builds("{}={}".format, st.sampled_from(flags), st.sampled_from(VALUES))
    pair = st.tuples(st.sampled_from(flags), st.sampled_from(VALUES))
    words = draw(st.lists(st.one_of(word.map(lambda one: (one,)), joined.map(lambda one: (one,)), pair), max_size=5))
    return name, [each for group in words for each in group]


@settings(max_examples=150, deadline=None, database=None)
@given(lines())
@example(("export", ["--digest/--no-digest", "0"]))
@example(("export", ["--digest", "0"]))
@example(("export", ["--no-digest", "0"]))
def test_a_plain_command_line_means_what_typer_makes_of_it(line: tuple[str, list[str]]) -> None:
    plain = called(*line)
    if plain is not None:
        assert plain == by_typer(*line)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {}),
        (["a:1", "--verify=layers", "b", "-f", "json"],
         {"images": ["a:1", "b"], "verify": Verify.LAYERS, "output_format": ReportFormat.JSON}),
        (["-n", "k8s.io", "--namespace", "moby", "-q"], {"namespace": ["k8s.io", "moby"], "quiet": True}),
        (["--output", "a", "-o", "b"], {"output": Path("b")}),
    ],
)  # fmt: skip
def test_plain_command_lines_are_read(words: list[str], expected: dict[str, object]) -> None:
    assert read(check, words, {}) == expected


@pytest.mark.parametrize(
    "words",
    [
        ["--help"], ["--nonsense"], ["--verify", "deep"], ["--verify"], ["--output", ""], ["--output", "-"],
        ["--", "a"], ["-qv"], ["-fjson"], ["--quiet=yes"], ["--jobs", "4"], ["--timeout", "1e400"],
        ["--address", "-a"], ["-"],
    ],
)  # fmt: skip
def test_every_other_command_line_is_left_to_typer(words: list[str]) -> None:
    assert read(check, words, {}) is None


def test_variables_of_the_environment_are_left_to_typer() -> None:
    assert read(check, [], {"CONTAINERD_ADDRESS": "/run/a.sock"}) is None
    assert read(check, [], {"CONTAINERD_NAMESPACE": ""}) == {}


def test_a_second_value_of_a_single_argument_is_left_to_typer() -> None:
    assert read(command("rules"), ["orphan-blob"], {}) == {"code": "orphan-blob"}
    assert read(command("rules"), ["orphan-blob", "orphan-blob"], {}) is None


def test_a_missing_argument_is_left_to_typer() -> None:
    assert read(command("export"), ["--quiet"], {}) is None
