"""The JSON Schema of each printed document: a schema, in git, and what the documents are valid by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import msgspec
import pytest

from auditor import checks
from auditor.fleet.picture import NodeCounts, Picture
from auditor.formats import recover, rulebook, schemas
from auditor.formats.export import Exported, ImageRow, as_json
from auditor.formats.json_report import to_json
from auditor.formats.quarantine import QuarantineDocument
from auditor.formats.quarantine import render as render_quarantine
from auditor.formats.recover import CopiedDatabase, Recovered, RecoveredRow, WrittenRow
from auditor.formats.repair import PlanRows, RepairDocument
from auditor.report.compare import compare
from auditor.report.fleet import join
from auditor.report.image_tree import ImageTree, TreeNode
from tests.unit import reports
from tests.unit.formats.test_repair_snapshots import KEPT

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = ROOT / "reports" / "samples"


def exported() -> str:
    image = ImageRow(names=("app:1",), target="sha256:0", platforms=())
    return as_json(
        Exported(
            path="app.tar",
            bytes=1,
            digest=None,
            compression="none",
            namespace="k8s.io",
            blobs=1,
            blob_bytes=1,
            images=(image,),
            duration_seconds=0.5,
        )
    )


def trees() -> str:
    leaf = TreeNode(kind="layer 1", digest="sha256:1", size=2048, state="absent", faults=("incomplete-image",))
    root = TreeNode(kind="manifest", platform="linux/arm64", digest="sha256:0", size=1, children=(leaf,))
    return to_json([ImageTree(namespace="k8s.io", names=("app:1",), root=root)])


def recovered() -> str:
    row = RecoveredRow(namespace="k8s.io", name="app:1", digest="sha256:0", certainty="asserted", status="intact")
    written = WrittenRow(kind="archive", path="app.tar", namespace="k8s.io", images=1, bytes=1)
    return recover.as_json(
        Recovered(root="/mnt", dry_run=False, verified=True, images=(row,), written=(written,), notes=("a note",))
    )


def copied() -> str:
    return recover.as_json(CopiedDatabase(root="/mnt", path="new.db", newest=True, images=1, blobs=1, snapshots=1))


def picture() -> Picture:
    counts = dict.fromkeys(NodeCounts.__struct_fields__, 0)
    empty: dict[str, Any] = dict.fromkeys(("causes", "digests", "nodes", "codes", "images"), ())
    return Picture(
        complete=True, oldest=reports.AT, newest=reports.AT, counts=NodeCounts(**counts), superseded=0, **empty
    )


DOCUMENTS = {
    "fleet-picture": to_json(picture()),
    "report": to_json(reports.damaged()),
    "fleet": to_json(join([reports.damaged(), reports.sound()])),
    "comparison": to_json(compare(reports.damaged(), reports.sound())),
    "repair": to_json(RepairDocument(dry_run=True, plan=PlanRows(), after=reports.damaged())),
    "quarantine": render_quarantine(QuarantineDocument(action="list", entries=(KEPT,)), as_json=True),
    "export": exported(),
    "recover": recovered(),
    "recover-database": copied(),
    "diagnosis": (SAMPLES / "diagnose-bug.json").read_text(),
    "tree": trees(),
    "rules": rulebook.as_json(tuple(checks.RULEBOOK.values())),
}


def test_every_document_has_a_schema() -> None:
    assert DOCUMENTS.keys() == schemas.DOCUMENTS.keys()
    written = {path.stem for path in (ROOT / "reports" / "schemas").iterdir()}
    assert written == schemas.DOCUMENTS.keys() - {"report"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_is_valid_by_its_schema_and_another_is_not(name: str) -> None:
    schema = schemas.schema(name)
    jsonschema.Draft202012Validator.check_schema(schema)
    valid = jsonschema.Draft202012Validator(schema)
    valid.validate(json.loads(DOCUMENTS[name]))
    assert not valid.is_valid({"schema": "containerd-auditor/other/v1"})


def test_a_schema_is_always_the_same() -> None:
    assert all(schemas.render(name) == schemas.render(name) for name in schemas.DOCUMENTS)
    assert msgspec.json.decode(schemas.render("report"))["title"] == "containerd-auditor/report/v1"
