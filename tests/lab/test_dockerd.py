"""Docker's engine keeps its images in containerd: there the bug is in namespace moby, and Docker does not say so."""

from __future__ import annotations

import shlex

from tests import images
from tests.lab.checked import auditor, check, loud
from tests.lab.diagnosed import ask
from tests.lab.kit import bug, faults
from tests.lab.kit.dockerd import Dockerd
from tests.lab.kit.registry import Registry
from tests.lab.test_check import assert_bug


def test_two_docker_pulls(dockerd: Dockerd, registry: Registry) -> None:
    found = bug.reproduce_docker(dockerd, registry, name="docker-check")
    assert found.second not in dockerd.images()
    ran = check(dockerd.containerd, apart=True)
    assert ran.status == 1
    assert_bug(ran.report, found)
    assert {finding.namespace for finding in ran.report.findings} == {"moby"}
    assert check(dockerd.containerd, found.first).status == 0


def test_a_sound_engine(dockerd: Dockerd, registry: Registry) -> None:
    """An index with an attestation, as docker build pushes it, and a Docker schema 2 image."""
    layers = [images.layer(images.files(f"docker-sound-{number}", kilobytes=16)) for number in range(2)]
    arm = images.image(layers[:1], platform="linux/arm64")
    dockerd.pull(registry.push(images.index([images.image(layers), arm], attestations=True), "lab/docker-index:1"))
    old = images.image([images.layer({"old": b"one"}, flavour="docker")], flavour="docker")
    dockerd.pull(registry.push(old, "lab/docker-old:1"))
    ran = check(dockerd.containerd)
    assert (loud(ran.report), ran.status) == (set(), 0)
    assert {image.namespace for image in ran.report.images} == {"moby"}
    assert len(ran.report.images) == 2


def test_the_pull_that_diagnose_prints_removes_the_fault(dockerd: Dockerd, registry: Registry) -> None:
    built = images.image([images.layer(images.files("docker-pull", kilobytes=16))])
    reference = registry.push(built, "lab/docker-pull:1")
    dockerd.pull(reference)
    faults.remove_record(dockerd.containerd, built.config_digest, namespace="moby")
    (line,) = (
        line for line in ask(dockerd.containerd, built.config_digest)[0].verdict.commands if line.startswith("docker ")
    )
    client, verb, name = shlex.split(line, comments=True)
    assert (client, verb, name) == ("docker", "pull", reference)
    dockerd.pull(name)
    assert loud(check(dockerd.containerd).report) == set()


def test_the_engines_own_socket_is_not_containerds(dockerd: Dockerd) -> None:
    ran = auditor("check", "--address", dockerd.socket)
    assert ran.status == 3
    assert ran.out == ""
    sentence, hint = ran.err.splitlines()
    assert sentence == f"auditor: the program that listens at {dockerd.socket} does not answer as containerd does"
    assert "dockerd" in hint
