"""A quick reading of ordinary indexes and manifests: those that need none of the rules of Go's decoder.

Such a document has the usual fields alone, under their own names, each once, and no escapes. Nearly all documents are
such. Of all others nothing is said here; `oci_json` reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

_Text = Annotated[str, msgspec.Meta(max_length=4096)]
_Size = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
_BACKSLASH: Final = ord("\\")
_COLON: Final = ord(":")


class OrdinaryPlatform(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A platform without versions and features."""

    os: _Text
    architecture: _Text
    variant: _Text = ""


class OrdinaryDescriptor(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    """A descriptor; `digest` is not checked yet."""

    media_type: _Text
    digest: str
    size: _Size
    platform: OrdinaryPlatform | None = None
    annotations: dict[str, str] | None = None


class OrdinaryIndex(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    """An index."""

    schema_version: int
    manifests: list[OrdinaryDescriptor]
    media_type: _Text = ""
    annotations: dict[str, str] | None = None


class OrdinaryManifest(msgspec.Struct, rename="camel", forbid_unknown_fields=True, gc=False):
    """A manifest."""

    schema_version: int
    config: OrdinaryDescriptor
    layers: list[OrdinaryDescriptor]
    media_type: _Text = ""
    annotations: dict[str, str] | None = None


_INDEX: Final = msgspec.json.Decoder(OrdinaryIndex)
_MANIFEST: Final = msgspec.json.Decoder(OrdinaryManifest)
#: What a decoder raises for a document that is not ordinary, or no JSON.
_OTHER: Final = (msgspec.DecodeError, UnicodeDecodeError)


def read_index(raw: bytes) -> OrdinaryIndex | None:
    """Return an ordinary index, of which the digests must still be well-formed; None for any other document."""
    try:
        found = _INDEX.decode(raw)
    except _OTHER:
        return None
    return found if _once(raw, found, found.manifests, keys=2) else None


def read_manifest(raw: bytes) -> OrdinaryManifest | None:
    """Return an ordinary manifest, of which the digests must still be well-formed; None for any other document."""
    try:
        found = _MANIFEST.decode(raw)
    except _OTHER:
        return None
    return found if _once(raw, found, [found.config, *found.layers], keys=3) else None


def _once(
    raw: bytes, found: OrdinaryIndex | OrdinaryManifest, descriptors: Sequence[OrdinaryDescriptor], *, keys: int
) -> bool:
    """Whether each key occurs once, since there are no more colons than that takes.

    A colon follows each key, and a well-formed digest has one. A key that is given again has one more. A backslash may
    hide a colon of a text, and so make place for one.

    Args:
        raw: The document.
        found: What it was decoded to.
        descriptors: Its descriptors.
        keys: The number of keys that each such document has.

    """
    # Of a descriptor: `mediaType`, `digest`, the digest's own, and `size`.
    colons = keys + (found.media_type != "") + 4 * len(descriptors)
    if found.annotations:
        colons += _of_annotations(found.annotations)
    for each in descriptors:
        if each.platform is not None:
            colons += 4 if each.platform.variant else 3
        if each.annotations:
            colons += _of_annotations(each.annotations)
    return raw.count(_COLON) == colons and _BACKSLASH not in raw


def _of_annotations(annotations: dict[str, str]) -> int:
    """Return the number of colons in annotations, behind their keys and behind the key that leads to them."""
    return 1 + len(annotations) + "".join([*annotations, *annotations.values()]).count(":")
