"""The options that say where good bytes come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

From = Annotated[
    list[str] | None,
    typer.Option(
        "--from",
        metavar="namespace|archive:PATH|registry",
        help="Take bytes from here; may be repeated, tried in order. namespace, then registry by default.",
        show_default=False,
    ),
]
HostsDir = Annotated[
    Path,
    typer.Option("--hosts-dir", metavar="DIR", help="containerd's tree of hosts.toml files for registries."),
]
DockerConfig = Annotated[
    Path | None,
    typer.Option(
        "--docker-config",
        metavar="PATH",
        help="docker's config.json, or its folder, for credentials; by default $DOCKER_CONFIG or ~/.docker.",
        show_default=False,
    ),
]

HOSTS_DIR = Path("/etc/containerd/certs.d")
