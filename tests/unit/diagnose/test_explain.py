"""Verdicts on small stores: which cause comes first, how sure it is, what is said where nothing can be known."""

from __future__ import annotations

import shlex
from datetime import timedelta

import msgspec
import pytest

from auditor.cli.runs.diagnosis_page import page
from auditor.diagnose.commands import CommandTarget
from auditor.diagnose.evidence_index import EvidenceIndex
from auditor.diagnose.explain import exit_status, explain
from auditor.diagnose.extract import Mentions, asked
from auditor.diagnose.messages import Confidence
from auditor.diagnose.model import Diagnosis, Outcome
from auditor.diagnose.resolve import find
from auditor.formats.diagnosis import markdown, text
from auditor.formats.json_report import to_json
from auditor.model.digest import Digest
from auditor.model.findings import Verify
from auditor.model.store import Lease, Resource, SourceKind, Verification, VerificationKind
from auditor.report.image_tree import TreeNode, trees
from tests.unit.build import APP, BASE, MIDDLE, TOP, Layer, World, image, index

NAME = "registry.corp/team/app:1"
TARGET = CommandTarget()


def world() -> World:
    made = World()
    made.pull(APP, NAME)
    return made


def told(made: World, words: str, *, verifications: dict[Digest, Verification] | None = None) -> tuple[Diagnosis, int]:
    made.verifications = verifications or {}
    outcome = made.audit(verify=Verify.LAYERS)
    leases = {v.name: tuple(with_resources(made, v.name)) for v in outcome.evidence.views}
    index = EvidenceIndex(outcome.evidence, outcome.findings, leases=leases)
    answer = explain(asked(words), index, target=TARGET, looked_at="memory")
    return answer, exit_status(answer, index, alone=False)


def with_resources(made: World, namespace: str) -> list[Lease]:
    held = made.store.inventory(namespace).leases
    return [msgspec.structs.replace(x, resources=made.store.resources(namespace, x.id)) for x in held]


def missing(digest: str) -> str:
    return f"ctr: failed to get reader: content digest {digest}: not found"


def test_a_message_about_a_fault_is_explained_by_it() -> None:
    made = world()
    made.drop(BASE.digest)
    answer, status = told(made, missing(BASE.digest))
    assert (answer.verdict.code, status, answer.verdict.outcome) == ("snapshot-without-blob", 1, Outcome.FAULT)


def test_a_message_that_no_fault_of_the_store_makes_is_not() -> None:
    made = world()
    made.drop(BASE.digest)
    words = f'failed to pull and unpack image "{NAME}": failed to copy: 429 Too Many Requests'
    answer, status = told(made, words)
    assert answer.verdict.message == "rate-limited"
    assert answer.verdict.code == ""
    assert status == 1  # the image that is named is damaged all the same, and said to be
    assert "snapshot-without-blob" in answer.objects[0].findings


def test_a_fault_elsewhere_explains_only_a_message_that_names_nothing() -> None:
    made = world()
    other = image(Layer("other"))
    made.pull(other, "registry.corp/other:1")
    made.store.content[TOP.digest] = b""
    answer, _ = told(made, "ctr: unexpected EOF")
    assert (answer.verdict.code, answer.verdict.sure) == ("size-mismatch", Confidence.LIKELY)
    named, status = told(made, 'failed to unpack image "registry.corp/other:1": unexpected EOF')
    assert (named.verdict.code, named.verdict.message, status) == ("", "unexpected-end", 0)


def test_several_faults_that_would_do_are_all_told() -> None:
    made = world()
    made.store.content[TOP.digest] = b""
    made.store.content[MIDDLE.digest] = b"x"
    answer, _ = told(made, "ctr: unexpected EOF")
    assert answer.verdict.sure is Confidence.POSSIBLE
    assert any(line.startswith("or: ") for line in answer.verdict.evidence)


def test_the_digest_of_wrong_bytes_proves_the_fault() -> None:
    made = world()
    actual = Digest.of(b"other bytes")
    proof = Verification(TOP.digest, VerificationKind.CORRUPT, size=len(TOP.data), actual=actual, detail="changed")
    answer, status = told(made, f"ctr: unexpected digest {actual} copied", verifications={TOP.digest: proof})
    assert (answer.verdict.code, answer.verdict.sure, status) == ("digest-mismatch", Confidence.CERTAIN, 1)


def test_certain_only_with_proof() -> None:
    made = world()
    made.drop(BASE.digest)
    assert (
        told(made, BASE.digest)[0].verdict.sure is Confidence.LIKELY
    )  # nothing wrote down what the snapshot was made of
    made = world()
    made.store.content[TOP.digest] = b""
    assert told(made, TOP.digest)[0].verdict.sure is Confidence.CERTAIN
    # The image is damaged for certain; that this made the message is likely.
    named, _ = told(made, f'ctr: apply layer error for "{NAME}": unexpected EOF')
    assert (named.verdict.code, named.verdict.sure) == ("size-mismatch", Confidence.LIKELY)


