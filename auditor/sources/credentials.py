"""Credentials from docker's config.json and its credential helpers; secrets are never part of a message or repr."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from auditor.errors import SourceError
from auditor.regular_file import read_regular
from auditor.sources.credential_helper import HelperFailed, run_helper

#: Key of docker.io in docker's configuration; docker/cli cli/command/registry.go.
_DOCKER_KEY = "https://index.docker.io/v1/"
_DOCKER_HOSTS = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})
#: User name that marks a helper's secret as an identity token; docker/docker-credential-helpers.
_TOKEN_USER = "<token>"  # noqa: S105 - a marker, not a secret
#: Maximum length of a config.json in bytes.
_MAX_FILE = 16 << 20
_HELPER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)

#: Runs `docker-credential-<name> get` with a server on its input: exit status and output.
RunHelper = Callable[[str, str], tuple[int, bytes]]


@dataclass(frozen=True, kw_only=True)
class Credential:
    """A user name with a secret, an identity token (OAuth2 refresh token), or an access token."""

    username: str = field(default="", repr=False)
    secret: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    access_token: str = field(default="", repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every secret text, in each form in which it is sent."""
        return tuple(text for text in (self.secret, self.identity_token, self.access_token, self.basic) if text)

    @property
    def basic(self) -> str:
        """User name and secret encoded by RFC 7617, section 2; empty without a secret."""
        return base64.b64encode(f"{self.username}:{self.secret}".encode()).decode() if self.secret else ""


ANONYMOUS = Credential()


#: docker, written in Go, reads null as an absent value.
_Text = str | None


class _Auth(msgspec.Struct, rename="lower"):
    auth: _Text = None
    username: _Text = None
    password: _Text = None
    identity_token: _Text = msgspec.field(name="identitytoken", default=None)
    registry_token: _Text = msgspec.field(name="registrytoken", default=None)


class _Config(msgspec.Struct, rename="camel"):
    auths: dict[str, _Auth | None] | None = None
    cred_helpers: dict[str, _Text] | None = None
    creds_store: _Text = None


class _Helped(msgspec.Struct, rename="pascal"):
    username: _Text = None
    secret: _Text = None


def login(host: str) -> str:
    """Return the command that stores credentials for a host."""
    return "docker login" if host in _DOCKER_HOSTS else f"docker login {host}"


class DockerConfig:
    """The credentials of a config.json."""

    def __init__(self, config: _Config | None = None, *, run: RunHelper = run_helper) -> None:
        found = config or _Config()
        self._auths = {key: auth or _Auth() for key, auth in (found.auths or {}).items()}
        self._helpers: Mapping[str, str] = {host: name or "" for host, name in (found.cred_helpers or {}).items()}
        self._store = found.creds_store or ""
        self._run = run

    def find(self, host: str) -> Credential:
        """Return the credentials for `host[:port]`; ANONYMOUS where there are none.

        Order: the helper of the host, the store of all hosts, the file (docker/cli cli/config/configfile/file.go
        `GetAuthConfig`).

        Raises:
            SourceError: A helper fails, or the entry of the file is invalid.

        """
        server = _DOCKER_KEY if host in _DOCKER_HOSTS else host
        helper = self._helpers.get(server) or self._helpers.get(host) or self._store
        found = self._ask(helper, server) if helper else ANONYMOUS
        return found if found != ANONYMOUS else self._look_up(server, host)

    def _ask(self, helper: str, server: str) -> Credential:
        if not _HELPER_NAME.fullmatch(helper):
            raise SourceError("docker's config.json names a credential helper with an invalid name")
        try:
            status, output = self._run(helper, server)
        except HelperFailed as error:
            raise _helper_failed(helper, error.message) from None
        except (OSError, ValueError) as error:
            raise _helper_failed(helper, getattr(error, "strerror", None) or type(error).__name__) from None
        if status != 0:
            if b"credentials not found" in output:
                return ANONYMOUS
            raise _helper_failed(helper, f"exit status {status}")
        return _from_helper(helper, output)

    def _look_up(self, server: str, host: str) -> Credential:
        entry = self._auths.get(server)
        if entry is None:
            entry = next((auth for key, auth in self._auths.items() if _bare(key) == _bare(server)), None)
        return _from_entry(entry, host) if entry is not None else ANONYMOUS


def load_docker_config(path: Path | None, *, run: RunHelper = run_helper) -> DockerConfig:
    """Read a config.json; an absent file has no credentials.

    Args:
        path: Path of the file; None for no file.
        run: Runs a credential helper.

    Raises:
        SourceError: The file cannot be read or parsed.

    """
    try:
        raw = read_regular(path, limit=_MAX_FILE) if path is not None else b"{}"
    except FileNotFoundError:
        raw = b"{}"
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return DockerConfig(msgspec.json.decode(raw or b"{}", type=_Config | None), run=run)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise SourceError(f"{path} is not a docker configuration", hint="`docker login` writes one") from None


def _from_helper(helper: str, output: bytes) -> Credential:
    try:
        helped = msgspec.json.decode(output, type=_Helped)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _helper_failed(helper, "its output is not the expected JSON") from None
    if helped.username == _TOKEN_USER:
        return Credential(identity_token=helped.secret or "")
    return Credential(username=helped.username or "", secret=helped.secret or "")


def _from_entry(entry: _Auth, host: str) -> Credential:
    username, secret = entry.username or "", entry.password or ""
    if entry.auth:
        username, secret = _decode(entry.auth, host)
    return Credential(
        username=username,
        secret=secret,
        identity_token=entry.identity_token or "",
        access_token=entry.registry_token or "",
    )


def _decode(auth: str, host: str) -> tuple[str, str]:
    """Decode the base64 of `user:secret`, without trailing zero bytes; docker/cli `decodeAuth`."""
    try:
        username, colon, secret = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        username, colon, secret = "", "", ""
    if not colon:
        raise SourceError(f"docker's config.json has credentials for {host} that are not base64 of name:secret")
    return username, secret.strip("\0")


def _bare(key: str) -> str:
    """Return the host of a key; docker/cli `ConvertToHostname`."""
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _helper_failed(helper: str, why: str) -> SourceError:
    return SourceError(
        f"the credential helper docker-credential-{helper} failed: {why}", hint="run `docker login` again, or remove it"
    )
