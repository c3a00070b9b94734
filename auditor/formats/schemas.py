"""The JSON Schema of each JSON document that the program prints, generated from its types."""

from __future__ import annotations

from typing import Any

import msgspec

from auditor.checks.rule import Rule
from auditor.diagnose.model import Diagnosis
from auditor.fleet.picture import Picture
from auditor.formats.export import Exported
from auditor.formats.quarantine import QuarantineDocument
from auditor.formats.recover import CopiedDatabase, Recovered
from auditor.formats.repair import RepairDocument
from auditor.model.findings import Report
from auditor.report.compare import Comparison
from auditor.report.fleet import Fleet
from auditor.report.image_tree import ImageTree

#: By the name of the file in reports/schemas, and what prints it with `--format json`.
DOCUMENTS: dict[str, tuple[Any, str]] = {
    "report": (Report, "auditor check, scrub; verify and report of one archive or file"),
    "fleet": (Fleet, "auditor verify and report of several archives or files"),
    "comparison": (Comparison, "auditor report --against"),
    "repair": (RepairDocument, "auditor repair"),
    "fleet-picture": (Picture, "auditor fleet"),
    "quarantine": (QuarantineDocument, "auditor quarantine list, drop"),
    "export": (Exported, "auditor export"),
    "recover": (Recovered, "auditor recover"),
    "recover-database": (CopiedDatabase, "auditor recover --meta-db"),
    "diagnosis": (Diagnosis, "auditor diagnose"),
    "tree": (tuple[ImageTree, ...], "auditor tree"),
    "rules": (list[Rule], "auditor rules"),
}


def schema(name: str) -> dict[str, Any]:
    """The schema of a document."""
    kind, printed = DOCUMENTS[name]
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"containerd-auditor/{name}/v1"}
    return {**head, "description": f"Printed by: {printed}.", **msgspec.json.schema(kind)}


def render(name: str) -> str:
    """The text of a schema's file."""
    return msgspec.json.format(msgspec.json.encode(schema(name), order="deterministic"), indent=2).decode() + "\n"
