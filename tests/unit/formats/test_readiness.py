"""What a node could serve or unpack, as it is printed."""

from __future__ import annotations

import msgspec

from auditor.formats import json_report, table
from auditor.formats.readiness import serve_lines, unpack_lines
from auditor.model.readiness import CanServe, CanUnpack, NotReady
from tests.unit import reports

LACKING = tuple(
    NotReady(namespace="k8s.io", name=f"image-{n}\x1b[31m", target="sha256:1", reasons={"discarded": 99, "missing": 1})
    for n in range(12)
)
SERVE = CanServe(images=14, servable=2, bytes=4 << 20, bytes_absent=3 << 10, not_servable=LACKING)
UNPACK = CanUnpack(
    snapshotter="nydus", configured=False, images=14, unpacked=1, can=1, bytes_to_pull=3 << 10, pull_again=LACKING
)


def test_the_first_line_has_the_numbers() -> None:
    lines = list(serve_lines(SERVE, verbose=False))
    assert lines[0] == "could serve to other nodes: 2 of 14 images; 4.0 MiB of blobs, not 3.0 KiB"
    assert lines[1:3] == ["  discarded: 12 images", "  missing: 12 images"]
    assert lines[-1] == "  and 2 more; --verbose lists all"
    assert len(list(serve_lines(SERVE, verbose=True))) == 3 + len(LACKING)
    assert not any("\x1b" in line for line in lines)


def test_what_must_be_pulled_again() -> None:
    lines = list(unpack_lines(UNPACK, verbose=False))
    assert lines[0] == (
        "for snapshotter nydus: 1 of 14 images unpacked, 1 can be unpacked from blobs here, 12 must be pulled again "
        "(3.0 KiB)"
    )
    assert lines[1] == "  this daemon has no snapshotter nydus yet"


def test_only_where_it_was_asked_for() -> None:
    plain = reports.sound()
    asked = msgspec.structs.replace(plain, can_serve=SERVE, can_unpack=UNPACK)
    style = table.Style()
    assert "could serve" not in table.render(plain, advice={}, style=style)
    assert "could serve" in table.render(asked, advice={}, style=style)
    assert "can_serve" not in json_report.render(plain)
    assert json_report.load(json_report.render(asked).encode(), name="x") == asked
