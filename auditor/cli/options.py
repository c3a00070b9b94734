"""The options that every command takes after its name, and what they come to together."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Annotated

import msgspec

from auditor.cli.arguments import Option
from auditor.cli.choices import ReportFormat
from auditor.errors import UsageError

Address = Annotated[
    str | None,
    Option(
        "--address",
        "-a",
        envvar="CONTAINERD_ADDRESS",
        metavar="SOCKET",
        help="containerd's socket; else the first of the usual ones that exists.",
        show_default=False,
    ),
]
Namespaces = Annotated[
    list[str] | None,
    Option(
        "--namespace",
        "-n",
        envvar="CONTAINERD_NAMESPACE",
        metavar="NAMESPACE",
        help="Look at this namespace only; may be repeated. All of them by default.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    Option("--output", "-o", metavar="FILE", help="Write the report to FILE, whole or not at all."),
]
ReportFormats = Annotated[ReportFormat, Option("--format", "-f", help="How to print the report.")]
Textfile = Annotated[
    Path | None,
    Option(
        "--textfile",
        metavar="FILE",
        help="Write metrics to FILE too, for node_exporter's textfile collector; its name should end in .prom.",
        show_default=False,
    ),
]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Print nothing when nothing is wrong.")]
Verbose = Annotated[bool, Option("--verbose", "-v", help="Print what is normal too, and how it was found.")]
NoProgress = Annotated[bool, Option("--no-progress", help="Show no progress on a terminal.")]
Timeout = Annotated[
    float, Option("--timeout", metavar="SECONDS", min=0.1, help="How long one answer of the daemon may take.")
]
ContentRoot = Annotated[
    str,
    Option(
        "--content-root",
        metavar="auto|none|DIR",
        help="Where blobs are read: where the daemon says, through its API alone, or where its content store is "
        "mounted here.",
    ),
]
Platforms = Annotated[
    list[str] | None,
    Option(
        "--platform",
        metavar="OS/ARCH",
        help="Want this platform; may be repeated. The node's by default.",
        show_default=False,
    ),
]
AllPlatforms = Annotated[bool, Option("--all-platforms", help="Want every platform that an index lists.")]
Snapshotters = Annotated[
    list[str] | None,
    Option(
        "--snapshotter",
        metavar="NAME",
        help="Look at this snapshotter only; may be repeated. All that the daemon offers by default.",
        show_default=False,
    ),
]

Jobs = Annotated[
    int | None,
    Option("--jobs", "-j", metavar="N", min=1, max=256, help="Threads; one a core by default.", show_default=False),
]
LimitRate = Annotated[
    str | None,
    Option("--limit-rate", metavar="RATE", help="Read no more than this a second, as in 50MiB.", show_default=False),
]
MaxLayer = Annotated[
    str | None,
    Option(
        "--max-layer-size",
        metavar="SIZE",
        help="Decompress no layer further than this; what is larger is said to be unverifiable.",
        show_default=False,
    ),
]


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """What the common options said."""

    address: str | None = None
    namespaces: tuple[str, ...] = ()
    output: Path | None = None
    quiet: bool = False
    verbose: bool = False
    progress: bool = True
    timeout: float = 30.0
    content_root: str = "auto"
    #: Progress goes to standard output as lines of JSON while the run goes on.
    stream: bool = False


def common(
    *,
    address: str | None,
    namespaces: list[str] | None,
    output: Path | None,
    quiet: bool,
    verbose: bool,
    no_progress: bool,
    timeout: float,
    content_root: str,
    stream: bool = False,
) -> Common:
    """Put the common options together; CONTAINERD_NAMESPACE may hold several names, separated by commas or spaces."""
    if not math.isfinite(timeout):
        raise UsageError(f"--timeout {timeout} is no time", hint="give seconds, such as 30")
    names = [part for text in namespaces or [] for part in text.replace(",", " ").split()]
    return Common(
        address=address,
        namespaces=tuple(dict.fromkeys(names)),
        output=output,
        quiet=quiet,
        verbose=verbose,
        progress=not (no_progress or quiet),
        timeout=timeout,
        content_root=content_root,
        stream=stream,
    )


def colour(stream_is_terminal: bool) -> bool:
    """Whether to colour: on a terminal only, and not where NO_COLOR or a dumb terminal asks for none."""
    return stream_is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


From = Annotated[
    list[str] | None,
    Option(
        "--from",
        metavar="namespace|archive:PATH|registry",
        help="Take bytes from here; may be repeated, tried in order. namespace, then registry by default.",
        show_default=False,
    ),
]
HostsDir = Annotated[
    Path,
    Option("--hosts-dir", metavar="DIR", help="containerd's tree of hosts.toml files for registries."),
]
DockerConfig = Annotated[
    Path | None,
    Option(
        "--docker-config",
        metavar="PATH",
        help="docker's config.json, or its folder, for credentials; by default $DOCKER_CONFIG or ~/.docker.",
        show_default=False,
    ),
]

HOSTS_DIR = Path("/etc/containerd/certs.d")
