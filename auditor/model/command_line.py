"""Command lines that the program prints: words and names of others, quoted for a shell."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

#: A client of a daemon at the beginning of a command, of which a line may have several.
_CLIENT: Final = r"(?:^|(?<=; )|(?<=&& ))(ctr|crictl) "
#: How each client is given the daemon's address.
_PLACE: Final = {"ctr": ("-a", "{}"), "crictl": ("-r", "unix://{}")}


def command(*words: str, names: Iterable[str] = ()) -> str:
    """Return a command line; names are untrusted input: they are quoted, and those with a dash follow `--`."""
    import shlex  # noqa: PLC0415 - for findings only

    last = tuple(names)
    return shlex.join((*words, *(("--",) if any(name.startswith("-") for name in last) else ()), *last))


def path(name: str) -> str:
    """Return the path of a file as a word that no program takes for an option."""
    return f"./{name}" if name.startswith("-") else name


def clients_at(line: str, address: str) -> str:
    """Return a line of commands with the daemon's address in each command of ctr and crictl."""
    return re.sub(_CLIENT, lambda found: f"{command(found[1], *(x.format(address) for x in _PLACE[found[1]]))} ", line)


def is_command(hint: str) -> bool:
    """Whether a hint is a command to run rather than a sentence to follow."""
    return hint.split(" ", 1)[0] in ("auditor", "ctr", "crictl", "nerdctl", "journalctl", "systemctl")
