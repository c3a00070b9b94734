"""The texts of the page of a fleet's picture."""

from __future__ import annotations

from typing import Final

import msgspec

from auditor.fleet.picture import Picture
from auditor.formats import fleet_picture
from auditor.formats.html.node_page import Verdict

#: Most rows of a table: the page stays below 2 MB; the JSON has all.
ROWS: Final = 500


class PicturePage(msgspec.Struct, frozen=True, kw_only=True):
    """Everything on the page; the template escapes the names."""

    title: str
    verdict: Verdict
    picture: Picture
    most: int = ROWS


def page(picture: Picture) -> PicturePage:
    """Build the page."""
    return PicturePage(title=fleet_picture.verdict(picture), verdict=_verdict(picture), picture=picture)


def _verdict(picture: Picture) -> Verdict:
    counts, sentence = picture.counts, fleet_picture.verdict(picture)
    if counts.damaged:
        return Verdict("bad", f"{counts.damaged:,} of {counts.reported:,} nodes damaged", sentence)
    if not picture.complete:
        return Verdict("unknown", "Not fully checked", sentence)
    return Verdict("good", "No problems found", sentence)
