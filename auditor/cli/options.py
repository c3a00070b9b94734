"""Options that several commands share, and their values as one record."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import msgspec

from auditor.cli.arguments import Option
from auditor.cli.choices import FailOn, Format, ReportFormat
from auditor.cli.units import seconds
from auditor.errors import UsageError

#: The value of --address that selects every daemon.
EVERY = "all"
_ADDRESS_VARIABLE = "CONTAINERD_ADDRESS"


def _address(metavar: str, words: str) -> Option:
    return Option(
        *("--address", "-a"),
        group="Store",
        envvar=_ADDRESS_VARIABLE,
        metavar=metavar,
        help=f"Path of containerd's socket{words}",
        show_default=False,
    )


#: One daemon; a list, so that several are refused and not the last one taken.
Address = Annotated[
    list[str] | None, _address("SOCKET", ". Default: the first of the usual paths on which a daemon listens.")
]
Addresses = Annotated[
    list[str] | None,
    _address(
        "SOCKET|all",
        "; repeatable; all: every daemon at the usual paths. Default: the first of those paths on which a daemon "
        "listens.",
    ),
]
Root = Annotated[
    Path | None,
    Option(
        "--root",
        group="Store",
        metavar="DIR",
        help="Read the files of a stopped containerd: its root, or the mount point of its disk. Writes nothing there.",
        show_default=False,
    ),
]
WhileRunning = Annotated[
    bool, Option("--while-running", group="Store", help="With --root: read the databases though a daemon uses them.")
]
Namespaces = Annotated[
    list[str] | None,
    Option(
        "--namespace",
        "-n",
        group="Selection",
        envvar="CONTAINERD_NAMESPACE",
        metavar="NAMESPACE",
        help="Only this namespace; repeatable. Default: all.",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    Option("--output", "-o", group="Output", metavar="FILE", help="Write the report to FILE atomically."),
]
FailsOn = Annotated[
    FailOn, Option("--fail-on", metavar="SEVERITY", help="Lowest severity that makes the exit status 1.")
]
ReportFormats = Annotated[ReportFormat, Option("--format", "-f", group="Output", help="Output format.")]
PlainFormats = Annotated[Format, Option("--format", "-f", group="Output", help="Output format.")]
Textfile = Annotated[
    Path | None,
    Option(
        "--textfile",
        group="Output",
        metavar="FILE",
        help="Also write metrics to FILE for node_exporter's textfile collector (NAME.prom; a new file has mode 0644).",
        show_default=False,
    ),
]
Quiet = Annotated[bool, Option("--quiet", "-q", group="Output", help="Print nothing if the exit status is 0.")]
Verbose = Annotated[
    bool,
    Option(
        "--verbose",
        "-v",
        group="Output",
        help="Also print findings of severity info, and notes on how the store was read.",
    ),
]
NoProgress = Annotated[bool, Option("--no-progress", group="Output", help="Show no progress bar.")]
Timeout = Annotated[
    float,
    Option(
        "--timeout",
        group="Store",
        metavar="TIME",
        parser=seconds,
        show_default="30s",
        help="Time limit for one response of the daemon, for example 5s.",
    ),
]
ContentRoot = Annotated[
    str,
    Option(
        "--content-root",
        group="Store",
        metavar="auto|none|DIR",
        help="How to read blobs: from the daemon's content folder if it is visible here, only through the API, or from "
        "DIR, where that folder is mounted.",
    ),
]


def _platform(default: str) -> Option:
    return Option(
        "--platform",
        group="Selection",
        metavar="OS/ARCH",
        help=f"Require this platform; repeatable. Default: {default}.",
        show_default=False,
    )


Platforms = Annotated[list[str] | None, _platform("the node's")]
ArchivePlatforms = Annotated[list[str] | None, _platform("those that the archive holds")]
AllPlatforms = Annotated[
    bool, Option("--all-platforms", group="Selection", help="Require every platform that an index lists.")
]
Snapshotters = Annotated[
    list[str] | None,
    Option(
        "--snapshotter",
        group="Selection",
        metavar="NAME",
        help="Only this snapshotter; repeatable. Default: all that the daemon has.",
        show_default=False,
    ),
]
AllowEmpty = Annotated[
    bool,
    Option(
        "--allow-empty", group="Selection", help="Exit with 0 if the store has no image and no blob, as on a new node."
    ),
]

Jobs = Annotated[
    int | None,
    Option(
        "--jobs",
        "-j",
        group="Reading",
        metavar="N",
        min=1,
        max=256,
        help="Number of parallel workers. Default: one per core.",
        show_default=False,
    ),
]
LimitRate = Annotated[
    str | None,
    Option(
        "--limit-rate",
        group="Reading",
        metavar="RATE",
        help="Maximum read rate per second, for example 50MiB.",
        show_default=False,
    ),
]
Every = Annotated[
    str | None,
    Option(
        "--every",
        group="Repetition",
        metavar="TIME",
        help="Repeat at this interval, for example 6h.",
        show_default=False,
    ),
]
Jitter = Annotated[
    str,
    Option("--jitter", group="Repetition", metavar="TIME", help="With --every: add a random delay of up to this."),
]
Listen = Annotated[
    str | None,
    Option(
        "--listen",
        group="Repetition",
        metavar="HOST:PORT",
        help="With --every: serve /metrics and /healthz on this address.",
        show_default=False,
    ),
]
MaxLayer = Annotated[
    str | None,
    Option(
        "--max-layer-size",
        group="Reading",
        metavar="SIZE",
        help="Maximum decompressed size of a layer; larger layers are reported as unverifiable.",
        show_default=False,
    ),
]


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """Values of the common options."""

    address: str | None = None
    namespaces: tuple[str, ...] = ()
    output: Path | None = None
    quiet: bool = False
    verbose: bool = False
    progress: bool = True
    timeout: float = 30.0
    content_root: str = "auto"
    #: Root of a stopped containerd, in place of the address.
    root: Path | None = None
    while_running: bool = False
    #: Print progress to standard output as lines of JSON during the run.
    stream: bool = False


def common(
    *,
    address: list[str] | None,
    namespaces: list[str] | None,
    output: Path | None,
    quiet: bool,
    verbose: bool,
    no_progress: bool,
    timeout: float,
    content_root: str,
    stream: bool = False,
    root: Path | None = None,
    while_running: bool = False,
) -> Common:
    """Build the record; CONTAINERD_NAMESPACE may hold several names, separated by commas or spaces."""
    _refuse_with_root(root, addresses=addresses(address), content_root=content_root, while_running=while_running)
    names = [part for text in namespaces or [] for part in text.replace(",", " ").split()]
    return Common(
        address=one_address(address),
        namespaces=tuple(dict.fromkeys(names)),
        output=output,
        quiet=quiet,
        verbose=verbose,
        progress=not (no_progress or quiet),
        timeout=timeout,
        content_root=content_root,
        stream=stream,
        root=root,
        while_running=while_running,
    )


def addresses(given: list[str] | None) -> tuple[str, ...]:
    """The values of --address; that of the environment is one address, though typer splits it at spaces."""
    variable = os.environ.get(_ADDRESS_VARIABLE, "")
    if given and given == variable.split():
        return (variable,)
    return tuple(address for address in given or () if address)


def one_address(given: list[str] | None) -> str | None:
    """Return the value of --address for a command that works on one daemon. Raises UsageError for several."""
    found = addresses(given)
    if len(found) > 1 or EVERY in found:
        raise UsageError(
            "this command works on one daemon", hint="give one --address; only auditor check takes several, or all"
        )
    return next(iter(found), None)


def _refuse_with_root(root: Path | None, *, addresses: tuple[str, ...], content_root: str, while_running: bool) -> None:
    """Refuse options that exclude --root; an address from the environment does not count."""
    if root is None:
        if while_running:
            raise UsageError("--while-running needs --root", hint="add --root /var/lib/containerd")
        return
    named = addresses not in ((), (os.environ.get(_ADDRESS_VARIABLE),))
    for option, given in (("--address", named), ("--content-root", content_root != "auto")):
        if given:
            raise UsageError(f"--root and {option} exclude each other", hint="leave one of them out")


def colour(stream_is_terminal: bool) -> bool:
    """Whether to use colour: only on a terminal, and not if NO_COLOR is set or TERM is dumb."""
    return stream_is_terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


From = Annotated[
    list[str] | None,
    Option(
        "--from",
        group="Sources",
        metavar="namespace|archive:PATH|registry[:IMAGE]",
        help="Source of missing content; repeatable, tried in order. registry:IMAGE asks the repository of this image "
        "first. Default: namespace, registry.",
        show_default=False,
    ),
]
HostsDir = Annotated[
    Path,
    Option(
        "--hosts-dir", group="Sources", metavar="DIR", help="containerd's folder of hosts.toml files for registries."
    ),
]
DockerConfig = Annotated[
    Path | None,
    Option(
        "--docker-config",
        group="Sources",
        metavar="PATH",
        help="Docker's config.json or its folder, for credentials. Default: $DOCKER_CONFIG or ~/.docker.",
        show_default=False,
    ),
]

HOSTS_DIR = Path("/etc/containerd/certs.d")


def require_every(every: str | None, *, jitter: str, listen: str | None) -> None:
    """Refuse the options of repetition without --every. Raises UsageError."""
    for option, given in (("--jitter", jitter != "0s"), ("--listen", listen is not None)):
        if given and every is None:
            raise UsageError(f"{option} needs --every", hint="add --every 6h")
