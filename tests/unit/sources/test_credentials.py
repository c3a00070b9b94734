"""docker's config.json, helpers and challenges: who we are, whom we tell, and that nothing of it is shown."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditor.errors import SourceError
from auditor.sources.credential_helper import MAX_OUTPUT, HelperFailed, run_helper
from auditor.sources.credentials import ANONYMOUS, Credential, DockerConfig, load_docker_config, login
from auditor.sources.tokens import Challenge, parse_challenges

SECRET = "hunter2-and-a-half"
Run = Callable[[str, str], tuple[int, bytes]]


def encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def nobody(helper: str, server: str) -> tuple[int, bytes]:
    raise AssertionError((helper, server))


def config(path: Path, body: object, run: Run = nobody) -> DockerConfig:
    file = path / "config.json"
    file.write_text(json.dumps(body))
    return load_docker_config(file, run=run)


@pytest.mark.parametrize("key", ["r.example:5000", "https://r.example:5000", "http://r.example:5000/v1/"])
def test_the_keys_of_a_host(tmp_path: Path, key: str) -> None:
    found = config(tmp_path, {"auths": {key: {"auth": encode(f"robot:{SECRET}:with:colons")}}})
    assert found.find("r.example:5000") == Credential(username="robot", secret=f"{SECRET}:with:colons")
    assert found.find("r.example") == ANONYMOUS


@pytest.mark.parametrize("host", ["docker.io", "registry-1.docker.io", "index.docker.io"])
def test_the_key_of_docker_hub(tmp_path: Path, host: str) -> None:
    found = config(tmp_path, {"auths": {"https://index.docker.io/v1/": {"username": "u", "password": SECRET}}})
    assert found.find(host).secret == SECRET
    assert login(host) == "docker login"


def test_tokens(tmp_path: Path) -> None:
    auths = {"i.example": {"auth": encode("u:"), "identitytoken": SECRET}, "r.example": {"registrytoken": SECRET}}
    found = config(tmp_path, {"auths": auths})
    assert found.find("i.example").identity_token == SECRET
    assert found.find("r.example").access_token == SECRET


def test_a_helper_for_a_host_goes_before_the_store_and_both_before_the_file(tmp_path: Path) -> None:
    asked = []

    def run(helper: str, server: str) -> tuple[int, bytes]:
        asked.append((helper, server))
        if helper == "store":
            return 1, b"credentials not found in native keychain\n"
        return 0, json.dumps({"ServerURL": server, "Username": "<token>", "Secret": SECRET}).encode()

    auths = {"a.example": {"auth": encode("x:from-file")}, "b.example": {"auth": encode("x:from-file")}}
    body = {"auths": auths, "credHelpers": {"a.example": "own"}, "credsStore": "store", "experimental": "enabled"}
    found = config(tmp_path, body, run)
    assert found.find("a.example") == Credential(identity_token=SECRET)
    assert found.find("b.example").secret == "from-file"
    assert found.find("docker.io") == ANONYMOUS
    assert asked == [("own", "a.example"), ("store", "b.example"), ("store", "https://index.docker.io/v1/")]


def missing(_: str, __: str) -> tuple[int, bytes]:
    raise FileNotFoundError(SECRET)


def slow(_: str, __: str) -> tuple[int, bytes]:
    raise HelperFailed("it did not answer in time")


@pytest.mark.parametrize(
    "run", [missing, slow, lambda *_: (1, SECRET.encode()), lambda *_: (0, SECRET.encode()), lambda *_: (0, b"\xff")]
)
def test_a_helper_that_fails(tmp_path: Path, run: Run) -> None:
    found = config(tmp_path, {"credsStore": "store"}, run)
    with pytest.raises(SourceError, match="docker-credential-store failed") as caught:
        found.find("r.example")
    assert SECRET not in f"{caught.value!r} {caught.value.hint}"


@pytest.mark.parametrize("name", ["../../bin/sh", "a b", "-x", "x;y"])
def test_a_helper_is_a_name_and_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match="an invalid name"):
        config(tmp_path, {"credsStore": name}).find("r.example")


def test_a_real_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "docker-credential-lab"
    helper.write_text('#!/bin/sh\nread server\necho "{\\"Username\\": \\"$1\\", \\"Secret\\": \\"$server\\"}"\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    status, output = run_helper("lab", "r.example")
    assert (status, json.loads(output)) == (0, {"Username": "get", "Secret": "r.example"})


def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    file = tmp_path / "docker-credential-lab"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def test_a_helper_that_prints_without_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(tmp_path, monkeypatch, "exec yes")
    with pytest.raises(HelperFailed, match=f"more than {MAX_OUTPUT >> 10} KiB"):
        run_helper("lab", "r.example")


@pytest.mark.parametrize("script", ["exec sleep 60", "exec >&-; exec sleep 60", "sleep 60 & exit 0"])
def test_a_helper_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    helper(tmp_path, monkeypatch, script)
    with pytest.raises(HelperFailed, match=r"within|in time"):
        run_helper("lab", "r.example", seconds=0.3)


@pytest.mark.parametrize("auth", ["not base64!", encode("no-colon-" + SECRET), "/w=="])
def test_an_entry_that_cannot_be_read(tmp_path: Path, auth: str) -> None:
    with pytest.raises(SourceError, match="not base64") as caught:
        config(tmp_path, {"auths": {"r.example": {"auth": auth}}}).find("r.example")
    assert auth not in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "null",
        '{"auths": null, "credHelpers": null, "credsStore": null}',
        '{"auths": {"r.example": null}, "credHelpers": {"r.example": null}}',
        '{"auths": {"r.example": {"auth": null, "username": null, "password": null, "identitytoken": null}}}',
    ],
)
def test_nulls_are_absent_values_as_for_docker(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    assert load_docker_config(file).find("r.example") == ANONYMOUS


def test_a_helper_that_answers_with_nulls(tmp_path: Path) -> None:
    found = config(tmp_path, {"credsStore": "store"}, lambda *_: (0, b'{"Username": null, "Secret": null}'))
    assert found.find("r.example") == ANONYMOUS


def test_a_configuration_that_is_a_pipe_or_too_large(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match="not a regular file"):
        load_docker_config(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(3 << 30)
    with pytest.raises(SourceError, match="larger than 16384 KiB"):
        load_docker_config(tmp_path / "large")


@pytest.mark.parametrize(
    "text", ["{", "[]", "[" * 100_000, '{"auths": 1}', f'{{"auths": {{"x": "{SECRET}"}}}}', "\udcff"]
)
def test_a_file_that_is_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SourceError, match="is not a docker configuration") as caught:
        load_docker_config(file)
    assert SECRET not in caught.value.message


def test_no_file_is_no_credentials(tmp_path: Path) -> None:
    assert load_docker_config(None).find("r.example") == ANONYMOUS
    assert load_docker_config(tmp_path / "absent").find("r.example") == ANONYMOUS
    (tmp_path / "empty").touch()
    assert load_docker_config(tmp_path / "empty").find("r.example") == ANONYMOUS
    with pytest.raises(SourceError, match="cannot be read"):
        load_docker_config(tmp_path)


def test_a_credential_shows_nothing() -> None:
    credential = Credential(username="robot", secret=SECRET, identity_token=SECRET, access_token=SECRET)
    assert SECRET not in repr(credential)
    assert encode(f"robot:{SECRET}") in credential.secrets


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ("", ()),
        ("Basic", (Challenge("basic"),)),
        ('Basic realm="x"', (Challenge("basic", {"realm": "x"}),)),
        (
            'Bearer realm="https://a.example/token",service="s p",scope="repository:a/b:pull,push"',
            (
                Challenge(
                    "bearer",
                    {"realm": "https://a.example/token", "service": "s p", "scope": "repository:a/b:pull,push"},
                ),
            ),
        ),
        ('bEARER Realm = "a" ,  error=invalid_token', (Challenge("bearer", {"realm": "a", "error": "invalid_token"}),)),
        (r'Basic realm="a\"b\\c"', (Challenge("basic", {"realm": 'a"b\\c'}),)),
        (
            'Basic realm="a", Bearer realm="b"',
            (Challenge("basic", {"realm": "a"}), Challenge("bearer", {"realm": "b"})),
        ),
        ('Negotiate, Bearer realm="b"', (Challenge("negotiate"), Challenge("bearer", {"realm": "b"}))),
        ('Bearer realm="open', (Challenge("bearer"),)),
    ],
)
def test_challenges(header: str, challenges: tuple[Challenge, ...]) -> None:
    assert parse_challenges([header])[: len(challenges)] == challenges


@given(st.text(alphabet='Bearer realm="\\,;x\t\n', max_size=200))
def test_any_header_is_read_to_an_end(header: str) -> None:
    for challenge in parse_challenges([header]):
        assert challenge.scheme == challenge.scheme.lower()
