"""An OCI image from scratch, as an archive that `ctr images import`, `podman load` and skopeo read.

Contents: the bundle, certificate authorities, files for names of users and hosts, mount points. No shell.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.dist import archives, recipe

AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
#: Where a pod or `ctr run` mounts the node's folders; in a read-only root they must exist.
MOUNTS = (
    "run",
    "run/containerd",
    "var/lib/containerd",
    "var/lib/containerd-auditor",
    "textfiles",
    "host",
    "proc",
    "sys",
    "dev",
)
FILES = {
    "etc/passwd": "root:x:0:0:root:/:/usr/bin/auditor\n",
    "etc/group": "root:x:0:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}
REFERENCE = f"{recipe.NAME}:{recipe.version()}"


def tree(root: Path) -> None:
    """Write the folders and files around the bundle to `root`."""
    for folder in (*MOUNTS, "tmp", "usr/bin", "usr/lib/ssl", "etc/ssl/certs"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    for name, text in FILES.items():
        (root / name).write_text(text)
    if not AUTHORITIES.exists():
        raise recipe.CannotBuild("needed: apt-get install ca-certificates")
    (root / "etc/ssl/certs/ca-certificates.crt").write_bytes(AUTHORITIES.read_bytes())
    (root / "usr/lib/ssl/cert.pem").symlink_to("../../../etc/ssl/certs/ca-certificates.crt")
    (root / "usr/bin/auditor").symlink_to(f"../lib/{recipe.NAME}/bin/auditor")


def layer(bundle: Path, root: Path) -> bytes:
    """Return the only layer, uncompressed."""
    own = [(str(p.relative_to(root)), p) for p in sorted(root.rglob("*"))]
    return archives.tar([*own, *archives.tree(bundle, recipe.HOME.lstrip("/"))], epoch=recipe.epoch())


def labels() -> dict[str, str]:
    """Return the labels by the keys of the OCI image specification, annotations.md."""
    return {
        "org.opencontainers.image.title": recipe.NAME,
        "org.opencontainers.image.description": "fsck for containerd",
        "org.opencontainers.image.licenses": "Apache-2.0",
        "org.opencontainers.image.version": recipe.version(),
        "org.opencontainers.image.revision": recipe.commit(),
        "org.opencontainers.image.created": _created(),
    }


def _created() -> str:
    return datetime.fromtimestamp(recipe.epoch(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def archive(bundle: Path, work: Path) -> bytes:
    """Return the image as an OCI archive.

    Args:
        bundle: The bundle's folder, with its SBOM in share/.
        work: A folder for the files around it.

    """
    root = work / "image"
    tree(root)
    return _layout(layer(bundle, root))


def _layout(plain: bytes) -> bytes:
    blobs: dict[str, bytes] = {}

    def put(content: bytes, media_type: str) -> dict[str, Any]:
        digest = archives.sha256(content)
        blobs[f"blobs/sha256/{digest}"] = content
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}

    packed = put(archives.gz(plain), "application/vnd.oci.image.layer.v1.tar+gzip")
    config = put(_json(_config(archives.sha256(plain))), "application/vnd.oci.image.config.v1+json")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [packed],
        "annotations": labels(),
    }
    entry = put(_json(manifest), "application/vnd.oci.image.manifest.v1+json")
    entry["annotations"] = {
        "io.containerd.image.name": f"docker.io/library/{REFERENCE}",
        "org.opencontainers.image.ref.name": recipe.version(),
    }
    entry["platform"] = {"architecture": "amd64", "os": "linux"}
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
    blobs["index.json"] = _json(index)
    blobs["oci-layout"] = _json({"imageLayoutVersion": "1.0.0"})
    return archives.tar_of(blobs, epoch=recipe.epoch())


def _config(diff_id: str) -> dict[str, Any]:
    return {
        "created": _created(),
        "architecture": "amd64",
        "os": "linux",
        "config": {
            "User": "0:0",
            "Env": ["PATH=/usr/bin"],
            "Entrypoint": ["/usr/bin/auditor"],
            "Cmd": ["check"],
            "WorkingDir": "/",
            "ExposedPorts": {"9469/tcp": {}},
            "Labels": labels(),
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
        "history": [{"created": _created(), "created_by": "make dist"}],
    }


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
