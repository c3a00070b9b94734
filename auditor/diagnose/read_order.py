"""Choose the blobs to read for a question, and their order; pure."""

from __future__ import annotations

from auditor.checks.evidence import Evidence
from auditor.diagnose.describe import blobs_of
from auditor.diagnose.evidence_index import EvidenceIndex
from auditor.diagnose.extract import Mentions
from auditor.model.digest import Digest


class Wanted:
    """An ordered set of digests: named ones, then those of named images, then all others; small blobs first."""

    def __init__(self, named: set[Digest], of_images: set[Digest], *, everything: bool) -> None:
        self._named = named
        self._of_images = of_images
        self._everything = everything

    def __contains__(self, digest: Digest) -> bool:
        """Whether the blob is to be read."""
        return self._everything or digest in self._named or digest in self._of_images

    def rank(self, digest: Digest, size: int) -> tuple[int, int, Digest]:
        """Return the sort key of a blob; `size` in bytes."""
        first = 0 if digest in self._named else 1 if digest in self._of_images else 2
        return first, size, digest


def wanted(mentions: Mentions, evidence: Evidence) -> Wanted:
    """Return the blobs to read for a text.

    A message that wrong content causes, and that names nothing in the store, requires reading every blob.
    """
    index = EvidenceIndex(evidence, ())
    named: set[Digest] = set()
    for digest in (*mentions.digests, *_completed(mentions, index)):
        named.add(digest)
        for places in (index.chain_ids.get(digest, ()), index.diff_ids.get(digest, ())):
            named.update(place.layer.descriptor.digest for place in places)
    images = [found for name in mentions.names for found in index.image(name)]
    of_images = {digest for view, walked in images for digest in blobs_of(view, walked)}
    return Wanted(named, of_images, everything=_needs_content(mentions) and not images and not _known(named, index))


def _completed(mentions: Mentions, index: EvidenceIndex) -> tuple[Digest, ...]:
    fitting = (index.complete(prefix) for prefix in (*mentions.prefixes, *mentions.guesses))
    return tuple(found[0] for found in fitting if len(found) == 1)


def _known(named: set[Digest], index: EvidenceIndex) -> bool:
    return any(digest in index.digests for digest in named)


def _needs_content(mentions: Mentions) -> bool:
    return bool(mentions.known) and "digest-mismatch" in mentions.known[0].findings
