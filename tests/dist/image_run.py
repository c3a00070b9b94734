"""The words for `ctr run` that give a container what a manifest of deploy/kubernetes gives to its pod."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tests.program import ROOT

#: Capabilities that containerd gives to a container by default.
DEFAULT_RIGHTS: Final = (
    *("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP"),
    *("NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"),
)


def pod(manifest: str) -> dict[str, Any]:
    """Return the pod of the DaemonSet in a manifest."""
    documents = yaml.safe_load_all((ROOT / "deploy/kubernetes" / manifest).read_text())
    found: dict[str, Any] = next(each for each in documents if each["kind"] == "DaemonSet")
    return dict(found["spec"]["template"]["spec"])


def words(spec: Mapping[str, Any], folders: Mapping[str, Path]) -> list[str]:
    """Return the options of `ctr run` for a pod's container.

    Args:
        spec: The pod.
        folders: The folder to mount for each of its volumes; the socket's and the content's are mounted where they are.

    """
    (container,) = spec["containers"]
    context = container["securityContext"]
    assert context["readOnlyRootFilesystem"]
    assert context["capabilities"]["drop"] == ["ALL"]
    found = ["--read-only", "--seccomp"]
    for right in DEFAULT_RIGHTS:
        found += ["--cap-drop", f"CAP_{right}"]
    for right in context["capabilities"]["add"]:
        found += ["--cap-add", f"CAP_{right}"]
    for mount in container["volumeMounts"]:
        source, read_only = folders[mount["name"]], mount.get("readOnly", False)
        place = source if read_only else mount["mountPath"]
        mode = "ro" if read_only else "rw"
        found += ["--mount", f"type=bind,src={source},dst={place},options=rbind:{mode}"]
    return found
