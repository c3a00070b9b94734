"""A real node_exporter and a real Prometheus with our rules, to see what they make of our files."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from tests.lab.kit.binaries import program
from tests.lab.kit.process import Process

ROOT: Final = Path(__file__).resolve().parents[2]
RULES: Final = ROOT / "reports" / "alerts.yml"
_CONFIG: Final = """\
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
scrape_configs:
"""
_JOB: Final = "  - {{job_name: {name}, static_configs: [{{targets: ['{place}']}}]}}\n"


def promtool() -> Path:
    """The tool that checks what Prometheus would read."""
    return program("prometheus", "usr/bin/promtool")


def free_place() -> str:
    """An address on 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def fetch(url: str) -> str:
    """What a server answers, whatever its status."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def answers(url: str) -> bool:
    """Whether a server is there and ready."""
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=10) as answer:
        return bool(answer.status == HTTPStatus.OK)
    return False


@contextlib.contextmanager
def node_exporter(base: Path, textfiles: Path) -> Iterator[str]:
    """Run a node_exporter that reads only textfiles; gives its address."""
    place = free_place()
    command: list[str | Path] = [
        program("node-exporter", "usr/bin/prometheus-node-exporter"),
        "--collector.disable-defaults",
        "--collector.textfile",
        f"--collector.textfile.directory={textfiles}",
        f"--web.listen-address={place}",
    ]
    running = Process(command, log=base / "node-exporter.log")
    try:
        running.wait_until(lambda: answers(f"http://{place}/metrics"))
        yield place
    finally:
        running.stop()


class Prometheus:
    """The answers of a running Prometheus."""

    def __init__(self, place: str) -> None:
        self.place = place

    def alerts(self) -> dict[str, list[dict[str, str]]]:
        """The labels of the alerts that fire, by their names."""
        firing: dict[str, list[dict[str, str]]] = {}
        for alert in self._get("alerts")["alerts"]:
            if alert["state"] == "firing":
                firing.setdefault(alert["labels"]["alertname"], []).append(alert["labels"])
        return firing

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an expression; one that Prometheus refuses fails the test."""
        found: list[dict[str, Any]] = self._get(f"query?{urllib.parse.urlencode({'query': expression})}")["result"]
        return found

    def wait_for(self, *names: str, seconds: float = 60) -> dict[str, list[dict[str, str]]]:
        """The alerts, once all of these fire."""
        deadline = time.monotonic() + seconds
        while not set(names) <= (firing := self.alerts()).keys():
            assert time.monotonic() < deadline, f"{names} do not fire, {sorted(firing)} do"
            time.sleep(0.2)
        return firing

    def wait_scraped(self, expression: str, *, seconds: float = 60) -> None:
        """Return once an expression has a result."""
        deadline = time.monotonic() + seconds
        while not self.query(expression):
            assert time.monotonic() < deadline, f"{expression} has no result"
            time.sleep(0.2)

    def wait_without(self, *names: str, seconds: float = 60) -> None:
        """Return once none of these fires."""
        deadline = time.monotonic() + seconds
        while found := set(names) & self.alerts().keys():
            assert time.monotonic() < deadline, f"{sorted(found)} still fire"
            time.sleep(0.2)

    def _get(self, path: str) -> dict[str, Any]:
        answer = json.loads(fetch(f"http://{self.place}/api/v1/{path}"))
        assert answer["status"] == "success", answer
        data: dict[str, Any] = answer["data"]
        return data


@contextlib.contextmanager
def prometheus(base: Path, **targets: str) -> Iterator[Prometheus]:
    """Run a Prometheus with our rules, which fire at once here: how long to wait is promtool's test."""
    place, folder = free_place(), base / "prometheus"
    folder.mkdir()
    (folder / "rules.yml").write_text(re.sub(r"(?m)^( +for: ).*$", r"\g<1>0s", RULES.read_text()))
    jobs = "".join(_JOB.format(name=name, place=target) for name, target in targets.items())
    (folder / "prometheus.yml").write_text(_CONFIG + jobs)
    command: list[str | Path] = [
        program("prometheus", "usr/bin/prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={place}",
    ]
    running = Process(command, log=base / "prometheus.log")
    try:
        running.wait_until(lambda: answers(f"http://{place}/-/ready"))
        yield Prometheus(place)
    finally:
        running.stop()
