"""containerd's tree of hosts: whom a pull would ask, and in which order; by the cases of hosts_test.go and hosts.md."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from auditor.errors import SourceError
from auditor.sources.hosts import Endpoint, configured_hosts, find_hosts, is_localhost


def tree(root: Path, text: str, name: str = "registry.example") -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    folder.joinpath("hosts.toml").write_text(text)
    return root


def only(root: Path | None, host: str) -> Endpoint:
    (endpoint,) = find_hosts(root, host).endpoints
    return endpoint


@pytest.mark.parametrize(
    ("host", "root", "skip", "fallback"),
    [
        ("docker.io", "https://registry-1.docker.io/v2", False, False),
        ("ghcr.io", "https://ghcr.io/v2", False, False),
        ("registry.example:5000", "https://registry.example:5000/v2", False, False),
        ("localhost", "https://localhost/v2", True, False),
        ("localhost:443", "https://localhost:443/v2", True, False),
        ("localhost:80", "http://localhost:80/v2", False, False),
        ("localhost:5000", "https://localhost:5000/v2", True, True),
        ("127.0.0.1:5000", "https://127.0.0.1:5000/v2", True, True),
        ("[::1]:5000", "https://[::1]:5000/v2", True, True),
        ("[::1]", "https://[::1]/v2", True, False),
        ("10.0.0.1:5000", "https://10.0.0.1:5000/v2", False, False),
    ],
)
def test_without_a_tree(tmp_path: Path, host: str, root: str, skip: bool, fallback: bool) -> None:
    for where in (None, tmp_path, tmp_path / "absent"):
        endpoint = only(where, host)
        assert (endpoint.root, endpoint.skip_verify, endpoint.fallback) == (root, skip, fallback)


def test_mirrors_in_the_order_of_the_file_then_the_server(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        """
        server = "https://up.example"
        [host."https://b.example"]
        [host."http://a.example:80"]
          capabilities = ["pull", "resolve"]
        [host."c.example"]
          capabilities = ["push"]
        [host."https://d.example/v2/team"]
        [host."https://e.example/some/root"]
          override_path = true
        [host."https://f.example/v2"]
        """,
    )
    assert [endpoint.root for endpoint in find_hosts(root, "registry.example").endpoints] == [
        "https://b.example/v2",
        "http://a.example:80/v2",
        "https://d.example/v2/team/v2",
        "https://e.example/some/root",
        "https://f.example/v2",
        "https://up.example/v2",
    ]


def test_without_a_server_the_host_itself_is_last(tmp_path: Path) -> None:
    root = tree(tmp_path, 'capabilities = ["push"]\n[host."https://m.example"]\n', "docker.io")
    found = [endpoint.root for endpoint in find_hosts(root, "docker.io").endpoints]
    assert found == ["https://m.example/v2", "https://registry-1.docker.io/v2"]


@pytest.mark.parametrize("name", ["registry.example_5000_", "registry.example:5000", "_default"])
def test_the_folders_of_a_host_with_a_port(tmp_path: Path, name: str) -> None:
    root = tree(tmp_path, 'server = "https://other.example"', name)
    assert only(root, "registry.example:5000").host == "other.example"


def test_the_nearest_folder_wins(tmp_path: Path) -> None:
    for name in ("_default", "registry.example:5000", "registry.example_5000_"):
        tree(tmp_path, f'server = "https://{name.strip("_").replace(":", "-")}.example"', name)
        assert only(tmp_path, "registry.example:5000").host.startswith(name.strip("_").replace(":", "-"))
    assert only(tmp_path, "registry.example").host == "default.example"


def test_all_that_a_table_may_say(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        """
        [host."https://m.example"]
          ca = ["one.pem", "/abs/two.pem"]
          client = [["c.pem", "k.pem"], "both.pem"]
          skip_verify = false
          dial_timeout = "1m2.5s"
          [host."https://m.example".header]
            x-one = "a"
            x-two = ["b", "c"]
        """,
    )
    endpoint = find_hosts(root, "registry.example").endpoints[0]
    folder = root / "registry.example"
    assert endpoint.ca == (folder / "one.pem", Path("/abs/two.pem"))
    assert endpoint.client == ((folder / "c.pem", folder / "k.pem"), (folder / "both.pem", None))
    assert endpoint.header == (("x-one", ("a",)), ("x-two", ("b", "c")))
    assert endpoint.dial_timeout == 62.5


def test_headers_are_not_shown(tmp_path: Path) -> None:
    root = tree(tmp_path, '[header]\nAuthorization = "Basic hunter2"\n')
    assert "hunter2" not in repr(find_hosts(root, "registry.example"))


@pytest.mark.parametrize(
    ("extra", "fallback"), [("", False), ("skip_verify = false", True), ('ca = "x"', True), ('client = "x"', True)]
)
def test_plain_http_with_tls_settings_may_be_either(tmp_path: Path, extra: str, fallback: bool) -> None:
    endpoint = only(tree(tmp_path, f'server = "http://registry.example:5000"\n{extra}\n'), "registry.example")
    assert (endpoint.scheme, endpoint.fallback) == (("https", True) if fallback else ("http", False))


@pytest.mark.parametrize(
    "text",
    [
        "server = ",
        "server = 3",
        'host = "x"',
        '[host]\n"x" = 1',
        'capabilities = ["fly"]',
        "ca = 1",
        "ca = [1]",
        'client = [["a", "b", "c"]]',
        "client = {}",
        'skip_verify = "yes"',
        'header = "x"',
        "[header]\nx = 1",
        '[header]\nx = "a\\r\\nInjected: yes"',
        '[header]\n"x y" = "a"',
        'dial_timeout = "soon"',
        'server = "httpx://registry.example"',
        'server = "https://user:hunter2@registry.example"',
    ],
)
def test_a_file_that_containerd_would_not_take_is_passed_over(tmp_path: Path, text: str) -> None:
    found = find_hosts(tree(tmp_path, text), "registry.example")
    assert [endpoint.root for endpoint in found.endpoints] == ["https://registry.example/v2"]
    (note,) = found.notes
    assert "is skipped" in note
    assert "hunter2" not in note


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    root = tree(tmp_path, "")
    (root / "registry.example/hosts.toml").write_bytes(b'server = "\xff"')
    assert find_hosts(root, "registry.example").notes


def test_certificates_in_the_layout_of_docker(tmp_path: Path) -> None:
    folder = tmp_path / "registry.example"
    folder.mkdir()
    for name in ("b.crt", "a.crt", "me.cert", "me.key", "other.cert", "readme", "stray.key"):
        (folder / name).touch()
    endpoint = only(tmp_path, "registry.example")
    assert endpoint.ca == (folder / "a.crt", folder / "b.crt")
    assert endpoint.client == ((folder / "me.cert", folder / "me.key"), (folder / "other.cert", None))


def test_a_tree_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "registry.example").touch()
    with pytest.raises(SourceError, match="cannot be read: Not a directory"):
        find_hosts(tmp_path, "registry.example")


def test_what_stands_for_a_registry_is_no_mirror() -> None:
    assert only(None, "docker.io").stands_for("docker.io")
    assert only(None, "ghcr.io").stands_for("ghcr.io")
    assert not only(None, "ghcr.io").stands_for("docker.io")


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "127.9.9.9", "127.0.0.1:5", "[::1]:5", "::1"])
def test_this_machine(host: str) -> None:
    assert is_localhost(host)


@pytest.mark.parametrize("host", ["local.host", "localhost.example", "128.0.0.1", "0.0.0.0", ""])
def test_other_machines(host: str) -> None:
    assert not is_localhost(host)


@pytest.mark.parametrize("text", ["a = " + "[" * 20_000, "a = " + "{b = " * 20_000, "[" * 20_000])
def test_a_deeply_nested_file_is_skipped_with_a_note(tmp_path: Path, text: str) -> None:
    found = find_hosts(tree(tmp_path, text), "registry.example")
    assert [endpoint.root for endpoint in found.endpoints] == ["https://registry.example/v2"]
    assert len(found.notes) == 1
    assert "is skipped, as containerd does" in found.notes[0]


def test_a_file_that_is_a_pipe_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "registry.example"
    folder.mkdir()
    os.mkfifo(folder / "hosts.toml")
    with pytest.raises(SourceError, match="cannot be read: it is not a regular file"):
        find_hosts(tmp_path, "registry.example")


@pytest.mark.parametrize("server", ["http://]", "]", "http://[z]", "https://[::1"])
def test_a_server_with_a_broken_address_is_skipped_with_a_note(tmp_path: Path, server: str) -> None:
    found = find_hosts(tree(tmp_path, f'server = "{server}"'), "registry.example")
    assert [endpoint.root for endpoint in found.endpoints] == ["https://registry.example/v2"]
    assert "is not an http or https address" in found.notes[0]


def test_the_hosts_of_a_tree_are_listed_with_their_ports(tmp_path: Path) -> None:
    for name in ("_default", "docker.io", "r.example_5000_", "r.example:5000", "under_score.example"):
        (tmp_path / name).mkdir()
    assert configured_hosts(tmp_path) == ("docker.io", "r.example:5000", "under_score.example")
    assert configured_hosts(tmp_path / "absent") == configured_hosts(None) == ()