def test_a_layer_that_is_several_blobs_is_no_proof_of_one() -> None:
    """A chainID is that of each blob with this content; nothing tells which of two damaged ones was unpacked."""
    one, other = Layer("same", "gzip -1"), Layer("same", "gzip -9")
    made = World()
    for number, layer in enumerate((one, other)):
        made.pull(image(layer, author=str(number)), f"registry.corp/app:{number}")
    made.store.content[one.digest] = b""
    words = f"ctr: failed to extract layer {one.diff_id}: unexpected EOF: unknown"
    assert told(made, words)[0].verdict.sure is Confidence.CERTAIN
    made.store.content[other.digest] = b""
    verdict = told(made, words)[0].verdict
    assert verdict.sure is Confidence.LIKELY
    assert "2 faults" in verdict.because
    assert any(line.startswith("or: ") for line in verdict.evidence)


def test_sound_is_certain_only_where_the_bytes_were_read() -> None:
    answer, status = told(world(), TOP.digest)
    assert (answer.verdict.outcome, answer.verdict.sure, status) == (Outcome.SOUND, Confidence.LIKELY, 0)
    read = {TOP.digest: Verification(TOP.digest, VerificationKind.SOUND, size=len(TOP.data))}
    assert told(world(), TOP.digest, verifications=read)[0].verdict.sure is Confidence.CERTAIN


def test_absent_by_design_is_no_fault() -> None:
    made = World()
    arm = image(Layer("arm"), platform="linux/arm64")
    both = index(APP, arm)
    made.pull(both, NAME)
    answer, status = told(made, missing(arm.digest))
    assert (answer.verdict.outcome, status) == (Outcome.BY_DESIGN, 0)
    assert "platform" in answer.verdict.cause


def test_a_digest_that_nobody_knows_is_three() -> None:
    answer, status = told(world(), f"sha256:{'0' * 64}")
    assert (answer.verdict.outcome, answer.verdict.sure, status) == (Outcome.UNKNOWN, Confidence.UNKNOWN, 3)
    assert "k8s.io" in answer.missing[0]
    answer, status = told(world(), missing(f"sha256:{'0' * 64}"))
    assert (answer.verdict.outcome, status) == (Outcome.MESSAGE, 3)


def test_an_image_that_nobody_has_is_three() -> None:
    answer, status = told(world(), "registry.corp/none:1")
    assert (answer.verdict.outcome, status) == (Outcome.UNKNOWN, 3)


def test_a_message_that_names_nothing_and_fits_nothing_here_is_no_fault() -> None:
    answer, status = told(world(), "ctr: wrong diff id calculated on extraction")
    assert (answer.verdict.outcome, answer.verdict.sure, status) == (Outcome.MESSAGE, Confidence.POSSIBLE, 0)


def test_a_prefix_that_fits_several_says_what_each_is() -> None:
    made = World()
    layers = [Layer(f"many {n}") for n in range(40)]
    many = image(*layers)
    made.pull(many, NAME)
    by: dict[str, int] = {}
    for layer in layers:
        by[layer.digest.hex[:1]] = by.get(layer.digest.hex[:1], 0) + 1
    outcome = made.audit()
    index = EvidenceIndex(outcome.evidence, outcome.findings)
    short = max(by, key=lambda digit: by[digit])
    found = index.complete(short)
    assert len(found) > 1
    named = find(Mentions(prefixes=(short,)), index)
    assert not named.objects
    assert f"begins {len(found)} digests" in named.missing[0]
    assert all(NAME in candidate.what for candidate in named.candidates if "layer" in candidate.what), named.candidates
    assert {candidate.what.split()[0] for candidate in named.candidates} & {"layer", "diffID", "chainID"}


def test_everything_about_a_layer() -> None:
    made = world()
    made.lease("holder", Resource("content", TOP.digest), Resource("snapshots/overlayfs", APP.chain[2]))
    made.ingest(f"layer-{TOP.digest}", age=timedelta(days=3))
    answer, _ = told(made, TOP.digest)
    (entry,) = answer.objects
    assert entry.kind == "layer"
    assert [use.image.layer for use in entry.uses] == [2]
    (where,) = entry.where
    assert where.leases == ("holder",)
    assert where.ingests[0].startswith(f"layer-{TOP.digest}: 5 of 10 bytes")
    assert where.protected
    assert where.labels
    assert [member.chain_id for member in entry.snapshots] == list(APP.chain)
    assert set(entry.snapshots[-1].holders) == {f"image {NAME}", "lease holder"}
    assert entry.snapshots[0].holders == (f"snapshot {APP.chain[1][:19]} on it",)


def test_an_image_is_told_by_platform() -> None:
    (entry,) = told(world(), NAME)[0].objects
    assert entry.kind == "image"
    assert [(p.layers, p.layers_present, p.unpacked) for p in entry.platforms] == [(3, 3, ("overlayfs",))]


