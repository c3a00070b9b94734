"""What comes before the command line: a signal or a module that cannot be read ends the program in order."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from auditor.cli.isolated_process import start_isolated
from tests.program import ROOT

#: Raises a signal, or an error, when the program imports a module for the first time.
_AT_IMPORT = """
import os, runpy, sys
def found(event, words):
    if event == "import" and words[0] == {module!r}:
        {action}
sys.argv[1:] = {words!r}
sys.addaudithook(found)
{start}
"""
_MODULE = "runpy.run_module('auditor', run_name='__main__', alter_sys=True)"
#: A file whose first byte cannot be read.
_EIO = "/proc/self/mem"
_SCRIPT = "from auditor.__main__ import run; run()"


def begun(module: str, action: str, *words: str, start: str = _MODULE) -> tuple[int, str]:
    code = _AT_IMPORT.format(module=module, action=action, words=words, start=start)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("number", "module", "status", "start"),
    [
        (signal.SIGINT, "auditor.import_stand_ins", 130, _MODULE),
        (signal.SIGINT, "auditor.version", 130, _SCRIPT),
        (signal.SIGINT, "msgspec._core", 130, _SCRIPT),
        (signal.SIGTERM, "auditor.cli.app", 143, _MODULE),
        (signal.SIGHUP, "auditor.cli.app", 143, _SCRIPT),
        (signal.SIGINT, "auditor.formats.rulebook", 130, _MODULE),
    ],
)
def test_a_signal_during_the_first_imports_ends_the_program(
    number: signal.Signals, module: str, status: int, start: str
) -> None:
    words = ("--version",) if module == "auditor.version" else ("rules",)
    action = f"os.kill(os.getpid(), {int(number)})"
    assert begun(module, action, *words, start=start) == (status, "auditor: interrupted\n")


def test_a_blocked_signal_is_delivered_after_the_handlers_are_set() -> None:
    """The launcher of the bundle blocks signals, since Python itself would print a traceback."""
    block = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [15]); os.kill(os.getpid(), 15)"
    assert begun("none", "pass", "rules", start=f"{block}\n{_MODULE}") == (143, "auditor: interrupted\n")


def test_an_ignored_signal_stays_ignored() -> None:
    start = f"import signal; signal.signal(1, signal.SIG_IGN); signal.signal(2, signal.SIG_IGN)\n{_MODULE}"
    action = "os.kill(os.getpid(), 1); os.kill(os.getpid(), 2)"
    for module in ("auditor.cli.app", "auditor.formats.rulebook"):
        assert begun(module, action, "rules", "blob-lazy", start=start) == (0, "")


@pytest.mark.parametrize(
    ("module", "what"),
    [
        ("auditor.import_stand_ins", "the program"),
        ("auditor.cli.commands.rules", "a part of the program"),
        ("auditor.formats.rulebook", "a part of the program"),
    ],
)
def test_a_module_that_cannot_be_read_is_named(module: str, what: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "auditor", tmp_path / "auditor")
    file = tmp_path / f"{module.replace('.', '/')}.py"
    for damage in (lambda: file.write_bytes(b"\0" * 4096), file.unlink, lambda: file.symlink_to(_EIO)):
        damage()
        done = subprocess.run(
            [sys.executable, "-B", "-m", "auditor", "rules"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (3, "")
        first, hint = done.stderr.splitlines()
        assert first.startswith(f"auditor: {what} cannot be loaded: ")
        assert hint.startswith("hint: install it again")


def test_the_modules_that_the_start_leaves_out_can_be_imported() -> None:
    code = (
        "from auditor.__main__ import _import_msgspec; _import_msgspec()\n"
        "import decimal, ntpath, pathlib, sys, urllib.parse, uuid, msgspec\n"
        "print('typing_extensions' in sys.modules, decimal.Decimal(7), uuid.UUID(int=7).int, ntpath.sep)\n"
        "print(urllib.parse.quote('ä'), pathlib.Path('/a b').as_uri(), pathlib.PureWindowsPath('a') / 'b')\n"
        "print(msgspec.inspect.type_info(int), msgspec.json.schema(int), msgspec.toml.decode('a = 1'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "False 7 7 \\",
        "%C3%A4 file:///a%20b a\\b",
        "IntType(gt=None, ge=None, lt=None, le=None, multiple_of=None) {'type': 'integer'} {'a': 1}",
    ]


def test_a_second_process_is_not_reached_by_the_signals_of_a_terminal(tmp_path: Path) -> None:
    script = tmp_path / "second.py"
    script.write_text("import os; print(os.getpgid(0) == os.getsid(0) == os.getpid(), os.getcwd())")
    with start_isolated(str(script)) as process:
        assert process.communicate()[0] == b"True /\n"
