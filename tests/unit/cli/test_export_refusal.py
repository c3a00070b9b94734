"""The remedy of a refused export: repair where that ends the fault, else what the finding says."""

from __future__ import annotations

import pytest

from auditor.cli.runs.export_refusal import refuse
from auditor.errors import ExportRefused
from auditor.export.model import ExportPlan, Missing, PlannedBlob, PlannedImage, Role
from auditor.model.digest import Digest
from auditor.model.findings import Finding, Severity, Subject
from auditor.model.oci import OCI_MANIFEST, Descriptor

ROOT = Digest("sha256:" + "ab" * 32)
IMAGE = PlannedImage(names=("a:1",), target=Descriptor(OCI_MANIFEST, ROOT, 9), platforms=(), name="a:1")
PUBLISHER = "Ask the image's publisher."
REPAIR = "`auditor repair -n n --verify digests a:1` brings it back; or export with --refetch"


def refused(plan: ExportPlan, finding: Finding) -> str:
    with pytest.raises(ExportRefused) as error:
        refuse((finding,), plan, "n", salvage=False, refetch=False, present={})
    return error.value.hint


def fault(hint: str, cause: str = "published-so") -> Finding:
    return Finding(
        code="malformed-manifest",
        severity=Severity.CRITICAL,
        namespace="n",
        subject=Subject(kind="manifest", digest=str(ROOT)),
        message="a fault",
        cause=cause,
        hint=hint,
    )


@pytest.mark.parametrize(("hint", "remedy"), [(PUBLISHER, PUBLISHER), ("auditor repair -n n a:1", REPAIR)])
def test_a_fault_of_the_publisher_is_not_repaired(hint: str, remedy: str) -> None:
    plan = ExportPlan(images=(IMAGE,), blobs=(PlannedBlob(ROOT, 9, Role.MANIFEST),))
    assert refused(plan, fault(hint)) == remedy


def test_a_manifest_that_cannot_be_read_is_as_published() -> None:
    missing = Missing("a:1", "", Role.MANIFEST, str(ROOT), "cannot be read")
    assert refused(ExportPlan(images=(), blobs=(), missing=(missing,)), fault(PUBLISHER)) == PUBLISHER


def test_the_printed_tree_names_the_image() -> None:
    missing = Missing("-a", "", Role.INDEX, str(ROOT), "has no manifest for the platforms asked for")
    found = refused(ExportPlan(images=(), blobs=(), missing=(missing,)), fault("", cause=""))
    assert found == "`auditor tree -n n -- -a` shows which platforms it has"
