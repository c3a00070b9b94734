"""The platform of a node from its disk: that of most of the unpacked images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from auditor.containerd.content_root import Absent
from auditor.errors import AuditorError
from auditor.model.digest import Digest
from auditor.model.oci import OCI_CONFIG, ImageConfig, parse
from auditor.model.platforms import Platform
from auditor.model.store import Blob

#: Label of the config of an unpacked image: its top snapshot.
_UNPACKED: Final = "containerd.io/gc.ref.snapshot."
#: How many configs are read at most.
_SAMPLE: Final = 200


def unpacked_platform(blobs: Iterable[Blob], read: Callable[[Digest], bytes]) -> Platform | None:
    """Return the platform of most of the unpacked images; None where there are none.

    Args:
        blobs: The content records; a config whose image was unpacked has a label with its snapshot.
        read: Returns the content of a blob.

    """
    unpacked = sorted({blob.digest for blob in blobs if any(label.startswith(_UNPACKED) for label in blob.labels)})
    seen = Counter(found for digest in unpacked[:_SAMPLE] if (found := _platform(digest, read)) is not None)
    return max(seen, key=lambda platform: (seen[platform], str(platform))) if seen else None


def _platform(digest: Digest, read: Callable[[Digest], bytes]) -> Platform | None:
    """Return the platform in a config; None where it cannot be read or does not match its digest."""
    try:
        raw = read(digest)
        config = parse(raw, OCI_CONFIG) if Digest.of(raw, algorithm=digest.algorithm) == digest else None
    except (Absent, AuditorError):
        return None
    return config.platform if isinstance(config, ImageConfig) else None


def platform_note(platform: Platform | None) -> str:
    """Return how the platform is known, in one sentence."""
    if platform is None:
        return "no image is unpacked: the node's platform is not known, and that of this machine is assumed"
    return f"the node's platform is taken for {platform}, that of most of the unpacked images"
