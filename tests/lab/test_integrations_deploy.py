"""What is under deploy/, given to the programs that would read it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from auditor.version import __version__
from tests import images
from tests.lab.checked import auditor
from tests.lab.conftest import StartDaemon
from tests.lab.kit import faults
from tests.lab.kit.binaries import NotInstalledError
from tests.lab.kit.daemon import Containerd
from tests.lab.kit.registry import Registry
from tests.program import ROOT, command, environment

DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "containerd-auditor"
UNITS = sorted((DEPLOY / "systemd").iterdir())
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
MANIFESTS = [
    pytest.param(document, id=f"{path.name}-{document['kind']}")
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for document in yaml.safe_load_all(path.read_text())
]
SAMPLE = images.image([images.layer(images.files(f"deployed-{number}")) for number in range(2)])


def analyze(*arguments: str | Path, root: Path) -> str:
    if shutil.which("systemd-analyze") is None:
        raise NotInstalledError("systemd-analyze is absent; run tools/lab-install --with systemd-analyze as root")
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Give the units with the program where this machine has one: systemd wants it to exist."""
    for unit in UNITS:
        (tmp_path / unit.name).write_text(unit.read_text().replace("/usr/local/bin/auditor", "/bin/true"))
    return tmp_path


def test_systemd_takes_the_units_without_a_word(units: Path) -> None:
    assert analyze("verify", *(f"./{unit.name}" for unit in UNITS), root=units) == ""


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_a_service_is_exposed_by_less_than_three(unit: Path, units: Path) -> None:
    said = analyze("security", "--offline=true", "--threshold=29", unit.name, root=units)
    exposure = re.search(r"exposure level for \S+: ([\d.]+)", said)
    assert exposure is not None
    assert float(exposure[1]) < 3.0


def programs() -> list[list[str]]:
    """Each command line of ours under deploy/."""
    started = r"""(?m)^ExecStart=.*/usr/local/bin/auditor (.*?)(?: "\$\$@"' auditor)?$"""
    found = [re.search(started, unit.read_text()) for unit in SERVICES]
    assert all(found)
    lines = [line[1].split() for line in found if line]
    npd = json.loads((DEPLOY / "node-problem-detector" / "containerd-auditor.json").read_text())
    lines += [rule["args"] for rule in npd["rules"]]
    for parameter in MANIFESTS:
        (document,) = parameter.values
        if isinstance(document, dict) and "template" in document.get("spec", {}):
            lines += [c["args"] for c in document["spec"]["template"]["spec"]["containers"]]
    return lines


@pytest.mark.parametrize("line", programs(), ids=lambda line: line[0])
def test_each_command_line_is_one_that_the_program_takes(line: list[str], tmp_path: Path) -> None:
    """Options are parsed before anything else; an address where nobody is gives 3, a wrong option 2."""
    values = {"EVERY": "6h", "JITTER": "30m", "VERIFY": "presence", "LIMIT_RATE": "50MiB"}
    values |= {"SCRUB_EVERY": "24h", "SCRUB_JITTER": "2h", "SCRUB_MAX_AGE": "7d", "SCRUB_MAX_DURATION": "30m"}
    filled = [re.sub(r"\$\((\w+)\)", lambda found: values[found[1]], word) for word in line]
    filled = [
        re.sub(r"%S/containerd-auditor|/textfiles|/var/lib/containerd-auditor", str(tmp_path), word) for word in filled
    ]
    if filled[0] == "health":
        assert auditor(*filled).status == 2, "no report is unknown"
        return
    filled = [word for word in filled if not word.startswith(("--every", "--jitter", "--listen"))]
    nobody = {"CONTAINERD_ADDRESS": str(tmp_path / "nobody.sock")}
    with subprocess.Popen(
        command(*filled), stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment(nobody)
    ) as running:
        assert running.stderr is not None
        assert any("nobody.sock" in line for line in running.stderr)
        if filled[0] == "watch":  # it waits for its daemon until it is told to end
            running.terminate()
        said = running.stderr.read()
    assert running.returncode == (0 if filled[0] == "watch" else 3), said


