"""The run of `auditor export`: repair if asked, audit, plan, take a lease, write, report."""

from __future__ import annotations

import fcntl
import os
import secrets
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from auditor.audit import collect
from auditor.checks.evidence import Evidence, NamespaceView
from auditor.checks.rule import at_address, at_root
from auditor.cli import audit
from auditor.cli.choices import Compress, Format
from auditor.cli.connect import export_store
from auditor.cli.options import Common
from auditor.cli.output import print_message
from auditor.cli.progress import progress
from auditor.cli.runs.export_referrers import with_referrers
from auditor.cli.runs.export_refusal import refuse
from auditor.cli.runs.repair import Session
from auditor.cli.sources import Choice
from auditor.containerd.writable_store import WritableContainerdStore
from auditor.errors import AuditorError, NothingExamined, UsageError
from auditor.export.model import ExportPlan, PlannedImage
from auditor.export.names import names_for
from auditor.export.plan import plan
from auditor.export.write import Written, write_archive, write_layout, write_pipe
from auditor.formats.export import Exported, ImageRow, LeftOutRow, PlatformRow
from auditor.formats.sanitize import plain
from auditor.model import platforms, reference
from auditor.model.digest import Digest
from auditor.model.findings import Finding, Verify
from auditor.model.image_graph import Family, Layer
from auditor.model.oci import MAX_DOCUMENT, OCI_LAYER, Descriptor
from auditor.model.platforms import Matcher, Platform
from auditor.model.store import Resource, Store
from auditor.repair.session import RepairOptions

#: Seconds after which the lease expires if the process is killed: longer than an export to a slow disk.
_LEASE = 6 * 3600
#: Label of the diffID that containerd records when it unpacks a layer; core/diff/apply/apply.go.
_UNCOMPRESSED = "containerd.io/uncompressed"


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """The options of an export."""

    images: tuple[str, ...]
    output: Path | None
    layout: Path | None
    platforms: tuple[Platform, ...]
    all_platforms: bool
    all_names: bool
    names: tuple[str, ...]
    flat: bool
    attestations: bool
    referrers: bool
    compress: Compress
    digest: bool
    refetch: bool
    salvage: bool
    sources: Choice


