"""Which blobs are worth reading for a question: what it names, or everything where only bytes can explain it; pure."""

from __future__ import annotations

from auditor.checks.evidence import Evidence
from auditor.diagnose.describe import blobs_of
from auditor.diagnose.evidence_index import Catalogue
from auditor.diagnose.extract import Mentions
from auditor.model.digest import Digest


class Wanted:
    """A set of digests with an order: what is named first, then an image's, then all others, the small ones first."""

    def __init__(self, named: set[Digest], of_images: set[Digest], *, everything: bool) -> None:
        self._named = named
        self._of_images = of_images
        self._everything = everything

    def __contains__(self, digest: Digest) -> bool:
        """Whether the blob is to be read."""
        return self._everything or digest in self._named or digest in self._of_images

    def rank(self, digest: Digest, size: int) -> tuple[int, int, Digest]:
        """Where the blob comes; `size` in bytes."""
        first = 0 if digest in self._named else 1 if digest in self._of_images else 2
        return first, size, digest


def wanted(said: Mentions, evidence: Evidence) -> Wanted:
    """What to read for a text.

    A message that wrong bytes make, and that names nothing which is here, can only be explained by reading all.
    """
    catalogue = Catalogue(evidence, ())
    named: set[Digest] = set()
    for digest in (*said.digests, *_completed(said, catalogue)):
        named.add(digest)
        for places in (catalogue.chain_ids.get(digest, ()), catalogue.diff_ids.get(digest, ())):
            named.update(place.layer.descriptor.digest for place in places)
    images = [found for name in said.names for found in catalogue.image(name)]
    of_images = {digest for view, walked in images for digest in blobs_of(view, walked)}
    return Wanted(named, of_images, everything=_only_bytes_tell(said) and not images and not _known(named, catalogue))


def _completed(said: Mentions, catalogue: Catalogue) -> tuple[Digest, ...]:
    fitting = (catalogue.complete(prefix) for prefix in (*said.prefixes, *said.guesses))
    return tuple(found[0] for found in fitting if len(found) == 1)


def _known(named: set[Digest], catalogue: Catalogue) -> bool:
    return any(digest in catalogue.digests for digest in named)


def _only_bytes_tell(said: Mentions) -> bool:
    return bool(said.known) and "digest-mismatch" in said.known[0].fits
