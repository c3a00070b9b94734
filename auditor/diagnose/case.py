"""Input of a verdict: what a text mentions, what of it was found, the evidence."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from auditor.diagnose.commands import CommandTarget
from auditor.diagnose.evidence_index import EvidenceIndex
from auditor.diagnose.extract import Mentions
from auditor.diagnose.messages import KnownMessage
from auditor.diagnose.resolve import Named


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Input of a verdict; `message` is the most specific known message, `folders` what of the text's folders exists."""

    mentions: Mentions
    named: Named
    index: EvidenceIndex | None
    target: CommandTarget
    message: KnownMessage | None
    folders: Mapping[str, bool] = {}
