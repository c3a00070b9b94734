"""The catalog of an archive: images by name, blobs by digest, and contradictions between its documents."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from auditor.archive import dir_folder, docker_manifest, image_names, recognise
from auditor.archive.docker_manifest import MANIFEST_JSON, Entry, Files, link_target
from auditor.archive.image_names import full
from auditor.archive.members import Collector, cleaned
from auditor.archive.problems import ArchiveProblem, shown
from auditor.archive.seen import Seen, claimed
from auditor.checks.archive_faults import DISAGREE, INCOMPLETE, MALFORMED, UNSAFE
from auditor.errors import MalformedDocument
from auditor.model import image_graph, oci
from auditor.model.digest import Digest
from auditor.model.findings import Fact, Severity
from auditor.model.oci import Descriptor, Index, Manifest
from auditor.model.plural import plural
from auditor.model.store import Image

#: The only namespace of an archive.
NAMESPACE: Final = ""
INDEX_JSON: Final = "index.json"
OCI_LAYOUT: Final = "oci-layout"
#: Fact of a contradiction that may be due to documents which the archive lacks: their number.
ABSENT_DOCUMENTS: Final = "absent_documents"
_LAYOUT_VERSION: Final = "1.0.0"
_REFUSED: Final = "`ctr images import`, docker's containerd store and oras refuse it; podman and skopeo load it"


class _LayoutFile(msgspec.Struct):
    image_layout_version: str = msgspec.field(name="imageLayoutVersion", default="")


class Catalog:
    """The catalog of an archive.

    Args:
        collected: the members of the archive.
        complete: the archive was read to its end; otherwise absent members are no problem.

    Attributes:
        problems: those of the members, and those found here.
        images: the images.
        held: by digest, the file of each blob.
        made: by digest, the manifests made for the images of a docker archive.
        documents: the documents that were parsed.
        layout: `oci`, `docker`, `dir`, or empty.

    """

    def __init__(self, collected: Collector, *, complete: bool) -> None:
        self.files = Files(files=collected.files, links=collected.links, empty=collected.empty, packed=collected.packed)
        self.problems = collected.problems
        self.images: tuple[Image, ...] = ()
        self.held: dict[Digest, Seen] = {}
        self.made: dict[Digest, bytes] = {}
        self.documents: dict[image_graph.Key, oci.Document] = {}
        self.layout = ""
        self._complete = complete
        self._early = collected.early
        for name in (*collected.files, *collected.links):
            promise, seen = claimed(name), self.files.find(name)
            if promise is not None and seen is not None:
                self.held[seen.digest if seen.digest == promise else promise] = seen
        self._interpret()

    def blob(self, digest: Digest) -> Seen | None:
        """Return a blob; one that was packed is held from now on."""
        if digest not in self.held and (seen := self.files.blob(digest)) is not None:
            self.held[digest] = seen
        return self.held.get(digest)

    def document(self, descriptor: Descriptor) -> oci.Document | None:
        """Return a document, parsed; None where it is absent, does not match its digest, or is malformed."""
        where, seen = image_graph.key(descriptor), self.blob(descriptor.digest)
        if where is None or seen is None or seen.kept is None or seen.digest != descriptor.digest:
            return None
        if where not in self.documents:
            try:
                self.documents[where] = oci.parse(seen.kept, descriptor.media_type)
            except MalformedDocument:
                return None
        return self.documents[where]

    def _report(self, problem: ArchiveProblem) -> None:
        self.problems.append(problem)

    def _interpret(self) -> None:
        self._check_links()
        if dir_folder.is_dir_folder(self.files.files):
            self._dir_folder()
            return
        index, entries = self._index(), self._entries()
        layout = self._check_layout(index, entries)
        if index is not None:
            self.layout = "oci"
            self.images = tuple(_image(child) for child in index.manifests)
            self._check_index(index)
            self._agree(index, entries)
        elif entries is not None:
            self.layout = "docker"
            self.images = tuple(image for entry in entries for image in self._docker(entry))
        for problem in image_names.problems(index, entries, member=MANIFEST_JSON if index is None else INDEX_JSON):
            self._report(problem)
        if INDEX_JSON not in self.files.files:
            self._lacks_index(layout)

    def _dir_folder(self) -> None:
        self.layout = dir_folder.LAYOUT
        found = dir_folder.read(self.files.files, self._report, complete=self._complete)
        self.held.update(found.held)
        self.images = tuple(Image(namespace=NAMESPACE, name=str(x.digest), target=x) for x in found.targets)

    def _check_links(self) -> None:
        for name in self._early:
            if self.files.find(name) is not None:
                message = f"the hard link {shown(name)} comes before the member that it leads to: unpacking fails there"
                self._report(ArchiveProblem(UNSAFE, message, member=shown(name)))
        for name, target in self.files.links.items():
            if self.files.find(name) is None and self._complete:
                message = f"the link {shown(name)} leads to {shown(target)}, which is no file of the archive"
                symbolic = name not in self._early and link_target(name, target) is not None
                # Of docker's own archives, containerd and docker refuse those with a link to nothing.
                level = Severity.WARNING if symbolic and OCI_LAYOUT in self.files.files else None
                self._report(ArchiveProblem(UNSAFE, message, member=shown(name), level=level))
            elif claimed(name) is not None:
                message = f"the blob {shown(name)} is a link, which oras and skopeo's docker-archive do not follow"
                self._report(ArchiveProblem(UNSAFE, message, member=shown(name), level=Severity.WARNING))

    def _check_layout(self, index: Index | None, entries: tuple[Entry, ...] | None) -> bool:
        """Whether there is an oci-layout; report one that is wrong, or absent beside an index.json.

        OCI image-layout.md, "oci-layout file". Measured on all loaders of docs/export.md.
        """
        seen = self.files.files.get(OCI_LAYOUT)
        version = _layout_version(seen)
        if version == "" and INDEX_JSON in self.files.files and self._complete:
            what = "oci-layout gives no version" if seen else "there is no oci-layout beside index.json"
            self._report(_no_version(what, loads=_same_names(index, entries)))
        elif version not in ("", _LAYOUT_VERSION):
            message = f"oci-layout does not give the version {_LAYOUT_VERSION}: {_REFUSED}"
            self._report(ArchiveProblem(MALFORMED, message, member=OCI_LAYOUT))
        return seen is not None

    def _lacks_index(self, layout: bool) -> None:
        if not self._complete or not (layout or MANIFEST_JSON not in self.files.files):
            return
        what = (
            "there is an oci-layout, but no index.json" if layout else "there is neither index.json nor manifest.json"
        )
        why = _REFUSED if self.made else recognise.by_members(self.files.files) or "importers find no image in it"
        self._report(ArchiveProblem(INCOMPLETE, f"{what}: {why}", member=INDEX_JSON))

    def _index(self) -> Index | None:
        seen = self.files.files.get(INDEX_JSON)
        if seen is None or not seen.whole:
            return None
        try:
            parsed = oci.parse(docker_manifest.text(seen), oci.OCI_INDEX)
        except MalformedDocument as error:
            self._report(docker_manifest.malformed(error, INDEX_JSON))
            return None
        return parsed if isinstance(parsed, Index) else None

    def _check_index(self, index: Index) -> None:
        if not index.manifests and MANIFEST_JSON not in self.files.files and self._complete:
            message = "index.json lists no manifest, and there is no manifest.json: importers find no image in it"
            self._report(ArchiveProblem(INCOMPLETE, message, member=INDEX_JSON))

    def _entries(self) -> tuple[Entry, ...] | None:
        seen = self.files.files.get(MANIFEST_JSON)
        if seen is None or not seen.whole:
            return None
        try:
            return docker_manifest.entries(seen)
        except MalformedDocument as error:
            self._report(docker_manifest.malformed(error, MANIFEST_JSON))
            return None

    def _docker(self, entry: Entry) -> Iterator[Image]:
        made = docker_manifest.virtual(entry, self.files, self._report)
        if made is None:
            return
        self.made[made.target.digest] = made.raw
        for digest, seen in made.held.items():
            self.held.setdefault(digest, seen)
        for name in made.names or (str(made.target.digest),):
            yield Image(namespace=NAMESPACE, name=full(name), target=made.target)

    def _agree(self, index: Index, entries: tuple[Entry, ...] | None) -> None:
        known = _Reached(self, index)
        for entry in entries or ():
            self._present(entry, known.foreign)
            if known.whole:
                for message in known.contradictions(entry, self.files):
                    facts: dict[str, Fact] = {ABSENT_DOCUMENTS: known.absent} if known.absent else {}
                    self._report(ArchiveProblem(DISAGREE, message, member=MANIFEST_JSON, facts=facts))

    def _present(self, entry: Entry, foreign: set[Digest]) -> None:
        """Report absent files that manifest.json names: index.json may be sparse, manifest.json may not.

        Nondistributable layers may be absent: `ctr images export --skip-non-distributable` names them too.
        """
        absent = [name for name in entry.paths if self.files.find(name) is None]
        absent = [name for name in absent if claimed(cleaned(name) or "") not in foreign]
        if absent and self._complete:
            whose = f"of {', '.join(entry.repo_tags)}" if entry.repo_tags else "of an image without a name"
            message = (
                f"manifest.json names {plural(len(absent), 'file')} {whose} not in the archive: {shown(absent[0])}"
            )
            message += " and others" if len(absent) > 1 else ""
            facts = {"absent": len(absent), "named": len(entry.paths)}
            self._report(ArchiveProblem(INCOMPLETE, message, member=MANIFEST_JSON, facts=facts))


def _layout_version(seen: Seen | None) -> str | None:
    """Return the version in an oci-layout; empty without one, None where it is not JSON."""
    if seen is None:
        return ""
    try:
        return msgspec.json.decode(seen.kept or b"", type=_LayoutFile).image_layout_version
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _same_names(index: Index | None, entries: tuple[Entry, ...] | None) -> bool:
    """Whether manifest.json gives every name that index.json gives."""
    tags = {full(tag) for entry in entries or () for tag in entry.repo_tags or ()}
    return bool(tags) and index is not None and all(full(image_names.key(x)) in tags for x in index.manifests)


def _no_version(what: str, *, loads: bool) -> ArchiveProblem:
    """Return the problem of a layout without a version: an error unless importers load the same from manifest.json."""
    if loads:
        message = f"{what}: importers load what manifest.json names, under other digests; oras refuses it"
        return ArchiveProblem(INCOMPLETE, message, member=OCI_LAYOUT, level=Severity.WARNING)
    message = f"{what}: `ctr images import`, `docker load` and oras refuse it; podman and skopeo load it"
    return ArchiveProblem(INCOMPLETE, message, member=OCI_LAYOUT)


class _Reached:
    """The image manifests that index.json leads to, as far as they are in the archive.

    `whole`: each of the documents was readable, so a manifest that was not found is not in the archive. `absent` counts
    the documents that are not there.
    """

    def __init__(self, catalog: Catalog, index: Index) -> None:
        self.catalog = catalog
        self.whole = True
        self.absent = 0
        self.manifests: dict[Digest, set[tuple[Digest, ...]]] = {}
        self.by_name: dict[str, set[Digest]] = {}
        self.foreign: set[Digest] = set()
        for child in index.manifests:
            self.by_name.setdefault(_image(child).name, set()).update(self._configs(child))

    def _configs(self, top: Descriptor) -> Iterator[Digest]:
        """Yield the digests of the configs below a descriptor; an index that occurs twice is read once."""
        waiting, seen = [top], set()
        while waiting:
            descriptor = waiting.pop()
            document = self.catalog.document(descriptor)
            if isinstance(document, Index) and descriptor.digest not in seen:
                seen.add(descriptor.digest)
                waiting += document.manifests
            elif isinstance(document, Manifest):
                yield self._config(document)
            elif not isinstance(document, Index):
                self._unread(descriptor)

    def _config(self, manifest: Manifest) -> Digest:
        layers = tuple(layer.digest for layer in manifest.layers)
        self.foreign.update(layer.digest for layer in manifest.layers if oci.is_foreign(layer.media_type))
        self.manifests.setdefault(manifest.config.digest, set()).add(layers)
        return manifest.config.digest

    def _unread(self, descriptor: Descriptor) -> None:
        if image_graph.family(descriptor.media_type) is not None:
            held = descriptor.digest in self.catalog.held
            self.whole = self.whole and not held
            self.absent += not held

    def contradictions(self, entry: Entry, files: Files) -> Iterator[str]:
        """Yield a sentence for each contradiction between an entry of manifest.json and index.json."""
        config, *layers = [_digest(name, files) for name in entry.paths]
        if config is None or None in layers:
            return
        if config not in self.manifests:
            yield f"manifest.json names the config {shown(entry.config)}, to which index.json does not lead"
        elif tuple(layers) not in self.manifests[config]:
            yield f"manifest.json gives the config {shown(entry.config)} other layers than its manifest does"
        for tag in entry.repo_tags or ():
            named = self.by_name.get(full(tag))
            if named and config not in named:
                yield f"{shown(tag)} is one image in manifest.json and another in index.json"


def _digest(name: str, files: Files) -> Digest | None:
    seen = files.find(name)
    return claimed(cleaned(name) or "") or (seen.digest if seen is not None else None)


def _image(descriptor: Descriptor) -> Image:
    """Return the image record that an import would create for a descriptor in index.json."""
    return Image(namespace=NAMESPACE, name=image_names.key(descriptor), target=descriptor)
