"""The rules in the words of an archive, which has no records, no snapshots, no pulls and no repair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from auditor.checks.absent_layers import INCOMPLETE_IMAGE
from auditor.checks.blobs import BLOB_UNREADABLE, DIGEST_MISMATCH, SIZE_MISMATCH
from auditor.checks.documents import (
    IMAGE_TYPE_UNKNOWN,
    LAYER_COUNT_MISMATCH,
    MALFORMED_MANIFEST,
    MEDIA_TYPE_MISMATCH,
    MISSING_CONFIG,
    MISSING_MANIFEST,
    NAME_MISMATCH,
    NOT_AN_IMAGE,
)
from auditor.checks.index_children import ATTESTATION_NOT_PULLED, PLATFORM_NOT_PULLED
from auditor.checks.layer_content import DIFFID_MISMATCH, LAYER_UNDECODABLE
from auditor.checks.rule import ARCHIVE_REMEDY, Rule

_BUILT_SO = "Write the archive again; if the fault stays, the source has it: build the image again."
_LOST = "Loaders fail on the image, or load a part of it."


def _words(rule: Rule, *, means: str = "", impact: str = "", remedy: str = "") -> Rule:
    return msgspec.structs.replace(
        rule, means=means or rule.means, impact=impact or rule.impact, remedy=remedy or rule.remedy
    )


_RULES: Final = (
    _words(INCOMPLETE_IMAGE, means="A layer is not in the archive.", impact=_LOST, remedy=ARCHIVE_REMEDY),
    _words(
        MISSING_MANIFEST,
        means="The index or the manifest that a name leads to, or the manifest of a wanted platform, is not in the "
        "archive.",
        impact=_LOST,
        remedy=ARCHIVE_REMEDY,
    ),
    _words(MISSING_CONFIG, means="An image's config is not in the archive.", impact=_LOST, remedy=ARCHIVE_REMEDY),
    _words(
        PLATFORM_NOT_PULLED,
        means="A platform of the index is not in the archive, or only its manifest and config are.",
        impact="No fault: archives of one platform keep the whole index. Importers that want all platforms refuse it.",
        remedy="Nothing. Export with --all-platforms if all platforms are needed.",
    ),
    _words(
        ATTESTATION_NOT_PULLED,
        means="An attestation that the index lists is not in the archive.",
        impact="No fault: the image runs without it.",
        remedy="Nothing.",
    ),
    _words(
        SIZE_MISMATCH,
        means="The descriptor and the archive disagree on the size of a blob.",
        impact="The content is wrong; the image cannot be loaded or unpacked.",
        remedy=ARCHIVE_REMEDY,
    ),
    _words(
        DIGEST_MISMATCH,
        means="Content does not match its digest.",
        impact="Loaders refuse the blob, or load damaged content.",
        remedy=ARCHIVE_REMEDY,
    ),
    _words(
        BLOB_UNREADABLE,
        impact="The blob is not verified. An input/output error points to a failing disk.",
        remedy="Check the file's mode and the kernel's log, and verify again.",
    ),
    _words(MALFORMED_MANIFEST, impact="The image cannot be loaded anywhere.", remedy=_BUILT_SO),
    _words(MEDIA_TYPE_MISMATCH, impact="Some tools refuse such images; containerd loads them.", remedy=_BUILT_SO),
    _words(
        IMAGE_TYPE_UNKNOWN,
        means="index.json names an index or a manifest under a media type that is neither's: a general one, one with "
        "parameters, or one with a changed letter.",
        impact="containerd 1.6 and 1.7 refuse it, 2.1 loads it; none unpacks or runs it: `unexpected media type`.",
        remedy=ARCHIVE_REMEDY,
    ),
    _words(LAYER_COUNT_MISMATCH, remedy=_BUILT_SO),
    _words(DIFFID_MISMATCH, impact="The image cannot be unpacked: `unexpected layer digest`.", remedy=_BUILT_SO),
    _words(LAYER_UNDECODABLE, impact="The image cannot be unpacked.", remedy=_BUILT_SO),
    _words(
        NOT_AN_IMAGE,
        means="An image's name leads to content that is neither an index nor a manifest: a web page or a plain file.",
        impact="The image cannot be loaded: there is no image.",
        remedy="Write the archive again from a store that has the image.",
    ),
    _words(
        NAME_MISMATCH,
        impact="Clients that ask for that digest or id get something else.",
        remedy="Write the archive again under the right name.",
    ),
)
#: By code.
IN_ARCHIVE: Final[Mapping[str, Rule]] = {rule.code: rule for rule in _RULES}
