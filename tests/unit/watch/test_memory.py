"""What is told, once each, also across restarts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from auditor.errors import OutputError, StateError
from auditor.model.findings import Finding, ImageRef, Severity, Subject
from auditor.watch.memory import Change, ChangeKind, Memory

SOCKET = "/run/containerd/containerd.sock"


def finding(
    digest: str = "sha256:1", *, severity: Severity = Severity.ERROR, names: tuple[str, ...] = ("app",)
) -> Finding:
    images = tuple(ImageRef(namespace="k8s.io", name=name, names=(name,), target=f"t-{name}") for name in names)
    return Finding(
        code="blob-missing",
        severity=severity,
        namespace="k8s.io",
        subject=Subject(kind="layer", digest=digest),
        message="m",
        images=images,
    )


ONE, TWO = finding(), finding("sha256:2", severity=Severity.CRITICAL)


def told(memory: Memory, *findings: Finding, complete: bool = True) -> tuple[Change, ...]:
    """Tell, record and save the changes."""
    changes = memory.changes(findings, complete=complete)
    for change in changes:
        memory.record(change)
    memory.save()
    return changes


def kinds(memory: Memory, *findings: Finding, complete: bool = True) -> list[tuple[str, str]]:
    return [(change.kind.value, change.finding.subject.digest) for change in told(memory, *findings, complete=complete)]


def test_each_change_is_told_once(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "state", address=SOCKET)
    assert kinds(memory) == []
    assert kinds(memory, ONE, TWO) == [("new", "sha256:2"), ("new", "sha256:1")]
    assert kinds(memory, ONE, TWO) == []
    assert kinds(memory, ONE) == [("gone", "sha256:2")]
    assert kinds(memory, finding(severity=Severity.CRITICAL)) == [("changed", "sha256:1")]
    assert kinds(memory, finding(severity=Severity.CRITICAL, names=("app", "b"))) == [("changed", "sha256:1")]


def test_a_restart_repeats_nothing_and_notices_what_went(tmp_path: Path) -> None:
    told(Memory(tmp_path / "state", address=SOCKET), ONE, TWO)
    again = Memory(tmp_path / "state", address=SOCKET)
    assert sorted(each.subject.digest for each in again.findings) == ["sha256:1", "sha256:2"]
    assert kinds(again, ONE) == [("gone", "sha256:2")]


def test_what_an_incomplete_check_did_not_see_is_not_gone() -> None:
    memory = Memory(None, address=SOCKET)
    assert kinds(memory, ONE) == [("new", "sha256:1")]
    assert kinds(memory, TWO, complete=False) == [("new", "sha256:2")]
    assert kinds(memory) == [("gone", "sha256:2"), ("gone", "sha256:1")]


def test_a_change_that_was_not_told_is_told_after_a_restart(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "state", address=SOCKET)
    memory.record(memory.changes([ONE, TWO], complete=True)[0])
    memory.save()
    assert kinds(Memory(tmp_path / "state", address=SOCKET), ONE, TWO) == [("new", "sha256:1")]


def test_a_state_that_could_not_be_written_is_written_later(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    memory = Memory(folder / "state", address=SOCKET)
    with pytest.raises(OutputError):
        told(memory, ONE)
    folder.mkdir()
    assert kinds(memory, ONE) == []
    assert kinds(Memory(folder / "state", address=SOCKET), ONE) == []


def test_findings_of_severity_info_are_not_told() -> None:
    assert kinds(Memory(None, address=SOCKET), finding(severity=Severity.INFO)) == []


def test_new_names_and_facts_of_the_same_image_are_no_change() -> None:
    memory = Memory(None, address=SOCKET)
    told(memory, ONE)
    other = msgspec.structs.replace(ONE.images[0], name="app@sha256:1")
    assert told(memory, msgspec.structs.replace(ONE, images=(other,), facts={"size": 3}, message="n")) == ()


def test_which_images_were_told_of() -> None:
    memory = Memory(None, address=SOCKET)
    told(memory, ONE)
    assert memory.concerns("k8s.io", "t-app", "")
    assert memory.concerns("k8s.io", "", "app")
    assert not memory.concerns("moby", "t-app", "app")
    assert not memory.concerns("k8s.io", "t-other", "other")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is not a state"),
        (b"{}", "is not a state"),
        (b"\xff\xfe", "is not a state"),
        (b'{"schema":"containerd-auditor/watch/v9","address":"a","findings":[]}', "is not a state"),
        (b'{"schema":"containerd-auditor/watch/v1","address":"/other","findings":[]}', "is the state of /other"),
    ],
)
def test_a_file_that_is_another_is_refused_and_left_alone(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "state"
    path.write_bytes(content)
    with pytest.raises(StateError, match=why) as caught:
        Memory(path, address=SOCKET)
    assert caught.value.hint
    assert path.read_bytes() == content


def test_the_kinds_are_the_words_of_ndjson() -> None:
    assert {kind.value for kind in ChangeKind} == {"new", "changed", "gone"}
