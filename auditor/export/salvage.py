"""Rewrite documents around lost layers: another blob with the same diffID in their place, all else unchanged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from auditor.errors import MalformedDocument
from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.oci import DOCKER_FOREIGN_LAYER, DOCKER_LAYER, OCI_LAYER, Descriptor

#: Annotation of a rewritten manifest or index: the digest of the original.
ORIGINAL: Final = "containerd-auditor.salvaged-from"
_DOCKER_SUFFIX = {"": "", "+gzip": ".gzip", "+zstd": ".zstd"}


def salvage(raw: bytes, replacements: Mapping[int, Descriptor]) -> bytes:
    """Replace layers of a manifest by blobs that decompress to the same bytes.

    The config, and with it the image id, stays the same, as do unknown fields and the order of fields. A replaced layer
    loses its annotations and urls, which described the other blob.

    Args:
        raw: the manifest.
        replacements: the new layers by index, from 0.

    Returns:
        The new manifest; an annotation names the original.

    Raises:
        MalformedDocument: `raw` is not a manifest with those layers.

    """
    document = _object(raw)
    layers = document.get("layers")
    if not isinstance(layers, list) or any(not 0 <= index < len(layers) for index in replacements):
        raise MalformedDocument("the manifest has no such layers")
    docker = document.get("mediaType") == oci.DOCKER_MANIFEST
    for index, new in replacements.items():
        media_type = _docker_type(new.media_type) if docker else _oci_type(new.media_type)
        layers[index] = {"mediaType": media_type, "digest": str(new.digest), "size": new.size}
    return _marked(document, raw)


def rewrite_index(raw: bytes, replaced: Mapping[Digest, Descriptor]) -> bytes:
    """Replace children of an index; the platform and the annotations of each stay.

    Args:
        raw: the index.
        replaced: the new manifests by the digest of the original.

    Returns:
        The new index; an annotation names the original.

    Raises:
        MalformedDocument: `raw` is not an index.

    """
    document = _object(raw)
    children = document.get("manifests")
    if not isinstance(children, list):
        raise MalformedDocument("the index has no manifests")
    for child in children:
        new = replaced.get(Digest(child.get("digest", ""))) if isinstance(child, dict) else None
        if new is not None:
            child.update(digest=str(new.digest), size=new.size)
    return _marked(document, raw)


def _object(raw: bytes) -> dict[str, Any]:
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise MalformedDocument(f"the document is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise MalformedDocument("the document is not a JSON object")
    return document


def _marked(document: dict[str, Any], raw: bytes) -> bytes:
    notes = document.get("annotations")
    document["annotations"] = {**(notes if isinstance(notes, dict) else {}), ORIGINAL: str(Digest.of(raw))}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _docker_type(media_type: str) -> str:
    """Return the type of such a layer in a Docker manifest; containerd core/images/mediatypes.go."""
    base, plus, suffix = media_type.partition("+")
    if base == OCI_LAYER and plus + suffix in _DOCKER_SUFFIX:
        return DOCKER_LAYER + _DOCKER_SUFFIX[plus + suffix]
    return media_type


def _oci_type(media_type: str) -> str:
    for docker in (DOCKER_LAYER, DOCKER_FOREIGN_LAYER):
        for oci_suffix, docker_suffix in _DOCKER_SUFFIX.items():
            if media_type == docker + docker_suffix:
                return OCI_LAYER + oci_suffix
    return media_type
