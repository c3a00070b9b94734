"""The JSON of a repair, field by field, and what its text shows of the same plan."""

from __future__ import annotations

import json
from pathlib import Path

from auditor.formats import json_report
from auditor.formats.repair import RepairDocument, outcome_row, plan_rows, render_outcomes, render_plan
from auditor.model.blob_source import Offer
from auditor.model.digest import Digest
from auditor.model.findings import Severity
from auditor.model.store import Resource
from auditor.repair.apply import Outcome, Result
from auditor.repair.needs import Held, Need, Place, Skip
from auditor.repair.plan import Action, Kind, Plan, Way
from tests.unit.reports import sound

DIGEST = Digest("sha256:" + "a" * 64)
CHILD = "sha256:" + "b" * 64
IMAGE = "docker.io/library/app:1"
NEED = Need(
    digest=DIGEST,
    size=7,
    media_type="application/vnd.oci.image.config.v1+json",
    role="config",
    codes=("digest-mismatch", "missing-config"),
    damaged=True,
    places=(Place("default"),),
    holders=(Held("k8s.io", 7, {}, (Resource("content", CHILD),)),),
    images=(IMAGE,),
)
OFFERS = (
    Offer("registry", DIGEST, 7, "", "docker.io/library/app", certain=False),
    Offer("twin", DIGEST, 7, "", "twin", certain=True),
)
ACTION = Action(
    kind=Kind.REPLACE, way=Way.FILE, need=NEED, offers=OFFERS, touches=("the file",), warnings=("a warning",)
)
SKIPS = (
    Skip(
        code="blob-lazy",
        severity=Severity.INFO,
        namespace="k8s.io",
        kind="layer",
        id=CHILD,
        reason="read when needed",
        images=(IMAGE,),
    ),
    Skip(
        code="stale-ingest",
        severity=Severity.WARNING,
        namespace="default",
        kind="ingest",
        id="layer-1",
        reason="no blob is damaged",
    ),
)
PLAN = Plan(actions=(ACTION,), skips=SKIPS, notes=("a note",))
REPAIRED = Outcome(
    action=ACTION,
    result=Result.REPAIRED,
    message="from docker.io/library/app, read back and hashed",
    way=Way.API,
    place="docker.io/library/app",
    hint="a hint",
    quarantined=Path("/kept/bad"),
    notes=("a remark",),
)
FAILED = Outcome(action=ACTION, result=Result.FAILED, message="no source is left", way=Way.FILE)

SKIPS_JSON = [
    {
        "code": "blob-lazy",
        "severity": "info",
        "namespace": "k8s.io",
        "kind": "layer",
        "id": CHILD,
        "reason": "read when needed",
        "images": [IMAGE],
    },
    {
        "code": "stale-ingest",
        "severity": "warning",
        "namespace": "default",
        "kind": "ingest",
        "id": "layer-1",
        "reason": "no blob is damaged",
        "images": [],
    },
]
PLAN_JSON = {
    "actions": [
        {
            "kind": "replace",
            "way": "file",
            "digest": DIGEST,
            "role": "config",
            "size": 7,
            "codes": ["digest-mismatch", "missing-config"],
            "namespaces": ["default", "k8s.io"],
            "images": [IMAGE],
            "sources": ["registry: docker.io/library/app", "twin"],
            "touches": ["the file"],
            "holds": [f"k8s.io content {CHILD}"],
            "warnings": ["a warning"],
        }
    ],
    "snapshots": [],
    "skips": SKIPS_JSON,
    "notes": ["a note"],
}
OUTCOMES_JSON = [
    {
        "digest": DIGEST,
        "role": "config",
        "size": 7,
        "kind": "replace",
        "way": "api",
        "result": "repaired",
        "message": "from docker.io/library/app, read back and hashed",
        "namespaces": ["default", "k8s.io"],
        "images": [IMAGE],
        "source": "docker.io/library/app",
        "hint": "a hint",
        "aside": "/kept/bad",
        "notes": ["a warning", "a remark"],
    },
    {
        "digest": DIGEST,
        "role": "config",
        "size": 7,
        "kind": "replace",
        "way": "file",
        "result": "failed",
        "message": "no source is left",
        "namespaces": ["default", "k8s.io"],
        "images": [IMAGE],
        "source": "",
        "hint": "",
        "aside": "",
        "notes": ["a warning"],
    },
]


def test_the_json_has_every_field_in_its_order() -> None:
    document = RepairDocument(
        dry_run=False,
        plan=plan_rows(PLAN),
        outcomes=(outcome_row(REPAIRED), outcome_row(FAILED)),
        skips=SKIPS,
        notes=("a run was interrupted",),
        after=sound(),
    )
    found = json.loads(json_report.to_json(document))
    after = found.pop("after")
    expected = {
        "schema": "containerd-auditor/repair/v1",
        "dry_run": False,
        "plan": PLAN_JSON,
        "outcomes": OUTCOMES_JSON,
        "snapshots": [],
        "skips": SKIPS_JSON,
        "notes": ["a run was interrupted"],
    }
    assert json.dumps(found) == json.dumps(expected)
    assert after == json.loads(json_report.to_json(sound()))


def test_the_text_lists_a_warning_and_counts_an_info() -> None:
    shown = render_plan(plan_rows(PLAN))
    assert "left alone: ingest layer-1 (stale-ingest): no blob is damaged" in shown
    assert "left alone: blob-lazy, 1 time: read when needed" in shown


def test_a_quarantined_copy_and_a_failure_are_shown_with_their_outcome() -> None:
    shown = render_outcomes((outcome_row(REPAIRED), outcome_row(FAILED)), ())
    assert f"{DIGEST[:19]}: the damaged copy is in /kept/bad" in shown
    assert f"{DIGEST[:19]}: no source is left" in shown
    assert "1 failed, 1 repaired" in shown
