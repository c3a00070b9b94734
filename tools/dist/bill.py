"""What is inside (CycloneDX 1.6) and how it was made (in-toto statement with SLSA provenance 1.0)."""

from __future__ import annotations

import json
import uuid
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

from tools.dist import archives, bundle, recipe
from tools.dist.systems import System

Json = dict[str, Any]


def components(root: Path, wheels: list[Path], system: System) -> list[Json]:
    """Return the parts of a bundle: Python packages with the digests of their wheels, and Debian packages."""
    found = [_wheel(wheel, root) for wheel in wheels]
    found += [_debian(*package, system.arch) for package in bundle.origins(root, system)]
    return sorted(found, key=lambda each: str(each["purl"]))


def _wheel(wheel: Path, root: Path) -> Json:
    name, version = wheel.name.split("-")[:2]
    (info,) = (root / "lib/python3.11").glob(f"{name}-{version}.dist-info")
    fields = HeaderParser().parsestr((info / "METADATA").read_text())
    licence = fields["License-Expression"] or (fields["License"] or "").splitlines()[:1]
    return {
        "type": "library",
        "name": fields["Name"],
        "version": version,
        "purl": f"pkg:pypi/{fields['Name'].lower().replace('_', '-')}@{version}",
        "hashes": [{"alg": "SHA-256", "content": archives.sha256(wheel.read_bytes())}],
        **(
            {"licenses": [{"license": {"name": licence if isinstance(licence, str) else licence[0]}}]}
            if licence
            else {}
        ),
    }


def _debian(name: str, version: str, arch: str) -> Json:
    purl = f"pkg:deb/debian/{name}@{version}?arch={arch}"
    return {"type": "library", "name": name, "version": version, "purl": purl}


def sbom(parts: list[Json]) -> bytes:
    """Return the SBOM; its serial number follows from the commit and the parts."""
    serial = uuid.uuid5(uuid.NAMESPACE_URL, recipe.commit() + json.dumps(parts))
    subject = {
        "type": "application",
        "name": recipe.NAME,
        "version": recipe.version(),
        "purl": f"pkg:pypi/{recipe.NAME}@{recipe.version()}",
        "licenses": [{"license": {"id": "Apache-2.0"}}],
    }
    return _text(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{serial}",
            "version": 1,
            "metadata": {"component": subject},
            "components": parts,
        }
    )


def provenance(files: dict[str, bytes], parts: list[Json]) -> bytes:
    """Return the statement that names each file's digest, the commit and the parts. Not signed."""
    used = [{"uri": each["purl"], **_digest(each)} for each in parts]
    source = {"uri": "git+file:.", "digest": {"gitCommit": recipe.commit()}}
    return _text(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": n, "digest": {"sha256": archives.sha256(c)}} for n, c in sorted(files.items())],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": "https://containerd-auditor.invalid/make-dist/v1",
                    "externalParameters": {"target": "dist", "version": recipe.version()},
                    "internalParameters": {"SOURCE_DATE_EPOCH": recipe.epoch()},
                    "resolvedDependencies": [source, *used],
                },
                "runDetails": {"builder": {"id": "https://containerd-auditor.invalid/make-dist"}},
            },
        }
    )


def _digest(part: Json) -> Json:
    hashes = part.get("hashes", [])
    return {"digest": {"sha256": hashes[0]["content"]}} if hashes else {}


def _text(document: Json) -> bytes:
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()
