"""The wheel, installed on a bare Debian by the ways of docs/install.md, and what a package index would show of it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Final

import pytest

from tests.dist import trees
from tests.dist.test_packages import DIST
from tests.lab.kit.process import scratch
from tools.dist import recipe

WHEEL: Final = DIST / f"{recipe.NAME.replace('-', '_')}-{recipe.version()}-py3-none-any.whl"
#: Each way: the commands of docs/install.md, with WHEEL in place of the wheel's name.
WAYS: Final = {
    "venv": """
        python3 -m venv /opt/auditor
        /opt/auditor/bin/pip install --quiet WHEEL
        ln -s /opt/auditor/bin/auditor /usr/local/bin/auditor
    """,
    "pipx": """
        apt-get -qq update
        apt-get -qq install pipx
        PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin pipx install WHEEL
    """,
    "uv": """
        python3 -m venv /opt/uv
        /opt/uv/bin/pip install --quiet uv
        UV_TOOL_DIR=/opt/tools UV_TOOL_BIN_DIR=/usr/local/bin /opt/uv/bin/uv tool install WHEEL
    """,
}


@pytest.fixture
def system() -> Iterator[Path]:
    with trees.copy("bare", trees.BARE) as root:
        (root / "root" / WHEEL.name).write_bytes(WHEEL.read_bytes())
        yield root


@pytest.mark.parametrize("way", WAYS)
def test_the_wheel_is_installed_on_a_bare_system(way: str, system: Path) -> None:
    env = trees.connect(system)
    trees.run(system, "sh", "-euc", WAYS[way].replace("WHEEL", f"/root/{WHEEL.name}"), env=env)
    assert trees.run(system, "auditor", "--version") == f"auditor {recipe.version()}\n"
    assert "hint: " in trees.run(system, "auditor", "check", status=3)


def test_twine_takes_the_wheel() -> None:
    """twine is installed for this check alone; it is no dependency of the project."""
    with scratch(on_disk=True) as folder:
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        subprocess.run([folder / "venv/bin/pip", "install", "--quiet", "twine"], check=True)
        line: list[str | Path] = [folder / "venv/bin/twine", "check", "--strict", WHEEL]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout


def metadata() -> Message:
    with zipfile.ZipFile(WHEEL) as wheel:
        (name,) = (each for each in wheel.namelist() if each.endswith(".dist-info/METADATA"))
        return Parser().parsestr(wheel.read(name).decode())


def test_an_index_would_show_what_the_project_is() -> None:
    fields = metadata()
    assert fields["Description-Content-Type"] == "text/markdown"
    assert str(fields.get_payload()).startswith("# auditor")
    assert fields["License-Expression"] == "Apache-2.0"
    assert fields["Requires-Python"] == ">=3.11"
    assert len(fields["Summary"]) < 120
    assert fields.get_all("Project-URL")
    assert "Operating System :: POSIX :: Linux" in fields.get_all("Classifier", [])
