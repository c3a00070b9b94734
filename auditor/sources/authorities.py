"""The system's certificate authorities, wherever the distribution keeps them.

OpenSSL has one folder compiled in, that of the distribution it was built on. A bundle that carries its OpenSSL finds
none on the others.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

#: Debian, Alpine; RHEL, Fedora; openSUSE; RHEL's extracted form; Alpine, FreeBSD.
BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/ca-bundle.pem"),
    Path("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
    Path("/etc/ssl/cert.pem"),
)


def system_context(bundles: Iterable[Path] = BUNDLES, environ: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """Return TLS settings that trust the system's authorities.

    Where SSL_CERT_FILE or SSL_CERT_DIR is set, or OpenSSL's own paths exist, nothing else is read.

    Args:
        bundles: Files of authorities; the first that gives any is used.
        environ: The environment that OpenSSL reads.

    """
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    named = {paths.openssl_cafile_env, paths.openssl_capath_env} & environ.keys()
    if named or Path(paths.openssl_cafile).exists() or _has_files(Path(paths.openssl_capath)):
        return context
    for bundle in bundles:
        with suppress(OSError):  # absent, or not PEM: ssl.SSLError is an OSError
            context.load_verify_locations(cafile=bundle)
        if context.cert_store_stats()["x509_ca"]:
            break
    return context


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())
