"""Each known message has a source, real words that it is known by, and no other entry that takes them away."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from auditor import checks
from auditor.diagnose.extract import asked, search
from auditor.diagnose.messages import MESSAGES, RANK, Confidence, KnownMessage, recognise

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def samples() -> list[tuple[str, str]]:
    """The words of programs, each with the entry that must know it."""
    lines = Path(__file__).with_suffix(".txt").read_text().splitlines()
    rows = (line.partition("\t") for line in lines if not line.startswith("#"))
    return [(name, t.replace("{A}", A).replace("{B}", B).replace("{HEX}", "a" * 64)) for name, _, t in rows]


SAMPLES = samples()


def test_at_least_seventy_five_messages_are_known_and_each_has_its_words_here() -> None:
    assert len(MESSAGES) >= 75
    assert {name for name, _ in SAMPLES} == {known.id for known in MESSAGES}
    assert len(RANK) == len(MESSAGES)


@pytest.mark.parametrize(("name", "text"), SAMPLES)
def test_real_words_are_known_by_their_own_entry(name: str, text: str) -> None:
    found = recognise(text)
    assert found, text
    assert found[0].id == name, [known.id for known in found]


@pytest.mark.parametrize("entry", MESSAGES, ids=lambda known: known.id)
def test_each_entry_is_whole(entry: KnownMessage) -> None:
    assert entry.source
    assert re.search(r"\.go\b|github\.com|#\d|errno|bbolt|Go's|runc|klauspost|cmd/containerd", entry.source)
    assert entry.meaning.endswith(".")
    assert not entry.cause.endswith(".")
    assert entry.steps
    assert entry.impact
    codes = checks.RULEBOOK.keys()
    assert set(entry.findings) <= codes


_PROGRAMS = {
    "auditor", "cat", "crictl", "ctr", "curl", "date", "df", "dmesg", "docker", "du", "getent", "grep", "iostat",
    "journalctl", "ls", "mount", "openssl", "skopeo", "systemctl",
}  # fmt: skip


@pytest.mark.parametrize("entry", MESSAGES, ids=lambda known: known.id)
def test_what_helps_can_be_pasted_into_a_shell(entry: KnownMessage) -> None:
    for step in entry.steps:
        assert step.startswith("# ") or step.split()[0] in _PROGRAMS, step
        assert "rm -rf" not in step
        assert "prune" not in step


def test_a_log_finds_each_message_too() -> None:
    """The anchors that a log is searched by must be in whatever the pattern knows."""
    for name, text in SAMPLES:
        if name in {"image-not-found", "already-exists", "snapshot-exists"}:
            continue  # made of words that every log is full of
        found = search([b"nothing here\n" * 3 + text.encode() + b"\nnor here\n"])
        assert found.known, text
        assert found.known[0].id == name, text


def test_the_words_of_a_network_plugin_are_of_no_image() -> None:
    text = 'failed to set up sandbox container "be04" network for pod "a": networkPlugin cni failed to set up pod "a"'
    assert not recognise(f"{text} network: unexpected end of JSON input")


def test_only_what_is_its_own_proof_is_certain() -> None:
    certain = {known.id for known in MESSAGES if known.confidence is Confidence.CERTAIN}
    assert certain == {
        "disk-full", "io-error", "file-system-damaged", "read-only", "socket-denied", "rate-limited", "name-resolution",
        "open-files", "commit-algorithm", "certificate-expired", "no-d-type", "inotify-limit", "key-quota",
        "terminal-closed", "manifest-too-large",
    }  # fmt: skip


def test_case_and_wrapping_do_not_matter() -> None:
    assert recognise("CONTENT DIGEST " + A + ": NOT FOUND")
    wrapped = f'E0101 kubelet[7]: "Failed" err="failed to get reader: content digest {A}: not found" pod="x/y"'
    assert asked(wrapped).known[0].id == "missing-blob"
