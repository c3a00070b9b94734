"""What stands around the error decides: unpacking, archives, folders that exist, platforms, configs without a type."""

from __future__ import annotations

import io
import tarfile
import time
from pathlib import Path

import pytest

from auditor.cli import app
from auditor.cli.runs.diagnosis_page import page
from auditor.diagnose.commands import CommandTarget
from auditor.diagnose.evidence_index import EvidenceIndex
from auditor.diagnose.explain import explain
from auditor.diagnose.extract import asked
from auditor.diagnose.messages import Confidence, recognise
from auditor.diagnose.model import Diagnosis, Outcome
from auditor.formats.diagnosis import markdown
from tests.unit.build import APP, BASE, Layer, World, image, index
from tests.unit.checks.test_rules import documents_only

NAME = "registry.corp/team/app:1"
FOLDER = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/112/fs"
ABSENT = f'failed to prepare extraction snapshot "x": failed to stat parent: stat {FOLDER}: no such file or directory'


def told(made: World, words: str, *, folders: dict[str, bool] | None = None) -> Diagnosis:
    outcome = made.audit()
    evidence = EvidenceIndex(outcome.evidence, outcome.findings)
    return explain(asked(words), evidence, target=CommandTarget(), looked_at="memory", folders=folders)


@pytest.mark.parametrize(
    "words",
    [
        'failed to extract layer: failed to convert whiteout file "a/.wh.b": input/output error',
        "failed to register layer: unlinkat /var/log/x: input/output error",
        "failed to mount /var/lib/containerd/tmpmounts/containerd-mount1: input/output error: unknown",
    ],
)
def test_an_io_error_of_unpacking_does_not_prove_a_failing_disk(words: str) -> None:
    (first, *_) = recognise(words)
    assert first.id != "io-error"
    assert first.confidence is not Confidence.CERTAIN


def test_a_folder_that_exists_is_not_seen_by_the_program() -> None:
    made = World()
    made.pull(APP, NAME)
    there = told(made, ABSENT, folders={FOLDER: True}).verdict
    assert "another mount namespace" in there.cause
    assert there.sure is Confidence.LIKELY
    assert FOLDER in there.commands[0]
    gone = told(made, ABSENT, folders={FOLDER: False}).verdict
    assert "another mount namespace" not in gone.cause
    assert f"{FOLDER} does not exist on this machine" in gone.evidence
    unknown = told(made, ABSENT).verdict
    assert not any("does not exist on this machine" in line for line in unknown.evidence)


def test_the_folder_is_looked_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "snapshots" / "7" / "fs"
    folder.mkdir(parents=True)
    words = f"failed to stat parent: stat {folder}: no such file or directory"
    assert app.main(["diagnose", "--address", str(tmp_path / "none.sock"), words]) == 3
    assert f"{folder} is there" in " ".join(capsys.readouterr().out.split())


def test_a_known_text_is_explained_though_the_named_daemon_is_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["diagnose", "--address", str(tmp_path / "none.sock"), "panic: invalid page type: 4: 10"]) == 3
    said = capsys.readouterr()
    assert "bolt database" in said.out
    assert "the text alone is explained" in said.err


def test_only_another_platform_is_here() -> None:
    made = World()
    arm = image(Layer("arm"), platform="linux/arm64")
    both = index(APP, arm)
    made.pull(both, NAME)
    absent = told(made, f"ctr: failed to get reader: content digest {arm.digest}: not found").verdict
    assert absent.outcome is Outcome.BY_DESIGN
    assert f"auditor export -n k8s.io {NAME} --platform linux/amd64 -o FILE" in absent.commands
    assert not any("OS/ARCH" in command for command in absent.commands)
    named = told(made, f'image "{NAME}": no match for platform in manifest {both.digest}: not found').verdict
    assert any("linux/amd64" in line for line in (*named.evidence, *named.commands))


def test_commands_carry_the_platform_that_was_asked_about() -> None:
    made = World()
    made.pull(APP, NAME)
    made.drop(BASE.digest)
    outcome = made.audit()
    evidence = EvidenceIndex(outcome.evidence, outcome.findings)
    target = CommandTarget(platforms=("linux/amd64",))
    words = f"ctr: content digest {BASE.digest}: not found"
    commands = explain(asked(words), evidence, target=target, looked_at="memory").verdict.commands
    assert commands
    assert all("--platform linux/amd64" in command for command in commands), commands
    alone = explain(asked("ctr: unexpected EOF"), None, target=target, looked_at="").verdict.commands
    assert alone[0] == "auditor check --platform linux/amd64"


def test_a_config_without_an_image_type_explains_layers_that_were_never_fetched() -> None:
    for kind, explained in (("application/octet-stream", True), ("application/vnd.oci.image.config.v1+json", False)):
        made = World()
        old = image(BASE, config_type=kind)
        made.pull(old, NAME)
        made.drop(BASE.digest)
        made.drop_snapshots(*old.chain)
        verdict = told(made, f"ctr: content digest {BASE.digest}: not found").verdict
        assert verdict.code == "incomplete-image"
        assert any("application/octet-stream" in line for line in verdict.evidence) is explained


def test_layers_that_were_never_fetched_lead() -> None:
    made = World()
    documents_only(made)
    (held,) = made.inventory.images
    verdict = told(made, f"ctr: content digest {BASE.digest}: not found").verdict
    assert (verdict.code, verdict.sure) == ("layers-not-fetched", Confidence.LIKELY)
    assert "only the documents" in verdict.cause
    assert "deleted before it was used" in verdict.because
    assert verdict.commands[0] == f"crictl pull {held.name}  # fetches its layers"


@pytest.mark.parametrize("member", ["blobs/sha256/" + "a" * 64, "6c37da2e/layer.tar"])
def test_a_cut_archive_leads(member: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        entry = tarfile.TarInfo(member)
        entry.size = 20_000
        tar.addfile(entry, io.BytesIO(b"x" * entry.size))
    archive = tmp_path / "cut.tar"
    archive.write_bytes(written.getvalue()[:5_000])
    words = f'ctr: failed to ingest "{member}": short read: expected 20000 bytes but got 4488: unexpected EOF'
    assert app.main(["diagnose", "--archive", str(archive), words]) == 1
    out = capsys.readouterr().out
    assert "archive-truncated" in out.split("confidence:")[0]
    assert "registry" not in out.split("confidence:")[0]


def test_a_buildkit_cache_is_no_record_without_a_file() -> None:
    found = recognise("error: failed to solve: failed to compute cache key: blob not found")
    assert found[0].id == "build-cache-blob"
    assert not found[0].findings


def test_a_long_word_takes_no_quadratic_time() -> None:
    def seconds(length: int) -> float:
        answer = explain(asked("a" * length), None, target=CommandTarget(), looked_at="")
        start = time.process_time()
        markdown(page(answer))
        return time.process_time() - start

    seconds(10)
    assert seconds(4_000) < 0.2
