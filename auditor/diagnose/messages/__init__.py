"""The messages that people bring, as containerd and its clients print them, with their causes and our sources.

The most telling comes first: a text that several entries fit is explained by the first. What the machine says of itself
(a full disk) explains whatever failed for it, so it stands before all else; what could mean anything stands last.
"""

from __future__ import annotations

from auditor.diagnose.messages.blobs import BLOBS
from auditor.diagnose.messages.daemon import GENERAL, MACHINE
from auditor.diagnose.messages.documents import ARCHIVES, DOCUMENTS
from auditor.diagnose.messages.message import Known, Sure
from auditor.diagnose.messages.snapshots import SNAPSHOTS
from auditor.diagnose.messages.transfer import TRANSFER

__all__ = ["MESSAGES", "RANK", "Known", "Sure", "recognise"]

MESSAGES: tuple[Known, ...] = (*MACHINE, *ARCHIVES, *BLOBS, *TRANSFER, *SNAPSHOTS, *DOCUMENTS, *GENERAL)
#: The place of each entry, by id: the lower, the more telling.
RANK = {known.id: place for place, known in enumerate(MESSAGES)}


def recognise(text: str) -> tuple[Known, ...]:
    """The known messages in a text, the most telling first."""
    lower = text.lower()
    return tuple(
        known for known in MESSAGES if any(a.lower() in lower for a in known.anchors) and known.regex.search(text)
    )
