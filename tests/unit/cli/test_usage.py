"""The program without any daemon: whatever is asked wrongly has its exit status, one sentence and one hint."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from auditor import checks
from auditor.version import __version__
from tests import program

COMMANDS = ("check", "tree", "rules")
USAGE, COULD_NOT = 2, 3


def auditor(*arguments: str | bytes, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a user does, with nothing in the environment that it reads."""
    return program.run(*arguments, env={"COLUMNS": "100"} | environment)


def says(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    """One sentence and one hint on stderr, nothing on stdout, no traceback."""
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (status, ""), done.stderr
    assert [line.partition(" ")[0] for line in lines] == ["auditor:", "hint:"]
    assert all(len(line) > 15 and line.isprintable() for line in lines)
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_the_version() -> None:
    done = auditor("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"auditor {__version__}\n", "")


def test_the_version_needs_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['auditor', '--version']; from auditor.__main__ import main; main(); "
    heavy = "print(sorted({'grpc', 'typer', 'msgspec', 'rich', 'google.protobuf'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code + heavy], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_lists_the_commands_and_needs_no_grpc() -> None:
    done = auditor("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(re.search(rf"^  {command} ", done.stdout, re.MULTILINE) for command in COMMANDS)
    code = "import sys; sys.argv = ['auditor', '--help']; from auditor.__main__ import main; main(); "
    probe = "print('grpc' in sys.modules, 'google.protobuf' in sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code + probe], capture_output=True, text=True, check=True)
    assert loaded.stdout.splitlines()[-1] == "False False"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help_without_marks_of_colour(command: str) -> None:
    done = auditor(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: auditor {command} ")
    assert "\x1b" not in done.stdout


def test_no_arguments_show_the_help_and_are_wrong_usage() -> None:
    done = auditor()
    assert (done.returncode, done.stderr) == (USAGE, "")
    assert done.stdout == auditor("--help").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["chek"], "chek"),
        (["check", "--bogus"], "--bogus"),
        (["--bogus"], "--bogus"),
        (["tree"], "IMAGE"),
        (["check", "--verify", "hard"], "presence"),
        (["check", "--fail-on", "sometimes"], "never"),
        (["check", "--format", "poem"], "json"),
        (["check", "--timeout", "soon"], "--timeout"),
        (["check", "--timeout", "0"], "--timeout"),
        (["check", "--timeout", "nan"], "--timeout"),
        (["check", "--timeout", "0s"], "the shortest is 0.1s"),
        (["check", "--limit-rate", "50"], "write 50KiB, 50MiB or 50GiB"),
        (["check", "--max-layer-size", "7"], "'7' has no unit"),
        (["check", "--every", "7"], "write 7s, 7m, 7h or 7d"),
        (["scrub", "--max-age", "7"], "'7' has no unit"),
        (["check", "--formt", "json"], "did you mean --format?"),
        (["check", "--format", "jsn"], "did you mean json?"),
        (["check", "--verify", "digest"], "did you mean digests?"),
        (["chekc"], "did you mean check?"),
        (["check", "--address"], "--address"),
        (["rules", "blob-lzy"], "did you mean blob-lazy?"),
        (["rules", "lazy"], "did you mean blob-lazy?"),
        (["rules", "a", "b"], "b"),
        (["check", "--platform", "a/b/c/d"], "linux/arm64"),
        (["check", "--platform", "linux/*"], "linux/arm64"),
        (["check", "--platform", ""], "the value of --platform is empty"),
        (["repair", "--yes", "-n", ""], "the value of --namespace is empty"),
        (["health", "npd", "x", "--max-age="], "the value of --max-age is empty"),
        (["check", "--jobs", "many"], "is not a whole number"),
        (["rules", "BLOB-LAZZY"], "did you mean blob-lazy?"),
        (["tree", "x", "--platform", "solaris8/sun4u/x/y"], "linux/arm64"),
        (["check", "--content-root", "/no/such/folder"], "/no/such/folder"),
        (["check", "--output", "/no/such/folder/report"], "/no/such/folder"),
        (["check", "--output", "/"], "is a folder"),
        (["check", "--address", "tcp://127.0.0.1:1"], "/run/containerd/containerd.sock"),
        (["repair", "--dry-run", "--rebuild", "replace"], "--rebuild needs --snapshots"),
        (["repair", "--dry-run", "--snapshots", "--rebuild", "other"], "exchange"),
        (["quarantine", "drop", "--bogus"], "auditor quarantine drop --help"),
    ],
)
def test_wrong_usage(arguments: list[str], words: str) -> None:
    says(auditor(*arguments), USAGE, words)


def test_a_socket_that_is_absent_and_a_file_that_is_none(tmp_path: Path) -> None:
    says(auditor("check", "--address", str(tmp_path / "none.sock")), COULD_NOT, "no socket", "is containerd running?")
    (tmp_path / "file").touch()
    says(auditor("check", "--address", str(tmp_path / "file")), COULD_NOT, "not a socket", "containerd's socket")
    says(auditor("tree", "x", "-a", str(tmp_path / "none.sock")), COULD_NOT, "no socket")


def test_a_socket_that_nobody_listens_at(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left.sock"))
    says(auditor("check", "--address", str(tmp_path / "left.sock")), COULD_NOT, "nothing listens", "start containerd")


def test_the_address_of_the_environment(tmp_path: Path) -> None:
    says(auditor("check", CONTAINERD_ADDRESS=str(tmp_path / "env.sock")), COULD_NOT, str(tmp_path / "env.sock"))


def test_a_path_that_is_no_unicode_or_holds_what_a_terminal_obeys() -> None:
    says(auditor("check", "--address", b"/tmp/\xff.sock"), COULD_NOT, r"/tmp/\udcff.sock")
    says(auditor("check", "--address", "/tmp/\x1b[2J\u202e.sock"), COULD_NOT, r"/tmp/\x1b[2J\u202e.sock")
    says(auditor("check", "--output", "/no/\x1b[31m/x"), USAGE, r"\x1b[31m")
    says(auditor("check", "--b\x1b[31mgus"), USAGE, r"\x1b[31m")
    says(auditor("check", "--address", "x" * 4000), COULD_NOT)


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    done = auditor("check", "-a", str(tmp_path / "none.sock"), "-o", str(tmp_path / "report.json"))
    says(done, COULD_NOT)
    assert list(tmp_path.iterdir()) == []


def test_the_rules_are_those_that_run() -> None:
    done = auditor("rules", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    told = [(rule["code"], rule["severity"]) for rule in json.loads(done.stdout)]
    ours = {rule.code for rule in checks.RULES}
    assert [each for each in told if each[0] in ours] == [(rule.code, str(rule.severity)) for rule in checks.RULES]
    assert all(code.startswith("archive-") for code, _ in told if code not in ours)
    assert len(set(told)) == len(told)


def test_the_rules_as_a_table_and_one_of_them() -> None:
    table = auditor("rules").stdout
    assert all(f"\n  {rule.code}\n" in table for rule in checks.RULES)
    told = auditor("rules", "snapshot-without-blob").stdout
    assert told.startswith("snapshot-without-blob (error)\n")
    assert "auditor repair" in told


@pytest.mark.parametrize("argument", ["rules", "--help"])
def test_an_output_that_is_full(argument: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = program.run(argument, stdout=full)
    assert done.returncode == COULD_NOT
    assert "No space left on device" in done.stderr
    assert "bug" not in done.stderr


def test_a_reader_that_ends_early() -> None:
    command = f"{sys.executable} -m auditor rules | :; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode in (0, COULD_NOT)  # the pipe may take all of it before the reader is gone
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_check_starts_without_what_it_does_not_use() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "auditor", "check", "--address", "/nonexistent", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("CONTAINERD_")},
    )
    assert done.returncode == COULD_NOT
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    unused = {
        "typer",
        "rich",
        "asyncio",
        "ssl",
        "grpc.aio",
        "inspect",
        "tabulate",
        "importlib.metadata",
        "email",
        "jinja2",
        "decimal",
        "difflib",
        "json",
        "msgspec.inspect",
        "platform",
        "shlex",
        "socket",
        "unicodedata",
        "urllib.parse",
        "uuid",
    }
    if len(os.sched_getaffinity(0)) > 1:  # else there is no process that lists the records, which imports gRPC
        unused |= {"grpc", "google.protobuf", "concurrent.futures", "logging"}
    assert "msgspec" in loaded
    assert not loaded & unused


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["check", "--root", "x" * 300], "File name too long"),
        (["diagnose", "-"], "Bad file descriptor"),
    ],
)
def test_a_refusal_of_the_system_is_no_bug(arguments: list[str], words: str) -> None:
    with Path(os.devnull).open("wb") as unreadable:
        done = program.run(*arguments, stdin=unreadable)
    says(done, COULD_NOT, words)


def test_a_loop_of_links_is_no_bug(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    says(auditor("recover", "--root", "/nowhere", "--output", f"{tmp_path}/loop"), USAGE, "loop exists already")


def test_an_archive_is_not_lost_in_a_closed_output() -> None:
    command = f"{sys.executable} -m auditor export app:1 --output - >&-"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    says(done, USAGE, "standard output is closed")
