"""Layers that other processes compare have the results of this one; what fails there is left to the caller."""

from __future__ import annotations

import gzip
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from auditor.cli.compare_processes import compare_ahead
from auditor.model.digest import Digest
from auditor.model.snapshot_files import Differences, Kind
from auditor.model.store import VerificationKind
from auditor.snapshots.layer_files import LayerTask
from tests.unit.snapshots.test_compare import NS, entry, layer

BAD = "bad\udcff"


def unpacked(content: Path, name: str) -> LayerTask:
    """A layer in a content store, and the directory that it unpacks to."""
    data = os.fsencode(name) * (1 << 20)
    blob = layer((entry(name), data))
    digest = Digest.of(blob)
    (content / "blobs/sha256").mkdir(parents=True, exist_ok=True)
    (content / "blobs/sha256" / digest.hex).write_bytes(blob)
    directory = content / f"{name} fs"
    directory.mkdir()
    (directory / name).write_bytes(data)
    (directory / name).chmod(0o644)
    os.utime(directory / name, ns=(NS, NS))
    return LayerTask(
        digest,
        len(blob),
        Digest.of(gzip.decompress(blob)),
        os.fsencode(directory),
        lowest=True,
        privileged=os.getuid() == 0,
    )


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, LayerTask]]:
    """Layers of which one is intact, one damaged, one has no blob, and one is another one's."""
    content = tmp_path_factory.mktemp("content")
    found = {name: unpacked(content, name) for name in ("intact", BAD)}
    with Path(os.fsdecode(found[BAD].directory), BAD).open("r+b") as file:
        file.write(b"!")
    absent = msgspec.structs.replace(found["intact"], digest=Digest.of(b"absent"))
    other = msgspec.structs.replace(found["intact"], diff_id=Digest.of(b"other"))
    return content, {**found, "absent": absent, "other": other}


def test_results(tasks: tuple[Path, Mapping[str, LayerTask]]) -> None:
    read: list[int] = []
    content, wanted = tasks
    found = compare_ahead(content, wanted, jobs=2, admit=read.append, least=0)
    assert set(found) == {"intact", BAD, "other"}
    assert found["intact"].differences == Differences((), 1, _skipped())
    damaged = found[BAD].differences
    assert isinstance(damaged, Differences)
    assert [(item.path, item.kind) for item in damaged.items if item.kind is not Kind.MTIME] == [
        (os.fsencode(BAD), Kind.CONTENT)
    ]
    assert found["other"].differences == "its layer's blob is damaged or does not match the diffID"
    verified = found["intact"].verification
    assert verified is not None
    assert (verified.kind, verified.digest) == (VerificationKind.SOUND, wanted["intact"].digest)
    assert sum(read) > 1 << 20


def _skipped() -> tuple[str, ...]:
    return () if os.getuid() == 0 else ("opaque markers: reading trusted.* xattrs needs CAP_SYS_ADMIN",)


@pytest.mark.parametrize(("jobs", "least"), [(1, 0), (2, 1 << 40)])
def test_no_process_is_started_where_it_saves_nothing(
    tasks: tuple[Path, Mapping[str, LayerTask]], jobs: int, least: int
) -> None:
    content, wanted = tasks
    assert compare_ahead(content, wanted, jobs=jobs, admit=_refuse, least=least) == {}


def test_a_process_that_does_not_start_leaves_all_to_the_caller(
    tasks: tuple[Path, Mapping[str, LayerTask]], monkeypatch: pytest.MonkeyPatch
) -> None:
    content, wanted = tasks
    monkeypatch.setattr("auditor.cli.compare_processes.sys.executable", "/bin/false")
    found = compare_ahead(content, wanted, jobs=2, admit=lambda _count: None, least=0)
    assert set(found) <= {"intact", BAD, "other"}
    assert len(found) >= 2  # the process was given one
    monkeypatch.setattr("auditor.cli.compare_processes.sys.executable", "/nonexistent")
    assert compare_ahead(content, wanted, jobs=2, admit=_refuse, least=0) == {}


def _refuse(_count: int) -> None:
    raise AssertionError
