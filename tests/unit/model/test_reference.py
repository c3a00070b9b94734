"""Image references, by the examples of distribution/reference and the names that containerd's clients write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import UsageError
from auditor.model import reference
from auditor.model.digest import Digest

HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
SHA = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("busybox", "docker.io/library/busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("docker.io/busybox", "docker.io/library/busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
        ("team/app:v1", "docker.io/team/app:v1"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:x", "localhost:5000/app:x"),
        ("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c:latest"),
        ("[::1]:5000/app", "[::1]:5000/app:latest"),
        ("[fd00::2]/app", "[fd00::2]/app:latest"),
        ("Registry/app", "Registry/app:latest"),
        ("ghcr.io/org/app__x-y.z:T_1.2-3", "ghcr.io/org/app__x-y.z:T_1.2-3"),
        (f"ghcr.io/org/app@{SHA}", f"ghcr.io/org/app@{SHA}"),
        (f"ghcr.io/org/app:v1@{SHA}", f"ghcr.io/org/app:v1@{SHA}"),
        (f"busybox@{SHA}", f"docker.io/library/busybox@{SHA}"),
    ],
)
def test_names_are_completed(text: str, whole: str) -> None:
    assert str(reference.parse(text)) == whole


@pytest.mark.parametrize(
    "text",
    [
        "",
        SHA,
        HEX,
        "/app",
        "app/",
        "host.example/",
        "UPPER",
        "ghcr.io/Org/app",
        "a//b",
        "app:",
        "app:.x",
        f"app:{'t' * 129}",
        "app@sha256:abc",
        f"app@{SHA}@{SHA}",
        f"app@SHA256:{HEX}",
        "https://ghcr.io/org/app",
        "ghcr.io/org/app?x=y",
        "user:pass@ghcr.io/org/app",
        f"ghcr.io/{'a' * 256}",
        "app\n",
        "ghcr.io/../etc/passwd",
        "import-2024-01-01@",
    ],
)
def test_other_names_are_no_references(text: str) -> None:
    assert reference.find(text) is None
    with pytest.raises(UsageError, match="is not an image reference"):
        reference.parse(text)


def test_the_parts_of_a_reference() -> None:
    found = reference.parse(f"registry.example:8443/team/app:v1@{SHA}")
    assert (found.host, found.hostname, found.repository) == ("registry.example:8443", "registry.example", "team/app")
    assert (found.tag, found.digest) == ("v1", Digest(SHA))
    assert found.name == "registry.example:8443/team/app"


@pytest.mark.parametrize(
    ("host", "bare"),
    [("a.example", "a.example"), ("a.example:1", "a.example"), ("[::1]:5", "::1"), ("[::1]", "::1"), ("::1", "::1")],
)
def test_a_host_without_its_port(host: str, bare: str) -> None:
    assert reference.hostname(host) == bare


@given(st.text(max_size=80))
def test_what_parses_is_its_own_normal_form(text: str) -> None:
    found = reference.find(text)
    if found is not None:
        assert reference.find(str(found)) == found