def check(wish: Wish) -> None:
    """Check the options before any call to the daemon.

    Raises:
        UsageError: they contradict each other, or the target cannot be written.

    """
    if (wish.output is None) == (wish.layout is None):
        given = "no target" if wish.output is None else "two targets"
        raise UsageError(f"{given} given", hint="--output FILE, --output - or --layout DIR, one of them")
    if wish.layout is not None and wish.compress is not Compress.NONE:
        raise UsageError("a layout folder is not compressed", hint="--compress goes with --output")
    _check_names(wish)
    if wish.flat and (wish.all_platforms or len(wish.platforms) > 1):
        raise UsageError("--flat writes one platform of each image", hint="name it with --platform, once")
    target = wish.layout or wish.output
    if target is None or str(target) == "-":
        if sys.stdout.isatty():
            raise UsageError("an archive is not for a terminal", hint="redirect it, or name a file with --output")
        if fcntl.fcntl(1, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise UsageError("standard output is closed", hint="redirect it, or name a file with --output")
        return
    if not target.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {target.absolute().parent}", hint="make it first, or write elsewhere")
    if wish.output is not None and target.is_dir():
        raise UsageError(f"{target} is a folder", hint="name a file in it, or use --layout")


def _check_names(wish: Wish) -> None:
    if not wish.names:
        return
    if wish.all_names or len(wish.images) > 1:
        raise UsageError("--name names one image", hint="export one image, without --all-names")
    for name in wish.names:
        if reference.parse(name).digest is not None:
            raise UsageError(f"{name[:200]} has a digest", hint="--name takes host/repository:tag")


def export(wish: Wish, options: Common) -> Exported:
    """Run the export.

    Raises:
        ExportRefused: something is missing or damaged.
        OutputError: the target cannot be written.
        StoreError: the daemon failed.
        NothingExamined: no image matches.

    """
    begun = time.monotonic()
    if wish.refetch and options.root is not None:
        raise UsageError("--refetch writes to a running containerd", hint="leave out --root or --refetch")
    if wish.refetch:
        _refetch(wish, options)
    with _addressed(options), export_store(options) as store:
        evidence, findings = _look(store, wish, options)
        view, planned = _chosen(store, evidence, wish, options)
        here = _present(view) if planned.missing else {}
        refuse(findings, planned, view.name, salvage=wish.salvage, refetch=wish.refetch, present=here)
        with _held(store, view, planned), progress(wanted=options.progress) as meter:
            steps = 1 if str(wish.output) == "-" else 2
            on_bytes = meter.reading(planned.size * steps, "exporting")
            written = _write(planned, store, wish, view.name, on_bytes)
    return _exported(planned, written, wish, view.name, seconds=time.monotonic() - begun)


@contextmanager
def _addressed(options: Common) -> Iterator[None]:
    """Put the address or the root that was given into the commands of an error's hint."""
    try:
        yield
    except AuditorError as error:
        if options.root is not None:
            error.hint = at_root(error.hint, str(options.root), while_running=options.while_running)
        elif options.address:
            error.hint = at_address(error.hint, options.address)
        raise


def _refetch(wish: Wish, options: Common) -> None:
    """Repair the images first, including discarded layers; the plan then reports what could not be repaired.

    Platforms are repaired one by one: one that an image does not offer must not stop the others.
    """
    quiet = msgspec.structs.replace(options, quiet=True)
    for platform in wish.platforms or (None,):
        request = msgspec.structs.replace(
            _request(wish, options, platforms=() if platform is None else (platform,)), layers_wanted=True
        )
        repair_options = RepairOptions(include_discarded=True)
        session = Session(quiet, request, wish.sources, repair_options, Format.TABLE, yes=True, dry_run=False)
        try:
            document = session.run()
        except NothingExamined:
            continue
        for outcome in document.outcomes:
            print_message(plain(f"refetch: {outcome.role} {outcome.digest[:19]} {outcome.result}: {outcome.message}"))


def _request(wish: Wish, options: Common, *, platforms: tuple[Platform, ...]) -> collect.Request:
    return collect.Request(
        verify=Verify.DIGESTS,
        namespaces=options.namespaces,
        images=wish.images,
        platforms=platforms,
        all_platforms=wish.all_platforms,
    )


def _look(store: Store, wish: Wish, options: Common) -> tuple[Evidence, tuple[Finding, ...]]:
    """Audit the images for all platforms; later only findings about blobs of the plan count."""
    request = collect.Request(namespaces=options.namespaces, images=wish.images, all_platforms=True)
    outcome, _ = audit.audited(store, request, options)
    return outcome.evidence, outcome.findings


def _chosen(store: Store, evidence: Evidence, wish: Wish, options: Common) -> tuple[NamespaceView, ExportPlan]:
    """Return the namespace to export from and the plan; prefer a namespace in which nothing is missing."""
    _check_single(evidence, wish)
    plans = [(view, _plan(store, view, evidence, wish, options)) for view in _namespaces(evidence, wish)]
    return next(((view, made) for view, made in plans if not made.missing), plans[0])


def _check_single(evidence: Evidence, wish: Wish) -> None:
    if wish.names and any(len(view.graphs) > 1 for view in evidence.views):
        raise UsageError("IMAGE selects several images, and --name names one", hint="give its full name or digest")


def _namespaces(evidence: Evidence, wish: Wish) -> list[NamespaceView]:
    """Return the namespaces that have all the images. Raises UsageError where none has."""
    having = [view for view in evidence.views if view.graphs]
    targets = {view.name: {graph.group.target.digest for graph in view.graphs} for view in having}
    everything = set().union(*targets.values())
    full = [view for view in having if targets[view.name] == everything]
    if not full:
        known = ", ".join(targets)
        wanted = " ".join(wish.images)
        raise UsageError(
            f"no one namespace has all that {wanted[:200]} means: {known}", hint="name one with -n, and export each"
        )
    return full


def _matchers(wish: Wish, evidence: Evidence) -> tuple[Matcher, Matcher]:
    """Return the platforms to include where they are present, and those that must be present."""
    legacy = evidence.info.containerd_1
    node = platforms.only([evidence.info.platform or platforms.host()], legacy=legacy)
    if wish.all_platforms:
        return platforms.EVERYTHING, node
    chosen = platforms.only(wish.platforms, legacy=legacy) if wish.platforms else node
    return chosen, chosen


def _plan(store: Store, view: NamespaceView, evidence: Evidence, wish: Wish, options: Common) -> ExportPlan:
    wanted, required = _matchers(wish, evidence)
    make = partial(
        plan,
        [graph.group for graph in view.graphs],
        documents=view.documents,
        has=view.has,
        wanted=wanted,
        required=required,
        recorded=lambda digest: view.labels(digest).get(_UNCOMPRESSED),
        names=partial(names_for, asked=wish.images, names=wish.names, all_names=wish.all_names),
        attestations=wish.attestations,
        flat=wish.flat,
        named=bool(wish.platforms),
    )
    made = make()
    if wish.salvage and made.missing:
        made = make(raw=_raw(store, view), twins=_twins(store, view, options))
    return with_referrers(made, store, view) if wish.referrers else made


def _present(view: NamespaceView) -> Mapping[str, tuple[str, ...]]:
    """Return, by name of an image, the platforms of which the namespace has every part."""
    groups = [graph.group for graph in view.graphs]
    nothing = platforms.only([Platform(os="none", architecture="none")])
    made = [plan([group], documents=view.documents, has=view.has, required=nothing) for group in groups]
    return {
        image.name: tuple(sorted(one.platform for one in image.platforms if one.loadable and one.platform))
        for each in made
        for image in each.images
    }


def _raw(store: Store, view: NamespaceView) -> Mapping[Digest, bytes]:
    """Read the documents that a salvage may rewrite; the audit has verified them."""
    wanted = {digest for digest, family in view.documents if family is not Family.CONFIG and view.has(digest)}
    return {digest: store.read(view.name, digest, limit=MAX_DOCUMENT) for digest in wanted & view.named}


def _twins(store: Store, view: NamespaceView, options: Common) -> Mapping[Digest, Descriptor]:
    """Return, by missing layer, a blob of this namespace with the same diffID, of any image."""
    request = collect.Request(namespaces=(view.name,), all_platforms=True)
    whole, _ = audit.audited(store, request, options)
    found = {}
    for layer in _missing_layers(view):
        twin = next((twin for twin in whole.evidence.twins(layer) if view.has(twin)), None)
        if twin is not None:
            size = view.inventory.blobs[twin].size
            found[layer.descriptor.digest] = Descriptor(_layer_type(store, view.name, twin), twin, size)
    return found


def _missing_layers(view: NamespaceView) -> Iterator[Layer]:
    for _, node in view.manifests():
        inside = view.content(node.digest)
        yield from (x for x in (inside.layers if inside is not None else ()) if not view.has(x.descriptor.digest))


def _layer_type(store: Store, namespace: str, digest: Digest) -> str:
    """Return the OCI media type of a layer by its first bytes; a salvage maps it to docker's where needed."""
    with store.stream(namespace, digest) as pieces:
        start = bytes(next(pieces, b"")[:4])
    if start.startswith(b"\x1f\x8b"):
        return f"{OCI_LAYER}+gzip"
    return f"{OCI_LAYER}+zstd" if start == b"\x28\xb5\x2f\xfd" else OCI_LAYER


@contextmanager
def _held(store: Store, view: NamespaceView, planned: ExportPlan) -> Iterator[None]:
    """Protect the blobs from garbage collection by a lease, which expires by itself if the process is killed.

    A stopped daemon collects nothing, so its blobs need no lease.
    """
    if not isinstance(store, WritableContainerdStore):
        yield
        return
    with store.lease(view.name, seconds=_LEASE) as lease:
        for blob in planned.blobs:
            if view.has(blob.digest):
                store.hold(lease, Resource(type="content", id=str(blob.digest)))
        yield


def _write(planned: ExportPlan, store: Store, wish: Wish, namespace: str, on_bytes: object) -> Written:
    tag = f"{os.getpid()}-{secrets.token_hex(4)}"
    callback = on_bytes if callable(on_bytes) else None
    if wish.layout is not None:
        return write_layout(planned, store, wish.layout, namespace=namespace, tag=tag, on_bytes=callback)
    if wish.output is None or str(wish.output) == "-":
        return write_pipe(planned, store, 1, namespace=namespace, compress=wish.compress, on_bytes=callback)
    return write_archive(
        planned,
        store,
        wish.output,
        namespace=namespace,
        tag=tag,
        compress=wish.compress,
        digest=wish.digest or wish.compress is not Compress.NONE,
        on_bytes=callback,
    )


def _exported(planned: ExportPlan, written: Written, wish: Wish, namespace: str, *, seconds: float) -> Exported:
    return Exported(
        path=written.path,
        bytes=written.size,
        digest=str(written.digest) if written.digest is not None else None,
        compression=str(wish.compress),
        namespace=namespace,
        blobs=len(planned.blobs),
        blob_bytes=planned.size,
        images=tuple(map(_image, planned.images)),
        left_out=tuple(
            LeftOutRow(image=x.image, role=str(x.role), platform=x.platform, digest=str(x.digest), why=x.why)
            for x in planned.left_out
        ),
        salvaged=bool(planned.salvaged),
        layers_decompressed=len(planned.unproven) if written.read_back else 0,
        layers_recorded=sum(blob.recorded for blob in planned.blobs),
        duration_seconds=round(seconds, 3),
    )


def _image(image: PlannedImage) -> ImageRow:
    return ImageRow(
        names=image.names,
        target=str(image.target.digest),
        absent=tuple(map(str, image.absent)) if image.indexed else (),
        subject=str(image.subject),
        platforms=tuple(
            PlatformRow(
                platform=p.platform,
                manifest=str(p.manifest),
                config=str(p.config),
                layers=len(p.layers),
                original=str(p.original) if p.original is not None else None,
                replaced_layers=p.replaced,
                attestation=p.attestation,
            )
            for p in image.platforms
        ),
    )
