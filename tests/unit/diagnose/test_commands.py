"""Each line that helps with a message is one that its program takes: verbs and options are those of the program."""

from __future__ import annotations

import importlib
import shlex
from collections.abc import Iterator
from typing import Final

import msgspec
import pytest
import typer

from auditor import checks
from auditor.cli.app import COMMANDS
from auditor.cli.program import program
from auditor.diagnose import commands
from auditor.diagnose.commands import CommandTarget
from auditor.diagnose.messages import MESSAGES
from auditor.model.findings import Finding, ImageRef, Subject
from auditor.model.store import SourceKind

NAME, DIGEST = "registry.corp/team/app:1", f"sha256:{'a' * 64}"
#: The options of each verb, with the number of words that follow; of crictl 1.34, docker 28, skopeo 1.9 and ctr 2.1.
CLIENTS: Final[dict[str, dict[str, dict[str, int]]]] = {
    "crictl": {"": {"-r": 1}, "images": {}, "ps": {"-a": 0, "--image": 1}, "pull": {"--creds": 1}, "rmi": {}},
    "docker": {"": {}, "pull": {"--platform": 1}},
    "skopeo": {"": {}, "inspect": {"--raw": 0}, "copy": {"--format": 1}},
    "ctr": {
        "": {"-a": 1, "-n": 1, "--address": 1},
        "containers ls": {"-q": 0},
        "content active": {},
        "content fetch": {"--platform": 1, "--all-platforms": 0},
        "images export": {"--platform": 1},
        "images ls": {},
        "images mount": {},
        "images pull": {"--platform": 1},
        "images rm": {"--sync": 0},
        "plugins ls": {},
        "tasks ls": {},
    },
}
AUDITOR: Final = typer.main.get_command(
    program({name: importlib.import_module(f"auditor.cli.commands.{name}") for name in COMMANDS})
)
TARGETS: Final = {
    "no address": CommandTarget(),
    "an address": CommandTarget(address="/run/a b/containerd.sock", platforms=("linux/arm64",)),
    "a root": CommandTarget(kind=SourceKind.OFFLINE, root="/mnt/a b", while_running=True),
}


def simple(line: str) -> Iterator[list[str]]:
    """The commands of a line without its comment, as words."""
    reader = shlex.shlex(line, posix=True, punctuation_chars=True)
    reader.whitespace_split, reader.commenters = True, "#"
    words: list[str] = []
    for word in [*reader, ";"]:
        if word in {";", "&&", "|"}:
            yield words
            words = []
        else:
            words.append(word)


def assert_taken(line: str) -> None:
    for program_, *words in filter(None, simple(line)):
        if program_ == "auditor":
            verb, *rest = words
            AUDITOR.commands[verb].make_context(verb, rest)  # type: ignore[attr-defined]
        elif program_ in CLIENTS:
            verbs = CLIENTS[program_]
            rest = _without_options(words, verbs[""])
            verb = next(name for name in (" ".join(rest[:2]), rest[0]) if name in verbs)
            names = _without_options(rest[len(verb.split()) :], verbs[verb])
            assert not any(name.startswith("-") for name in names), line


def _without_options(words: list[str], options: dict[str, int]) -> list[str]:
    while words and words[0].startswith("-"):
        words = words[1 + options[words[0]] :]
    return words


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("name", [NAME, f"{NAME}@{DIGEST}", "-rf", ""])
def test_each_step_of_a_known_message_is_taken(name: str, target: CommandTarget) -> None:
    for step in {step for known in MESSAGES for step in known.steps}:
        line = commands.filled(step, name=name, digest=DIGEST, namespace="k8s.io", target=target)
        assert_taken(line)
        assert "{image}" not in line
        assert " -rf" not in line
        if target.address and not line.startswith("#"):
            assert all(
                target.address in " ".join(each) for each in simple(line) if each and each[0] in {"ctr", "crictl"}
            )


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
@pytest.mark.parametrize("namespace", ["k8s.io", "moby", "default"])
@pytest.mark.parametrize("name", [NAME, f"{NAME}@{DIGEST}", "-rf"])
def test_each_command_for_a_finding_is_taken(name: str, namespace: str, target: CommandTarget) -> None:
    image = ImageRef(namespace=namespace, name=name, target=DIGEST)
    for rule in checks.RULES:
        finding = Finding(
            code=rule.code,
            severity=rule.severity,
            namespace=namespace,
            subject=Subject(kind="layer", digest=DIGEST),
            message="",
            images=(image,),
            hint=rule.remedy,
        )
        for line in commands.for_finding(finding, target):
            assert line.startswith(("# ", "dmesg ", "auditor ", *(f"{client} " for client in CLIENTS))), line
            assert_taken(line)
    for by_design in ("the node discards layers", "of another platform"):
        for line in commands.for_design(target, namespace, NAME, by_design, platforms=("linux/amd64",)):
            assert_taken(line)


def _commands(code: str, **fields: object) -> list[str]:
    rule = checks.RULEBOOK[code]
    image = ImageRef(namespace="k8s.io", name=NAME, names=(NAME,), target=DIGEST)
    finding = Finding(
        code=code,
        severity=rule.severity,
        namespace="k8s.io",
        subject=Subject(kind="index", digest=DIGEST),
        message="",
        images=(image,),
        hint=rule.remedy,
    )
    return list(commands.for_finding(msgspec.structs.replace(finding, **fields), CommandTarget()))


def test_sizes_that_differ_without_damage_lead_to_no_repair() -> None:
    assert any(" repair " in line for line in _commands("size-mismatch", cause="shortened"))
    assert not any(" repair " in line for line in _commands("size-mismatch", cause="records-disagree"))


def test_the_platforms_that_an_image_has_can_be_exported() -> None:
    found = _commands("no-matching-platform", facts={"wanted": "linux/amd64", "found": "linux/arm64"})
    assert found[0] == f"auditor export -n k8s.io {NAME} --platform linux/arm64 -o FILE"
    nothing = _commands("no-matching-platform", facts={"wanted": "linux/amd64", "found": ""})
    assert not any("--platform" in line for line in nothing)


def test_skopeo_is_given_no_tag_beside_a_digest() -> None:
    line = commands.filled(
        "skopeo inspect docker://{image}",
        name=f"{NAME}@{DIGEST}",
        digest="",
        namespace="",
        target=TARGETS["no address"],
    )
    assert line == f"skopeo inspect docker://registry.corp/team/app@{DIGEST}"


def test_words_that_no_program_knows_are_found() -> None:
    for line in ("ctr images unpack x", "crictl rm x", "auditor check --nothing", "docker pull --all-platforms x"):
        with pytest.raises((KeyError, StopIteration, typer.exceptions.TyperException)):
            assert_taken(line)