def test_a_chain_and_a_diff_lead_to_the_layer_that_is_at_fault() -> None:
    made = world()
    made.store.content[TOP.digest] = b""
    for asked_for in (APP.chain[2], TOP.diff_id, TOP.diff_id.hex[:12]):
        answer, status = told(made, asked_for)
        assert (answer.verdict.code, status) == ("size-mismatch", 1), asked_for


def test_a_name_that_looks_like_an_option_is_in_no_command() -> None:
    made = World()
    made.pull(APP, "-n evil")
    made.drop(BASE.digest)
    answer, _ = told(made, BASE.digest)
    assert answer.verdict.commands
    for command in answer.verdict.commands:
        words = shlex.split(command, comments=True)
        assert words[0] == "auditor"
        assert str(APP.digest) in words
        assert "-n evil" not in words


@pytest.mark.parametrize("name", ["a; rm -rf ~", "$(reboot)", "x' && y"])
def test_names_in_commands_are_only_names(name: str) -> None:
    made = World()
    made.pull(APP, name)
    made.drop(BASE.digest)
    answer, _ = told(made, BASE.digest)
    for command in answer.verdict.commands:
        words = shlex.split(command, comments=True)
        assert words[0] in {"auditor", "ctr", "crictl"}
        assert name in words


def test_the_safe_command_comes_first() -> None:
    made = world()
    made.drop(BASE.digest)
    commands = told(made, BASE.digest)[0].verdict.commands
    assert "--dry-run" in commands[0]
    assert commands[0].startswith("auditor repair -n k8s.io")
    assert any(command.startswith("ctr -n k8s.io content fetch") for command in commands)


def test_a_store_at_another_address_is_named_in_each_command() -> None:
    made = world()
    made.drop(BASE.digest)
    outcome = made.audit()
    target = CommandTarget(address="/run/k3s/containerd/containerd.sock")
    answer = explain(
        asked(BASE.digest), EvidenceIndex(outcome.evidence, outcome.findings), target=target, looked_at="x"
    )
    assert all("/run/k3s/containerd/containerd.sock" in command for command in answer.verdict.commands)


def test_commands_for_a_disk_need_no_daemon() -> None:
    target = CommandTarget(kind=SourceKind.OFFLINE, root="/mnt/a disk")
    for words in (missing(BASE.digest), "panic: page 47 already freed"):
        diagnosis = explain(asked(words), None, target=target, looked_at="")
        helps = diagnosis.verdict.commands
        assert any(step.startswith("auditor recover --root '/mnt/a disk'") for step in helps)
        assert not any(step.startswith(("ctr ", "crictl ", "auditor repair ")) for step in helps)
        assert all("--root '/mnt/a disk'" in step for step in helps if step.startswith("auditor "))


def test_without_a_store_only_the_text_is_explained() -> None:
    known = explain(asked(missing(TOP.digest)), None, target=TARGET, looked_at="")
    assert known.verdict.message == "missing-blob"
    assert exit_status(known, None, alone=True) == 0
    assert exit_status(known, None, alone=False) == 3
    unknown = explain(asked("hello there"), None, target=TARGET, looked_at="")
    assert exit_status(unknown, None, alone=True) == 3
    assert "no store was looked at" in unknown.unknown[0]


@pytest.mark.parametrize(
    "words",
    [
        "привет, образ не найден",
        "镜像损坏",
        "\x00\x01\x02\xff",
        pytest.param("a" * 4000, marks=pytest.mark.slow),
        "\x1b]0;evil\x07",
        "x\u202egnp.exe",
        "🙂" * 500,
    ],
)
def test_ugly_texts_get_a_useful_answer_in_each_format(words: str) -> None:
    answer, status = told(world(), words)
    assert status == 3
    shown = page(answer)
    for rendered in (text(shown), markdown(shown), to_json(answer)):
        assert "auditor check" in rendered
        assert all(char == "\n" or char.isprintable() for char in rendered)


def test_an_old_lease_and_an_old_upload_are_not_taken_for_work_under_way() -> None:
    made = world()
    made.drop(TOP.digest)
    made.drop_snapshots(APP.chain[2])
    made.ingest(f"layer-{TOP.digest}", age=timedelta(days=9))
    answer, status = told(made, missing(TOP.digest))
    assert (answer.verdict.code, status) == ("incomplete-image", 1)


def test_collecting_twice_says_the_same() -> None:
    made = world()
    made.drop(BASE.digest)
    assert told(made, BASE.digest) == told(made, BASE.digest)


def nodes(node: TreeNode) -> list[TreeNode]:
    return [node, *(below for child in node.children for below in nodes(child))]


def test_a_tree_tells_the_same_causes() -> None:
    made = world()
    made.drop(BASE.digest)
    made.store.content[TOP.digest] = b""
    outcome = made.audit()
    (tree,) = trees(outcome.evidence, outcome.findings)
    by = {node.digest: node for node in nodes(tree.root)}
    for digest in (BASE.digest, TOP.digest):
        answer, _ = told(made, digest)
        assert by[digest].faults == answer.objects[0].findings
        assert by[digest].why
        assert answer.verdict.cause.startswith(by[digest].why)
    assert by[MIDDLE.digest].faults == ()
