"""Read names of images from what other programs kept: databases, reports, logs, pods, lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from auditor.bbolt import pages
from auditor.bbolt.database_file import Copy
from auditor.errors import AuditorError, InvalidDigest
from auditor.formats import json_report
from auditor.model import reference
from auditor.model.digest import Digest
from auditor.model.oci import Descriptor
from auditor.model.store import Image, Labels
from auditor.offline import metadata

_ID: Final = r"sha256:[0-9a-f]{64}"
#: containerd's log quotes names, and a log of logs escapes the quotes.
_QUOTE: Final = r"[\\\"]+"
_NAME: Final = r"([^\s\"\\]+)"
#: CRI's message at the end of a pull; containerd internal/cri/instrument/instrumented_service.go `PullImage`.
_RETURNS: Final = re.compile(rf"PullImage {_QUOTE}{_NAME}{_QUOTE} returns image reference {_QUOTE}({_ID})")
#: From 1.7 on, with the digest of the target; containerd internal/cri/server/images/image_pull.go `PullImage`.
_PULLED: Final = re.compile(
    rf"Pulled image {_QUOTE}{_NAME}{_QUOTE} with image id .{{0,1000}}?repo digest {_QUOTE}{_NAME}"
)
#: A container's status in a pod as YAML: `kubectl` sorts the keys.
_STATUS: Final = re.compile(
    r"^[ \t-]*image:[ \t]*[\"']?([^\s\"']+)[\"']?[ \t]*\r?\n[ \t]*imageID:[ \t]*[\"']?([^\s\"']+)", re.MULTILINE
)
#: The deepest nesting of a JSON document that is searched.
_DEEPEST: Final = 100
#: Namespace of the images that Kubernetes uses.
CRI: Final = "k8s.io"


class NameHint(msgspec.Struct, frozen=True, kw_only=True):
    """A name of an image, as one source states it.

    Attributes:
        name: The name of the image record.
        digest: Digest of the image's target, of one of its manifests, or of its config.
        source: Where the name was found, for people.
        namespace: Empty where the source does not tell it.
        target: The target of the image record, where the source is a database.
        labels: The labels of the image record, where the source is a database.
        possible: Found on a page that no tree refers to; the record may have been changed or removed since.
        ordered: The source tells which statement about a name is the last one, and it comes first.

    """

    name: str
    digest: Digest
    source: str
    namespace: str = ""
    target: Descriptor | None = None
    labels: Labels = {}
    possible: bool = False
    ordered: bool = False


def read_names(data: bytes, source: str) -> tuple[NameHint, ...]:
    """Return the names that a file states, those that count first.

    Args:
        data: A containerd database, a JSON report of this program, `kubectl get pods` or `get nodes` as JSON or YAML,
            `crictl images` as JSON, a log of containerd, or lines `NAME DIGEST`.
        source: Its name, for people.

    """
    if pages.metas(data):
        return tuple(_of_database(data, source))
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return tuple(_of_text(data.decode("utf-8", "replace"), source))
    if isinstance(document, dict) and str(document.get("schema", "")).startswith("containerd-auditor/report/"):
        return tuple(_of_report(data, source))
    return tuple(_of_json(document, source, depth=0))


def of_image(image: Image, source: str, *, possible: bool = False) -> NameHint:
    """Return the name of an image record of a database."""
    return NameHint(
        name=image.name,
        digest=image.target.digest,
        source=source,
        namespace=image.namespace,
        target=image.target,
        labels=image.labels,
        possible=possible,
    )


def _of_database(data: bytes, source: str) -> Iterator[NameHint]:
    found = metadata.read(Copy(bytearray(data)), Path(source))
    for records in found.records:
        yield from (of_image(image, source) for image in records.images)


def _of_report(data: bytes, source: str) -> Iterator[NameHint]:
    try:
        report = json_report.load(data, name=source)
    except AuditorError:
        return
    for image in report.images:
        for name in image.names:
            yield from _hint(name, image.target, source, namespace=image.namespace, any_name=True)


def _of_json(value: Any, source: str, *, depth: int) -> Iterator[NameHint]:  # noqa: ANN401 - any JSON
    """Search a JSON document for containers' statuses, and for the images of a node and of crictl."""
    if depth > _DEEPEST:
        return
    if isinstance(value, dict):
        yield from _of_object(value, source)
        for inside in value.values():
            yield from _of_json(inside, source, depth=depth + 1)
    elif isinstance(value, list):
        for inside in value:
            yield from _of_json(inside, source, depth=depth + 1)


def _of_object(value: dict[str, Any], source: str) -> Iterator[NameHint]:
    if "imageID" in value and "image" in value:
        yield from _status(str(value["image"]), str(value["imageID"]), source)
    elif "sizeBytes" in value and isinstance(value.get("names"), list):
        yield from _same(value["names"], source)
    elif "repoTags" in value or "repoDigests" in value:
        names = [name for key in ("repoDigests", "repoTags") for name in value.get(key) or ()]
        yield from _same(names, source)


def _same(names: Iterable[object], source: str) -> Iterator[NameHint]:
    """Return the names of one image of which one has the digest."""
    texts = [str(name) for name in names]
    digest = next((found.digest for text in texts if (found := reference.find(text)) and found.digest), None)
    for text in texts if digest is not None else ():
        yield from _hint(text, str(digest), source)


def _of_text(text: str, source: str) -> Iterator[NameHint]:
    """Search a log, YAML or a list; of a log, the last pull of a name counts."""
    found = [hint for line in text.splitlines() for hint in _of_line(line, source)]
    yield from (msgspec.structs.replace(hint, ordered=True) for hint in reversed(found))
    for match in _STATUS.finditer(text):
        yield from _status(match[1], match[2], source)


def _of_line(line: str, source: str) -> Iterator[NameHint]:
    if "sha" not in line:
        return
    if (match := _RETURNS.search(line)) is not None:
        yield from _hint(match[1], match[2], source)
    if (match := _PULLED.search(line)) is not None:
        yield from _status(match[1], match[2], source)
    words = line.split()
    # `NAME DIGEST`, or a line of `ctr images list`: name, media type, digest.
    at = 2 if len(words) > 2 and words[1].startswith("application/") else 1  # noqa: PLR2004 - the third column
    if len(words) > at and not line.startswith("#"):
        yield from _hint(words[0], words[at], source, namespace=None)


def _status(name: str, image_id: str, source: str) -> Iterator[NameHint]:
    """Return the names in a pair of name and id; the id may be a name with a digest."""
    place = image_id.rpartition("://")[2]
    digest = place.rpartition("@")[2]
    yield from _hint(name, digest, source)
    if "@" in place:
        yield from _hint(place, digest, source)


def _hint(
    name: str, digest: str, source: str, *, namespace: str | None = CRI, any_name: bool = False
) -> Iterator[NameHint]:
    """Return the hint in a name and a digest, or nothing where they are not; Kubernetes' names are in full form."""
    try:
        parsed = Digest.parse(digest)
    except InvalidDigest:
        return
    full = reference.find(name)
    if full is None and not any_name:
        return
    known = name if any_name or full is None else str(full)
    yield NameHint(name=known, digest=parsed, source=source, namespace=namespace or "")