@pytest.mark.parametrize("version", ["1.31.0", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("document", MANIFESTS)
def test_kubernetes_would_take_the_manifest(document: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("kind", ["k3s", "k0s", "microk8s", "rke2"])
def test_an_overlay_sets_the_paths_of_the_chart_s_values(kind: str) -> None:
    overlay = yaml.safe_load((DEPLOY / "kustomize" / kind / "kustomization.yaml").read_text())
    values = yaml.safe_load((CHART / f"values-{kind}.yaml").read_text())["containerd"]
    settings, daemons = (yaml.safe_load(each["patch"]) for each in overlay["patches"])
    assert settings[0]["value"] == f"{values['runDir']}/containerd.sock"
    content = f"{values['root']}/io.containerd.content.v1.content"
    assert [each["value"] for each in daemons] == [values["runDir"], values["runDir"], content, content]


def test_the_chart_has_the_alerts_the_dashboard_and_the_version() -> None:
    for name in ("alerts.yml", "dashboard.json"):
        assert (CHART / "files" / name).read_text() == (ROOT / "reports" / name).read_text()
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


def test_the_schema_would_refuse_a_slip() -> None:
    daemon_set = next(
        p.values[0] for p in MANIFESTS if isinstance(p.values[0], dict) and p.values[0]["kind"] == "DaemonSet"
    )
    wrong = json.loads(json.dumps(daemon_set))
    wrong["spec"]["template"]["spec"]["containers"][0]["readonlyRootFilesystem"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.31.0", strict=True)


def test_the_manifests_give_nothing_beyond_reading() -> None:
    for parameter in MANIFESTS:
        (document,) = parameter.values
        assert isinstance(document, dict)
        pod = document.get("spec", {}).get("template", {}).get("spec")
        if pod is None:
            continue
        (container,) = pod["containers"]
        context = container["securityContext"]
        assert context["capabilities"] == {"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]}
        assert not context["privileged"]
        assert not context["allowPrivilegeEscalation"]
        assert not {"hostPID", "hostNetwork", "hostIPC"} & pod.keys()
        mounts = {mount["name"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
        assert mounts["socket"]
        assert mounts["content"]


def test_the_gate_is_not_retried_and_knows_our_exit_statuses() -> None:
    (job,) = (p.values[0] for p in MANIFESTS if isinstance(p.values[0], dict) and p.values[0]["kind"] == "Job")
    assert job["spec"]["backoffLimit"] == 0
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"
    (rule,) = (r for r in job["spec"]["podFailurePolicy"]["rules"] if r["action"] == "FailJob")
    assert rule["onExitCodes"] == {"containerName": "auditor", "operator": "In", "values": [1, 2, 3]}


def test_the_problem_detector_s_config_has_the_fields_of_its_types() -> None:
    """The names are those of node-problem-detector's pkg/custompluginmonitor/types/config.go and its Rule."""
    config = json.loads((DEPLOY / "node-problem-detector" / "containerd-auditor.json").read_text())
    assert config.keys() == {"plugin", "pluginConfig", "source", "metricsReporting", "conditions", "rules"}
    assert config["plugin"] == "custom"
    assert config["pluginConfig"].keys() <= {
        "invoke_interval",
        "timeout",
        "max_output_length",
        "concurrency",
        "enable_message_change_based_condition_update",
        "skip_initial_status",
    }
    durations = [config["pluginConfig"][name] for name in ("invoke_interval", "timeout")]
    durations += [rule["timeout"] for rule in config["rules"]]
    assert all(re.fullmatch(r"(\d+(ms|s|m|h))+", duration) for duration in durations)
    conditions = {condition["type"] for condition in config["conditions"]}
    for rule in config["rules"]:
        assert rule.keys() == {"type", "condition", "reason", "path", "args", "timeout"}
        assert rule["type"] == "permanent"
        assert rule["condition"] in conditions


@pytest.fixture
def store(start_daemon: StartDaemon, registry: Registry) -> Containerd:
    daemon = start_daemon("1.7")
    daemon.cri_pull(registry.push(SAMPLE, "lab/deployed:1"))
    return daemon


def cron(daemon: Containerd, folder: Path) -> str:
    """Run cron's line as cron does, less the waiting; what it prints is what cron would mail."""
    (line,) = (
        line for line in (DEPLOY / "cron" / "containerd-auditor").read_text().splitlines() if line.startswith("17")
    )
    shell = line.split(maxsplit=6)[6].replace("shuf -i 0-1800", "shuf -i 0-0")
    assert line.split()[5] == "root"
    assert "%" not in shell, "cron would make a line's end of it"
    program = folder / "auditor"
    program.write_text(f'#!/bin/sh\nexec {" ".join(command())} "$@"\n')
    program.chmod(0o755)
    env = environment({"CONTAINERD_ADDRESS": str(daemon.socket)})
    env["PATH"] = f"{folder}:{env['PATH']}"
    done = subprocess.run(["/bin/sh", "-c", shell], capture_output=True, text=True, check=False, env=env, cwd=ROOT)
    return done.stdout + done.stderr


def test_cron_mails_on_findings_and_when_nobody_answers_and_only_then(store: Containerd, tmp_path: Path) -> None:
    assert cron(store, tmp_path) == ""
    faults.delete_file(store, SAMPLE.layers[0].digest)
    assert "blob-file-missing" in cron(store, tmp_path)
    store.stop()
    assert cron(store, tmp_path).startswith("auditor: ")


def test_root_with_nothing_but_reading_left_is_enough(store: Containerd, tmp_path: Path) -> None:
    """As the units and the manifests have it: no capability but CAP_DAC_READ_SEARCH, and no new privileges."""
    through = ["setpriv", "--bounding-set=-all,+dac_read_search", "--inh-caps=-all", "--no-new-privs"]
    report = tmp_path / "report.json"
    done = auditor(
        *("check", "--address", store.socket, "--verify", "layers", "--format", "json", "--output", report),
        *("--textfile", tmp_path / "a.prom"),
        through=through,
    )
    assert done.status == 0, done.err
    assert auditor("health", "nagios", report, through=through).status == 0
