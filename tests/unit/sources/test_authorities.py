"""Certificate authorities of the system, at the places of other distributions."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from auditor.sources.authorities import system_context


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def _no_own_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As with an OpenSSL of another distribution: its compiled-in paths are absent."""
    absent = str(tmp_path / "absent")
    paths = ssl.DefaultVerifyPaths("", "", "SSL_CERT_FILE", absent, "SSL_CERT_DIR", absent)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda *_: None)


@pytest.mark.usefixtures("_no_own_paths")
def test_the_first_bundle_with_authorities_is_used(bundle: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate")
    context = system_context([tmp_path / "none.pem", empty, bundle, tmp_path], {})
    assert context.cert_store_stats()["x509_ca"] == 1


@pytest.mark.usefixtures("_no_own_paths")
def test_a_named_file_is_the_only_one(bundle: Path) -> None:
    assert system_context([bundle], {"SSL_CERT_FILE": "/absent"}).cert_store_stats()["x509_ca"] == 0


def test_an_existing_folder_of_openssl_is_enough(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = ssl.DefaultVerifyPaths("", "", "SSL_CERT_FILE", "/absent", "SSL_CERT_DIR", str(tmp_path))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda *_: None)
    assert system_context([bundle], {}).cert_store_stats()["x509_ca"] == 0
