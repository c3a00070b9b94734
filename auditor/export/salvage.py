"""Rewriting documents around layers that are gone for good: a twin in their place, everything else as it was."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from auditor.errors import MalformedDocument
from auditor.model import oci
from auditor.model.digest import Digest
from auditor.model.oci import DOCKER_FOREIGN_LAYER, DOCKER_LAYER, OCI_LAYER, Descriptor

#: On a rewritten manifest or index: the digest of the original, as nobody should take one for the other.
ORIGINAL: Final = "containerd-auditor.salvaged-from"
_DOCKER_SUFFIX = {"": "", "+gzip": ".gzip", "+zstd": ".zstd"}


def salvage(raw: bytes, replacements: Mapping[int, Descriptor]) -> bytes:
    """A manifest with some layers, by their index from 0, replaced by blobs that decompress to the same bytes.

    The config, and with it the image id, stays; unknown fields and the order of fields too. A replaced layer loses its
    annotations and urls, for they were about the other blob. The result names the original in an annotation.
    Raises MalformedDocument for what is no manifest with those layers.
    """
    document = _object(raw)
    layers = document.get("layers")
    if not isinstance(layers, list) or any(not 0 <= index < len(layers) for index in replacements):
        raise MalformedDocument("the manifest has no such layers")
    docker = document.get("mediaType") == oci.DOCKER_MANIFEST
    for index, twin in replacements.items():
        media_type = _docker_type(twin.media_type) if docker else _oci_type(twin.media_type)
        layers[index] = {"mediaType": media_type, "digest": str(twin.digest), "size": twin.size}
    return _marked(document, raw)


def rewrite_index(raw: bytes, replaced: Mapping[Digest, Descriptor]) -> bytes:
    """An index with some children replaced by their rewritten selves; platform and annotations of each stay.

    Raises MalformedDocument for what is no index.
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
        raise MalformedDocument(f"the document is no JSON: {error}") from None
    if not isinstance(document, dict):
        raise MalformedDocument("the document is no JSON object")
    return document


def _marked(document: dict[str, Any], raw: bytes) -> bytes:
    notes = document.get("annotations")
    document["annotations"] = {**(notes if isinstance(notes, dict) else {}), ORIGINAL: str(Digest.of(raw))}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _docker_type(media_type: str) -> str:
    """The type by which a Docker manifest names such a layer; containerd core/images/mediatypes.go."""
    base, plus, suffix = media_type.partition("+")
    if base == OCI_LAYER and plus + suffix in _DOCKER_SUFFIX:
        return DOCKER_LAYER + _DOCKER_SUFFIX[plus + suffix]
    return media_type


def _oci_type(media_type: str) -> str:
    for docker in (DOCKER_LAYER, DOCKER_FOREIGN_LAYER):
        for ours, theirs in _DOCKER_SUFFIX.items():
            if media_type == docker + theirs:
                return OCI_LAYER + ours
    return media_type
