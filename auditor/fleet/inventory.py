"""The list of the nodes that are expected to report: one name per line, or CSV whose further columns are facts."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from auditor.errors import UsageError
from auditor.regular_file import is_named_pipe

#: Maximum of bytes of a list; a node takes about a hundred.
MAX_BYTES: Final = 64 << 20
#: Names of the column with the node's name.
_NAMES: Final = ("host", "node", "name", "hostname")
#: What is not two words, and has no separator of other kinds of CSV.
_NAME: Final = re.compile(r"[^\s;|]*")


def load_inventory(path: Path) -> Mapping[str, Mapping[str, str]]:
    """Return the facts of each expected node by its name.

    Args:
        path: A text file with a name per line (`kubectl get nodes -o name` fits; `#` begins a comment), or a CSV file
            whose header has `host`; each further column is a fact, for example `rack` or `zone`.

    Raises:
        UsageError: The file cannot be read, names no node, names one twice, or has lines that are not names.

    """
    try:
        lines = _bytes(path).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"{path} cannot be read: {why}", hint="give a file with one node name per line") from None
    rows = [line for line in lines if line.strip() and not line.startswith("#")]
    found = _from_csv(path, rows) if rows and "," in rows[0] else _from_lines(path, rows)
    if not found:
        raise UsageError(f"{path} names no node", hint="give a file with one node name per line")
    return found


def _bytes(path: Path) -> bytes:
    """Return the content of a file or pipe. Raises OSError, also for a named pipe and for more than MAX_BYTES."""
    if is_named_pipe(path):
        raise OSError(0, "it is a named pipe")
    with path.open("rb") as file:
        found = file.read(MAX_BYTES + 1)
    if len(found) > MAX_BYTES:
        raise OSError(0, f"it is larger than {MAX_BYTES >> 20} MiB")
    return found


def _from_lines(path: Path, rows: list[str]) -> dict[str, Mapping[str, str]]:
    found: dict[str, Mapping[str, str]] = {}
    for row in rows:
        _add(found, path, row.strip().removeprefix("node/"), {})
    return found


def _from_csv(path: Path, rows: list[str]) -> dict[str, Mapping[str, str]]:
    found: dict[str, Mapping[str, str]] = {}
    reader = csv.DictReader(rows, skipinitialspace=True, restval="")
    column = next((name for name in reader.fieldnames or () if name.strip().lower() in _NAMES), None)
    if column is None:
        hint = f"the first line names the columns; one of them is {', '.join(_NAMES[:-1])} or {_NAMES[-1]}"
        raise UsageError(f"{path} has no column with the nodes' names", hint=hint)
    for row in reader:
        facts = {key.strip(): value.strip() for key, value in row.items() if key and key != column and value}
        _add(found, path, row[column].strip(), facts)
    return found


def _add(found: dict[str, Mapping[str, str]], path: Path, name: str, facts: Mapping[str, str]) -> None:
    if not _NAME.fullmatch(name):
        hint = "give one name per line (kubectl get nodes -o name), or CSV with commas"
        raise UsageError(f"{path}: {name[:80]!r} is not the name of a node", hint=hint)
    if name in found:
        raise UsageError(f"{path} names {name[:80]!r} twice", hint="name each node once")
    if name:
        found[name] = facts
