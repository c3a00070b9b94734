"""Diagnoses for people: the answer first, nothing that a terminal obeys, no host and no credential in Markdown."""

from __future__ import annotations

import pytest

from auditor.formats.diagnosis import Page, Section, markdown, text
from auditor.formats.redact import Veil, without_credentials

A = f"sha256:{'a1' * 32}"


def page(line: str, **more: object) -> Page:
    sections = (Section("Why", (line,)), Section("Do", (f"auditor check {line}",), code=True))
    return Page(line=line, cause=line, sure="likely: x", next="auditor check", sections=sections, **more)  # type: ignore[arg-type]


def test_the_answer_comes_first() -> None:
    lines = text(page("the cause")).splitlines()
    assert [line.split()[0] for line in lines if line][:4] == ["asked:", "cause:", "confidence:", "next:"]


@pytest.mark.parametrize("bad", ["a\x1b[31mred", "a\u202eb", "a\rb", "a\x00b", "a\x9bb"])
def test_nothing_that_a_terminal_obeys(bad: str) -> None:
    for shown in (text(page(bad)), markdown(page(bad))):
        assert bad not in shown
        assert all(char == "\n" or char.isprintable() for char in shown)


def test_a_name_of_four_thousand_characters_is_cut() -> None:
    assert len(text(page("n" * 4000))) < 8000


@pytest.mark.parametrize(
    "secret",
    [
        "https://robot:hunter2@registry.corp/v2/x",
        "Authorization: Basic aHVudGVyMg==hunter2",
        "Authorization: Bearer hunter2.hunter2",
        "authorization=hunter2",
        'Proxy-Authorization: "Basic hunter2"',
        "bearer hunter2hunter2",
        "password=hunter2 user=robot",
        'err="token: hunter2"',
        r"{\"auth\": \"hunter2\"}",
        '{"auths":{"registry.corp":{"auth":"hunter2","identitytoken":"hunter2"}}}',
        '{"username":"robot","password":"hunter2"}',
        "crictl pull --creds robot:hunter2 registry.corp/x:1",
        "ctr images pull --user robot:hunter2 registry.corp/x:1",
        "ctr i pull -u robot:hunter2 registry.corp/x:1",
        "https://bucket.s3.amazonaws.com/x?X-Amz-Signature=hunter2&X-Amz-Date=1",
        "https://blob.core.windows.net/x?sv=1&sig=hunter2",
        "x eyJhbGciOiJIUzI1NiJ9.hunter2.hunter2 y",
        "AWS_SECRET: x, access_token=hunter2",
        "export REGISTRY_TOKEN=hunter2",
        "MY_PASSWORD: hunter2",
    ],
)
def test_credentials_are_left_out(secret: str) -> None:
    assert "hunter2" not in without_credentials(secret)
    assert "hunter2" not in markdown(page(secret))


@pytest.mark.parametrize(
    "innocent",
    [
        f"ctr: content digest {A}: not found",
        f"unexpected commit digest {A}, expected {A}: failed precondition",
        "no basic auth credentials",
        "pull access denied, repository does not exist or may require authorization: authorization failed: no basic",
        "failed to authorize: failed to fetch anonymous token: unexpected status: 403 Forbidden",
        "401 Unauthorized",
    ],
)
def test_what_is_no_credential_stays(innocent: str) -> None:
    assert without_credentials(innocent) == innocent


@pytest.mark.parametrize(
    "host",
    [
        "registry.corp.internal", "registry.corp.internal:5000", "10.1.2.3:5000", "localhost:5000", "harbor:443",
        "[fd00::7]:5000",
    ],
)  # fmt: skip
def test_private_hosts_are_left_out_wherever_they_stand(host: str) -> None:
    told = markdown(
        Page(
            line=f'failed to do request: Head "https://{host}/v2/x/manifests/1": dial tcp {host}: refused',
            cause=f"layer 1 of {host}/team/app:1 is gone",
            sure="likely",
            sections=(
                Section(f"The image {host}/team/app:1 in k8s.io", (f"used as layer 1 of {host}/team/app:1",)),
                Section("Do", (f"auditor check {host}/team/app:1",), code=True),
            ),
            hosts=(host,),
        )
    )
    assert host not in told
    bare = host.rpartition(":")[0]
    assert not bare or bare not in told
    assert "/team/app:1" in told


def test_labels_keep_their_names_and_lose_the_registry() -> None:
    veil = Veil(["registry.corp"])
    shown = veil.over("label containerd.io/distribution.source.registry.corp = team/app")
    assert shown == "label containerd.io/distribution.source.registry.example = team/app"
    kept = "label containerd.io/gc.ref.content.l.0 = x"
    assert veil.over(kept) == kept


def test_one_host_has_one_name_and_two_have_two() -> None:
    veil = Veil()
    first = veil.over("one.corp/a and two.corp/b and one.corp/c")
    assert first == "registry.example/a and registry2.example/b and registry.example/c"
    assert veil.over("https://two.corp:8443/v2/") == "https://registry2.example/v2/"


@pytest.mark.parametrize("public", ["docker.io/library/x:1", "ghcr.io/a/b", "https://registry-1.docker.io/v2/x"])
def test_public_registries_may_be_named(public: str) -> None:
    assert Veil().over(public) == public


@pytest.mark.parametrize("path", ["/var/lib/containerd/io.containerd.content.v1.content/blobs/sha256/x", "core/x.go"])
def test_paths_are_no_hosts(path: str) -> None:
    assert Veil().over(f"at {path}: gone") == f"at {path}: gone"


def test_the_nodes_name_in_a_log_is_left_out() -> None:
    line = "Mar 01 10:00:00 node-7.corp kubelet[123]: E0301 failed"
    assert "node-7" not in Veil().over(line)


def test_quoted_words_and_digests_are_code_and_the_rest_no_markup() -> None:
    shown = markdown(page(f"fails with `content digest …: not found`: {A} <b>x</b> *y* [z](http://w) @team #1 | ~~s~~"))
    body = shown.partition("**Cause:**")[2]
    assert "`content digest …: not found`" in body
    assert f"`{A}`" in body
    assert "\\`" not in body
    for mark in ("<b>", "*y*", "[z]", "@team", "~~"):
        assert mark not in body.partition("```sh")[0]


def test_a_fence_cannot_be_ended_from_inside() -> None:
    shown = markdown(page("a ``` b"))
    assert shown.count("```") == 4
