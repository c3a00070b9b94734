"""Names of images from what other programs kept."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auditor.recover.name_sources import read_names
from tests.unit.recover.disks import image, meta_db, pods

A, B = (f"sha256:{letter * 64}" for letter in "ab")
LOG = rf"""time="2026-11-28T20:45:22Z" level=info msg="PullImage \"host.io/app:1\""
time="2026-11-28T20:45:22Z" level=info msg="PullImage \"host.io/app:1\" returns image reference \"{A}\""
time="2026-11-28T20:45:23Z" level=info msg="Pulled image \"host.io/b:2\" with image id \"{A}\", repo tag \"host.io/b:2\", repo digest \"host.io/b@{B}\", size \"19999\" in 220ms"
time="2026-11-28T20:45:24Z" level=info msg="PullImage \"host.io/app:1\" returns image reference \"{B}\""
"""  # noqa: E501
YAML = f"""\
  status:
    containerStatuses:
    - containerID: containerd://1
      image: docker.io/library/nginx:1.27
      imageID: docker.io/library/nginx@{A}
      lastState: {{}}
    - containerID: containerd://2
      image: "host.io/app:1"
      imageID: "{B}"
"""


def stated(data: bytes | str) -> list[tuple[str, str]]:
    raw = data.encode() if isinstance(data, str) else data
    return [(hint.name, str(hint.digest)) for hint in read_names(raw, "there")]


def test_a_log_the_last_pull_first() -> None:
    assert stated(LOG) == [("host.io/app:1", B), (f"host.io/b@{B}", B), ("host.io/b:2", B), ("host.io/app:1", A)]


def test_a_log_in_json() -> None:
    lines = "\n".join(json.dumps({"MESSAGE": line}) for line in LOG.splitlines())
    assert stated(lines) == stated(LOG)


def test_pods_as_yaml_and_as_json() -> None:
    expected = [("docker.io/library/nginx:1.27", A), (f"docker.io/library/nginx@{A}", A), ("host.io/app:1", B)]
    assert stated(YAML) == expected
    assert stated(pods([("nginx:1.27", f"docker.io/library/nginx@{A}"), ("host.io/app:1", B)])) == expected
    assert stated(YAML.replace("\n", "\r\n")) == expected


def test_nodes_and_crictl() -> None:
    node = {"status": {"images": [{"names": [f"host.io/app@{A}", "host.io/app:1"], "sizeBytes": 1}]}}
    crictl = {"images": [{"id": B, "repoTags": ["host.io/app:1"], "repoDigests": [f"host.io/app@{A}"]}]}
    for document in (node, crictl):
        assert stated(json.dumps(document)) == [(f"host.io/app@{A}", A), ("host.io/app:1", A)]


def test_lines() -> None:
    text = (
        f"# a comment {A}\nnginx {A}\nhost.io/app:1\tapplication/vnd.oci.image.index.v1+json {B} 2 KiB linux/amd64 -\n"
    )
    hints = read_names(text.encode(), "list")
    assert sorted((hint.name, hint.digest, hint.namespace) for hint in hints) == [
        ("docker.io/library/nginx:latest", A, ""),
        ("host.io/app:1", B, ""),
    ]


def test_a_copy_of_a_database() -> None:
    built = image("one")
    (hint,) = read_names(bytes(meta_db({"host.io/app:1": built}, namespace="other")), "meta.db.bak")
    assert (hint.name, hint.digest, hint.namespace) == ("host.io/app:1", built.digest, "other")
    assert hint.target is not None
    assert hint.labels == {"kept": "yes"}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[1, null]",
        b"image: nginx\nimageID: nothing\n",
        b'{"schema": "containerd-auditor/report/v1"}',
        b'{"image": null, "imageID": 3}',
        b'{"names": [3, null], "sizeBytes": 1}',
        b'{"repoTags": null, "repoDigests": [{}]}',
        b"[" * 5000,
        f"UPPER {A}".encode(),
        f'{{"image": "sha256:{"c" * 64}", "imageID": "{A}"}}'.encode(),
    ],
)
def test_what_names_nothing(data: bytes) -> None:
    assert read_names(data, "it") == ()


@settings(max_examples=50)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_file_is_read(data: bytes) -> None:
    read_names(data, "it")
