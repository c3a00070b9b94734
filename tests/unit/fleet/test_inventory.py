"""The list of expected nodes, as people have it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from auditor.errors import UsageError
from auditor.fleet.inventory import load_inventory


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a\nb\n\n", {"a": {}, "b": {}}),
        ("# all nodes\nnode/a\nnode/b", {"a": {}, "b": {}}),
        ("\ufeffa\r\nb\r\n", {"a": {}, "b": {}}),
        ("host,rack,zone\na,r1,z1\nb,,z2\n", {"a": {"rack": "r1", "zone": "z1"}, "b": {"zone": "z2"}}),
        ("rack, Node\nr1, a\n", {"a": {"rack": "r1"}}),
        ('host,disk\n"a","big, fast"\n', {"a": {"disk": "big, fast"}}),
        ("host,rack\na,r1,more\nb\n", {"a": {"rack": "r1"}, "b": {}}),
    ],
)
def test_names_and_facts(tmp_path: Path, text: str, found: dict[str, dict[str, str]]) -> None:
    path = tmp_path / "nodes"
    path.write_text(text)
    assert load_inventory(path) == found


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "names no node"),
        (b"# none\n", "names no node"),
        (b"a\nb\na\n", "names 'a' twice"),
        (b"NAME STATUS\nnode-1 Ready\n", "'NAME STATUS' is not the name of a node"),
        (b"host;rack\nnode-1;a\n", "'host;rack' is not the name of a node"),
        (b"rack,zone\nr1,z1\n", "has no column with the nodes' names"),
        (b"\xff\xfe\x00", "cannot be read: it is not text"),
    ],
)
def test_a_bad_list_is_one_sentence(tmp_path: Path, raw: bytes, why: str) -> None:
    path = tmp_path / "nodes"
    path.write_bytes(raw)
    with pytest.raises(UsageError, match=why) as caught:
        load_inventory(path)
    assert caught.value.hint


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load_inventory(tmp_path / "nodes")


def test_a_list_without_end() -> None:
    with pytest.raises(UsageError, match="larger than 64 MiB"):
        load_inventory(Path("/dev/zero"))


def test_a_pipe_without_a_writer_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "nodes")
    with pytest.raises(UsageError, match="it is a named pipe"):
        load_inventory(tmp_path / "nodes")
