"""`auditor export`: write an archive and verify it, or write none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from auditor.cli import options as o
from auditor.cli.arguments import Argument, Option
from auditor.cli.choices import Compress, Format

EXAMPLES = """\
auditor export docker.io/library/nginx:1.27 -o nginx.tar
auditor export app:1 db:2 --compress zstd -o images.tar.zst
auditor export app:1 --all-platforms --layout app/
auditor export app:1 --refetch --name app:export -o app.tar"""

Images = Annotated[list[str], Argument(metavar="IMAGE", help="Names, digests or ids.")]
Target = Annotated[
    Path | None,
    Option(
        "--output", "-o", metavar="FILE", help="The archive to write; - writes to standard output.", show_default=False
    ),
]
Layout = Annotated[
    Path | None,
    Option("--layout", metavar="DIR", help="Write an OCI layout folder instead of a file.", show_default=False),
]


def export(
    images: Images,
    output: Target = None,
    layout: Layout = None,
    platform: o.Platforms = None,
    all_platforms: o.AllPlatforms = False,
    name: Annotated[
        list[str] | None,
        Option("--name", metavar="NAME", help="Name of the image in the archive, in place of IMAGE; repeatable."),
    ] = None,
    all_names: Annotated[
        bool, Option("--all-names", help="Include all names that the store has for the images, not only IMAGE.")
    ] = False,
    flat: Annotated[
        bool, Option("--flat", help="Write the manifest of one platform without the index above it.")
    ] = False,
    no_attestations: Annotated[
        bool, Option("--no-attestations", help="Leave out SBOM and provenance with --all-platforms.")
    ] = False,
    referrers: Annotated[
        bool, Option("--referrers", help="Include what the store has that refers to the images: signatures, SBOM.")
    ] = False,
    compress: Annotated[Compress, Option("--compress", help="Compression of the archive.")] = Compress.NONE,
    digest: Annotated[
        bool,
        Option(
            "--digest/--no-digest",
            help="Print the sha256 of the file; without it, an uncompressed archive takes a quarter less time.",
        ),
    ] = True,
    refetch: Annotated[
        bool, Option("--refetch", help="Repair missing content first; this writes to the store.")
    ] = False,
    salvage: Annotated[
        bool,
        Option(
            "--salvage", help="Replace layers that no source has by blobs with the same diffID; rewrites manifests."
        ),
    ] = False,
    sources: o.From = None,
    hosts_dir: o.HostsDir = o.HOSTS_DIR,
    docker_config: o.DockerConfig = None,
    address: o.Address = None,
    root: o.Root = None,
    while_running: o.WhileRunning = False,
    namespace: o.Namespaces = None,
    output_format: o.PlainFormats = Format.TABLE,
    quiet: o.Quiet = False,
    verbose: o.Verbose = False,
    no_progress: o.NoProgress = False,
    timeout: o.Timeout = 30.0,
    content_root: o.ContentRoot = "auto",
) -> int:
    """Write an archive for ctr, docker, podman and skopeo; hash every byte and read the archive back.

    Exit status: 0 written; 1 content is missing or damaged, nothing was written; 2 invalid usage; 3 the store could not
    be read or the archive not be written.
    """
    from auditor.cli import connect
    from auditor.cli.output import deliver, print_message, refuse_below
    from auditor.cli.runs import export as run
    from auditor.cli.sources import choice
    from auditor.formats import export as formats

    common = o.common(
        address=address,
        namespaces=namespace,
        output=None,
        quiet=quiet,
        verbose=verbose,
        no_progress=no_progress,
        timeout=timeout,
        content_root=content_root,
        root=root,
        while_running=while_running,
    )
    wish = run.Wish(
        images=tuple(images),
        output=output,
        layout=layout,
        platforms=connect.wanted_platforms(platform),
        all_platforms=all_platforms,
        all_names=all_names,
        names=tuple(name or ()),
        flat=flat,
        attestations=not no_attestations,
        referrers=referrers,
        compress=compress,
        digest=digest,
        refetch=refetch,
        salvage=salvage,
        sources=choice(sources, hosts_dir=hosts_dir, docker_config=docker_config),
    )
    run.check(wish)
    refuse_below(root, output, layout)
    done = run.export(wish, common)
    text = formats.as_json(done) if output_format is Format.JSON else formats.as_text(done)
    if str(output) == "-":
        print_message(text.rstrip())
    elif not quiet:
        deliver(text, None)
    return 0
