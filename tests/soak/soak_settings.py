"""Changed `hosts.toml` and docker's `config.json`: servers and credentials are found, or one sentence says why not."""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path
from typing import Any, Final

from auditor.errors import SourceError
from auditor.sources.credentials import load_docker_config
from auditor.sources.hosts import find_hosts
from tests.soak import mutate
from tests.soak.record import Failed, Outcome, Recorder, fuzz

_HOST: Final = "registry.example:5000"
_SECRET: Final = "hunter2"
_TOML: Final = """server = "https://up.example"
[host."https://mirror.example/v2"]
  capabilities = ["pull", "resolve"]
  ca = ["a.crt", "/b.crt"]
  client = [["a.cert", "a.key"], "c.pem"]
  skip_verify = true
  dial_timeout = "1m30s"
  [host."https://mirror.example/v2".header]
    x-key = ["hunter2"]
[host."http://[::1]:80"]
  override_path = false
"""
_CONFIG: Final[Any] = {
    "auths": {_HOST: {"auth": "cm9ib3Q6aHVudGVyMg==", "identitytoken": _SECRET}, "https://index.docker.io/v1/": {}},
    "credHelpers": {_HOST: "own"},
    "credsStore": "store",
    "HttpHeaders": {"a": "b"},
}


def run(seconds: float, folder: Path) -> Outcome:
    """Fuzz settings."""
    (folder / "registry.example_5000_").mkdir()
    return fuzz(Recorder("settings", seconds), make, partial(judge, folder), suffix=".txt")


def make(chance: random.Random) -> bytes:
    """Return a `hosts.toml`, behind `T`, or a `config.json`, behind `J`."""
    if chance.randrange(2):
        text = _TOML
        for _ in range(chance.choice((1, 2, 5))):
            text = mutate.text(text, chance)
        data = text.encode(errors="surrogatepass")
        return b"T" + (mutate.raw_bytes(data, chance) if chance.randrange(3) == 0 else data)
    return b"J" + mutate.json_bytes(mutate.json_value(_CONFIG, chance, changes=chance.choice((1, 2, 5))), chance)


def judge(folder: Path, data: bytes) -> str:
    """Find servers, or credentials with a helper that answers with a part of the input."""
    try:
        if data[:1] == b"T":
            (folder / "registry.example_5000_/hosts.toml").write_bytes(data[1:])
            found = find_hosts(folder, _HOST)
            shown, result = f"{found!r}", "skipped" if found.notes else "servers"
        else:
            (folder / "config.json").write_bytes(data[1:])
            config = load_docker_config(folder / "config.json", run=lambda *_: (len(data) % 2, _helped(data)))
            shown, result = f"{[config.find(host) for host in (_HOST, 'docker.io', 'x')]!r}", "credentials"
    except SourceError as error:
        shown, result = f"{error!r} {error.hint}", "refused"
    if _SECRET in shown.replace(f"docker-credential-{_SECRET}", ""):  # a name that was put there by a change
        raise Failed(f"a secret is shown: {shown[:300]}")
    return result


def _helped(data: bytes) -> bytes:
    return json.dumps({"Username": "a", "Secret": None}).encode() if len(data) % 3 else data[1:99]
