"""The samples in the formats that saved reports are rendered in: `python -m tests.unit.rendered` writes them anew.

They follow from the JSON samples, which come from real stores; tests/unit/report/test_samples.py holds them to it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from auditor.cli import render
from auditor.cli.choices import ReportFormat
from auditor.formats import json_report
from auditor.model.findings import Report
from auditor.report.compare import pair

FOLDER: Final = Path(__file__).resolve().parents[2] / "reports" / "samples"
ENDINGS: Final = {
    ReportFormat.NDJSON: "ndjson",
    ReportFormat.PROMETHEUS: "prom",
    ReportFormat.JUNIT: "xml",
    ReportFormat.MARKDOWN: "md",
    ReportFormat.HTML: "html",
    ReportFormat.SARIF: "sarif",
    ReportFormat.GITLAB: "gitlab.json",
}


def make() -> dict[str, str]:
    """Each sample by the name of its file: a damaged node, three nodes, and what changed on one."""
    damaged, healthy, bug = load("damaged"), load("healthy"), load("bug")
    nodes = [replace(report, host=f"node-{n}.example") for n, report in enumerate((damaged, healthy, bug), 1)]
    look = render.RenderOptions()
    found = {f"damaged.{ending}": render.one(damaged, kind, look) for kind, ending in ENDINGS.items()}
    wanted = (ReportFormat.MARKDOWN, ReportFormat.HTML)
    found |= {f"fleet.{ENDINGS[kind]}": render.many(nodes, kind, look) for kind in wanted}
    found["fleet.txt"] = render.many(nodes, ReportFormat.TABLE, look)
    found["changed.txt"] = render.changes([damaged], pair([damaged], [healthy]), ReportFormat.TABLE)
    return found


def load(name: str) -> Report:
    """A JSON sample."""
    return json_report.load((FOLDER / f"{name}.json").read_bytes(), name=name)


def main() -> int:
    """Write them."""
    for name, text in make().items():
        (FOLDER / name).write_text(text)
        print(FOLDER / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
