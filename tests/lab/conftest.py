"""Fixtures of the lab: each test may have a daemon of its own, for starting one takes about a tenth of a second."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from zlib import crc32

import pytest

from tests.lab.kit.binaries import VERSIONS
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.dockerd import Dockerd
from tests.lab.kit.process import scratch, sweep
from tests.lab.kit.registry import Registry
from tests.lab.stopped_node import StoppedNode, stopped_node

pytest.register_assert_rewrite("tests.lab.checked")

HERE = Path(__file__).parent
SECONDS = 120

_QUICK = pytest.mark.timeout(SECONDS).mark

StartDaemon = Callable[..., Containerd]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--wide"):
        left_out = _other_turns(items)
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]
    for item in items:
        if HERE in item.path.parents:
            item.add_marker("lab")
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(SECONDS))
            else:
                item.add_marker("slow")
    items[:] = _spread(items)


def _other_turns(items: list[pytest.Item]) -> list[pytest.Item]:
    """Return what `in_turn` leaves out: each row of a test is run on one release, and each release gets some rows."""
    tests: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("in_turn") is not None:
            tests.setdefault(f"{item.path}::{item.originalname}", []).append(item)
    return [item for name, rows in tests.items() for item in _not_its_turn(rows, first=crc32(name.encode()))]


def _not_its_turn(items: list[pytest.Function], *, first: int) -> list[pytest.Function]:
    places = {item: _release_and_row(item) for item in items}
    rows = {row: number for number, row in enumerate(sorted({row for _, row in places.values()}))}
    turns = min(len(rows), len(VERSIONS))

    def turn(release: int, row: int) -> int:
        return (first + release + row + row // len(VERSIONS)) % turns  # what varies fastest may have three values too

    return [item for item, (release, row) in places.items() if turn(release, rows[row])]


def _release_and_row(item: pytest.Function) -> tuple[int, str]:
    """The number of the release that a test is run on, and its other parameters."""
    (release,) = (value for value in item.callspec.params.values() if value in VERSIONS)
    return VERSIONS.index(release), item.callspec.id.replace(release, "", 1)


def _spread(items: list[pytest.Item]) -> list[pytest.Item]:
    """Let each worker begin with its part of what takes long, so that none ends long after the others.

    Every worker is given an equal run of the list at first.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    slow = [item for item in items if item.get_closest_marker("timeout", _QUICK).args[0] > SECONDS]
    quick = [item for item in items if item not in set(slow)]
    part = len(quick) // workers
    return [item for n in range(workers) for item in (*slow[n::workers], *quick[n * part : (n + 1) * part])] + quick[
        workers * part :
    ]


@pytest.fixture(scope="session")
def session_base() -> Iterator[Path]:
    sweep()
    with scratch() as base:
        yield base


@pytest.fixture(scope="session")
def registry(session_base: Path) -> Iterator[Registry]:
    with Registry(session_base / "registry") as running:
        yield running


@pytest.fixture
def base() -> Iterator[Path]:
    """Give a test its own folder on a disk, with a name short enough for sockets."""
    with scratch() as folder:
        yield folder


@pytest.fixture
def start_daemon(base: Path) -> Iterator[StartDaemon]:
    """Start daemons of any version with any option of Containerd; they stop with the test."""
    with ExitStack() as running:
        count = 0

        def start(version: str, **options: object) -> Containerd:
            nonlocal count
            count += 1
            folder = base / f"{version}-{count}"
            folder.mkdir()
            return running.enter_context(Containerd(version, folder, **options))  # type: ignore[arg-type]

        yield start


@pytest.fixture(params=VERSIONS)
def daemon(request: pytest.FixtureRequest, start_daemon: StartDaemon) -> Containerd:
    """Start a fresh daemon of each version in turn."""
    return start_daemon(request.param)


@pytest.fixture(scope="session", params=VERSIONS)
def shared_daemon(request: pytest.FixtureRequest, session_base: Path) -> Iterator[Containerd]:
    """Start one daemon a version for all tests that only read, or that name what they write after themselves."""
    folder = tempfile.mkdtemp(dir=session_base, prefix=f"{request.param}-")  # a version may have several turns
    with Containerd(request.param, Path(folder)) as running:
        yield running


@pytest.fixture(scope="session", params=VERSIONS)
def stopped(request: pytest.FixtureRequest, session_base: Path, registry: Registry) -> StoppedNode:
    """Make a stopped daemon a version; tests damage copies of its root."""
    folder = tempfile.mkdtemp(dir=session_base, prefix=f"stopped-{request.param}-")
    return stopped_node(request.param, Path(folder), registry)


@pytest.fixture
def dockerd(start_daemon: StartDaemon, base: Path) -> Iterator[Dockerd]:
    """Start a Docker engine that keeps its images in a containerd 1.7."""
    with Dockerd(start_daemon("1.7"), base / "dockerd") as running:
        yield running
