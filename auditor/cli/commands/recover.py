"""`auditor recover`: bring the images of a containerd with a damaged or lost database elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from auditor.cli import options as o
from auditor.cli.arguments import Option
from auditor.cli.choices import Format

EXAMPLES = """\
auditor recover --root /mnt/disk --dry-run
auditor recover --root /mnt/disk -o images/
auditor recover --root /mnt/disk --into /run/containerd/containerd.sock"""


def recover(
    root: Annotated[
        Path,
        Option(
            "--root",
            metavar="DIR",
            help="Root of a stopped containerd, or the mount point of its disk. Writes nothing there.",
        ),
    ],
    names: Annotated[
        list[Path] | None,
        Option(
            "--names",
            metavar="FILE|-",
            help="Names of images: a copy of meta.db, a JSON report, kubectl get pods -o yaml|json, a containerd log, "
            "lines NAME DIGEST; repeatable, the first that knows a name counts.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        Option(
            "--output",
            "-o",
            metavar="FILE|FOLDER",
            help="Write a verified archive (.tar, .tar.gz, .tar.zst) or a layout folder for each namespace and each "
            "1,000 images.",
            show_default=False,
        ),
    ] = None,
    into: Annotated[
        str | None,
        Option("--into", metavar="SOCKET", help="Write the images into this running containerd.", show_default=False),
    ] = None,
    meta_db: Annotated[
        Path | None,
        Option(
            "--meta-db",
            metavar="FILE",
            help="Write a sound copy of meta.db, if its records are whole and agree with the blobs.",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="List the images and write nothing.")] = False,
    namespace: Annotated[
        str, Option("--namespace", "-n", metavar="NAMESPACE", help="Namespace of images whose source names none.")
    ] = "k8s.io",
    output_format: o.PlainFormats = Format.TABLE,
    quiet: o.Quiet = False,
    no_progress: o.NoProgress = False,
    timeout: o.Timeout = 30.0,
) -> int:
    """Recover the images of a stopped containerd whose database is damaged or lost.

    Images are found by the database, and among the blobs without it. Each is listed with its name, the source and
    certainty of the name, and its state; an image without a name gets one below recovered.invalid. Every byte is
    verified before it is written.

    Exit status: 0 every image was recovered; 1 some are damaged or were not written; 2 invalid usage; 3 the disk could
    not be read or the target not be written.
    """
    from auditor.cli.output import deliver
    from auditor.cli.runs import recover as run
    from auditor.formats import recover as formats

    wish = run.Wish(
        root=root,
        names=tuple(names or ()),
        namespace=namespace,
        output=output,
        into=into,
        meta_db=meta_db,
        dry_run=dry_run,
    )
    run.check(wish)
    common = o.Common(quiet=quiet, progress=not (no_progress or quiet), timeout=timeout, root=root)
    done = run.copy_database(wish) if meta_db is not None else run.recover(wish, common)
    status = run.exit_status(done)
    if not (quiet and status == 0):
        deliver(formats.as_json(done) if output_format is Format.JSON else formats.as_text(done), None)
    return status
